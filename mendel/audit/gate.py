"""Specs that were audited once are not audited again; those that fail are not trained."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import platform
from pathlib import Path

import torch

from mendel.audit.auditor import Profile
from mendel.audit.claims import Claims
from mendel.audit.examine import check
from mendel.audit.report import AuditReport
from mendel.blobs import write_atomically
from mendel.ledger import home
from mendel.model import resolved
from mendel.parts.part import Kind, resolve
from mendel.spec import ModelSpec, PartSpec
from mendel.types import InputError, digest

SEQUENCES = ("lm",)  # heads that answer at each position
VOCAB, MAX_LAYERS = 64, 2  # an audit needs no more words, and each kind of layer once or twice


class UnsoundError(InputError):
    """A design that failed its audit. Nothing was trained."""


def check_spec(
    spec: ModelSpec,
    claims: Claims | None = None,
    *,
    profile: Profile = "quick",
    cache: Path | None = None,
) -> AuditReport:
    """Audit a spec's parts, on a model of its width with few words and layers; cached on disk.

    cache    folder; None = audits/ in mendel's home. Equal specs share an entry: names and
             defaults are resolved first, and depth and vocabulary do not count beyond the above
    raises   SpecError for a spec that cannot be built
    """
    small = reduced(spec)
    claims = claims or Claims()
    file = report_file(spec, claims, profile=profile, cache=cache)
    if file.is_file():
        try:
            return AuditReport.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            file.unlink(missing_ok=True)  # half a file or another version's
    report = check(small, claims=claims, profile=profile)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(report.to_dict()).encode("utf-8"))
    return report


def report_file(
    spec: ModelSpec,
    claims: Claims | None = None,
    *,
    profile: Profile = "quick",
    cache: Path | None = None,
) -> Path:
    """Where `check_spec` keeps its report; there is a file where a spec was audited before."""
    key = _key(reduced(spec), claims or Claims(), profile)
    return (cache or home() / "audits") / f"{key}.json"


def require_sound(spec: ModelSpec) -> AuditReport:
    """The gate before training; raises UnsoundError that names the first finding."""
    report = check_spec(spec)
    if report.errors:
        first = report.errors[0]
        raise UnsoundError(
            f"the design fails its audit: {first.check}: {first.what}. {first.cause}. Nothing was "
            "trained. `mendel audit` on the spec shows all of it."
        )
    if report.undecided:
        raise UnsoundError(
            f"the design's audit could not decide {', '.join(report.undecided)}: "
            f"{report.notes[-1]}. Nothing was trained."
        )
    return report


def reduced(spec: ModelSpec) -> ModelSpec:
    """The same parts at the same width, with few words and every kind of layer."""
    spec = resolved(spec)
    # a label a text is no sequence; what lies below the head is
    head = spec.head if spec.head.part in SEQUENCES else PartSpec(part="lm")
    n_kinds = max(len(spec.mixers), len(spec.channels))
    return spec.model_copy(
        update={
            "head": head,
            "tied": spec.tied and head.part == "lm",
            "vocab": min(spec.vocab or VOCAB, VOCAB),
            "n_layers": min(spec.n_layers, max(n_kinds, MAX_LAYERS)),
        }
    )


def _key(spec: ModelSpec, claims: Claims, profile: Profile) -> str:
    versions = [str(torch.__version__), platform.machine(), _code(), *_plugins(spec)]
    return digest([spec.to_dict(), claims.to_dict(), profile, versions])


@functools.cache
def _code() -> str:
    """Of what builds and what judges: another version audits anew."""
    root = Path(__file__).parents[1]
    files = [*root.glob("audit/**/*.py"), *root.glob("parts/*.py"), root / "model.py"]
    return _digest_of(sorted(files))


def _plugins(spec: ModelSpec) -> list[str]:
    """The text of parts that are not mendel's own."""
    named: list[tuple[Kind, PartSpec]] = [
        ("embedding", spec.embedding), ("norm", spec.norm), ("head", spec.head),
        *(("mixer", part) for part in spec.mixers), *(("channel", part) for part in spec.channels),
    ]  # fmt: skip
    classes = {resolve(kind, part)[0] for kind, part in named}
    files = {inspect.getsourcefile(c) for c in classes if not c.__module__.startswith("mendel.")}
    return [_digest_of(sorted(Path(f) for f in files if f))] if files else []


def _digest_of(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

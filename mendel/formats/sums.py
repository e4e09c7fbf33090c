"""SHA256SUMS beside a model's files, as `sha256sum -c SHA256SUMS` reads it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mendel.types import InputError

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Of every file that lies there now."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS)
    lines = [f"{_sum(file)}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> int:
    """Read every file that the sums name, and compare; returns how many.

    A folder without sums has nothing to compare, and files that were taken out are no concern.

    raises   InputError for a file that is not the one that was saved
    cost     about a second for each gigabyte
    """
    if not (folder / SUMS).is_file():
        return 0
    n = 0
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  ([^/\\\0]+)", line)
        if found is None:
            raise InputError(
                f"{folder / SUMS} has a line that is no sum: {line[:80]!r}. Wanted what "
                "`sha256sum` writes. Save or fetch the model again."
            )
        file = folder / found[2]
        if not file.is_file():
            continue
        if _sum(file) != found[1]:
            raise InputError(
                f"{file} is not the file that was saved: its sha256 is another than {SUMS} says. "
                "It was damaged, edited, or a save was interrupted. Save or fetch the model again; "
                f"if you changed it yourself, delete {SUMS}."
            )
        n += 1
    return n


def _sum(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

"""From the bytes of a file to text, whatever encoding it is in."""

from __future__ import annotations

import codecs
import difflib
import re
from pathlib import Path

from mendel.data.faults import Log
from mendel.types import InputError

CONTROL_BYTES = bytes({*range(32)} - {*b"\t\n\r\f"})
HIGH_BYTES = bytes(range(128, 256))
MAGIC = {
    b"PK\x03\x04": "a zip or Excel file: save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save the sheet as CSV",
    b"\x1f\x8b": "a gzip file: unpack it by gunzip",
    b"BZh": "a bzip2 file: unpack it by bunzip2",
    b"\xfd7zXZ": "an xz file: unpack it by unxz",
    b"\x28\xb5\x2f\xfd": "a zstandard file: unpack it by unzstd",
    b"%PDF": "a PDF: copy the examples into a CSV file",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
}


def read_bytes(path: Path) -> bytes:
    """The content of a file; InputError, with the nearest name, where there is none."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        do = "Check the path."
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():
            others = [other.name for other in path.parent.iterdir()]
            near = difflib.get_close_matches(path.name, others, 1)
            do = f"Did you mean {near[0]}?" if near else do
        elif isinstance(error, PermissionError):
            do = f"Get the right to read it: chmod u+r {path.name}."
        elif isinstance(error, IsADirectoryError):
            do = (
                "Name a file in it; a folder is read if it has seq.in with seq.out or label, or "
                "is a data set that save_to_disk wrote; for documents to search, say "
                "--kind retrieve."
            )
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {why}. Wanted a CSV or JSON lines file. {do}") from None


def decoded(path: Path, content: bytes, log: Log) -> str:
    """Text of UTF-8, UTF-16 with its mark, or Windows-1252.

    log      damaged or guessed encodings are added to it
    raises   InputError for what is no text, and for what has nothing in it but white space
    """
    for magic, hint in MAGIC.items():
        if content.startswith(magic):
            raise InputError(f"{path.name} is not text. Got {hint}. Wanted CSV or JSON lines.")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = _guessed(content, log)
    if "\0" in text:
        raise InputError(
            f"{path.name} is not text, or in an unknown encoding. Got bytes that no text in UTF-8 "
            "has. Wanted CSV or JSON lines. Export it as such, or: iconv -f ENCODING -t UTF-8."
        )
    if not text.strip():
        raise InputError(f"{path.name} is empty. Wanted a header and rows. Give another file.")
    return text


def lines_of(content: str) -> list[str]:
    """Lines without their ends, whichever system wrote them; the last is not an empty one."""
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def _guessed(content: bytes, log: Log) -> str:
    """Text of bytes that are not UTF-8; a NUL where they are no text at all."""
    text = content.decode("utf-8-sig", "replace")
    n_damaged = text.count("\ufffd")
    if n_damaged < sum(map(len, re.findall("[^\0-\x7f]+", text))) / 2:
        log.seen["damaged-utf8"] = [0] * n_damaged
        return text
    n_control = len(content) - len(content.translate(None, CONTROL_BYTES))
    n_high = len(content) - len(content.translate(None, HIGH_BYTES))
    log.add("encoding")
    is_text = n_control < 0.03 * len(content) and n_high < 0.4 * len(content)
    return content.decode("cp1252", "replace") if is_text else "\0"

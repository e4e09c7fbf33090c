"""From bytes to a table, with every fault that is mended on the way.

    bytes --decode--> str --split--> Table

What cannot be read is an InputError; what can be mended is mended and counted as a Fault.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mendel.types import InputError

MAX_CHARS = 20_000  # of one text
TEXT_NAMES = ["text", "message", "utterance", "sentence", "query", "question", "content", "body"]
LABEL_NAMES = ["label", "category", "intent", "class", "target", "tag"]
KNOWN = {*TEXT_NAMES, *LABEL_NAMES, "provenance"}
CONTROL_BYTES = bytes({*range(32)} - {*b"\t\n\r\f"})
HIGH_BYTES = bytes(range(128, 256))
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
NO_DELIMITER = "\x1f"  # one column
MAGIC = {
    b"PK\x03\x04": "a zip or Excel file: save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save the sheet as CSV",
    b"PAR1": "a parquet file: convert it to CSV or JSON lines (pandas, duckdb)",
    b"\x1f\x8b": "a gzip file: unpack it by gunzip",
    b"BZh": "a bzip2 file: unpack it by bunzip2",
    b"\xfd7zXZ": "an xz file: unpack it by unxz",
    b"\x28\xb5\x2f\xfd": "a zstandard file: unpack it by unzstd",
    b"%PDF": "a PDF: copy the examples into a CSV file",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
}
NOTES = {  # every soft fault, and what was done about it
    "encoding": "not UTF-8: read as Windows-1252, look at the accents",
    "damaged-utf8": "bytes that are not UTF-8: each replaced by \ufffd",
    "stray-quote": "quotes that do not pair up: taken as they stand",
    "ragged-row": "more or fewer fields than columns: skipped",
    "invalid-json": "not a JSON object: skipped",
    "empty": "text or label empty, null or not a plain value: skipped",
    "control-character": "control characters: each replaced by a space",
    "long-text": f"longer than {MAX_CHARS:,} characters: cut",
    "label-space": "spare white space in the label: removed",
    "label-case": "label differs from another only by case: kept as a class of its own",
    "single-row-class": "the only row of its class, which cannot be split: skipped",
    "duplicate": "text and label of an earlier row: kept",
    "conflict": "the same text has another label elsewhere: kept",
}


@dataclass(frozen=True)
class Fault:
    """One kind of soft fault: how often, where, and what was done about it."""

    kind: str
    count: int
    rows: tuple[int, ...]  # the first 5: data rows from 1, of JSON lines the line numbers
    note: str


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: Sequence[Any]  # of a delimited file lists of str, of JSON lines dicts
    numbers: Sequence[int]

    def values(self, column: str, step: int = 1) -> Iterable[Any]:
        if isinstance(self.rows[0], dict):
            return (row.get(column) for row in self.rows[::step])
        at = self.columns.index(column)
        return (row[at] for row in self.rows[::step])


class Log:
    """Soft faults as they are met; row 0 means the file as a whole."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)

    def add(self, kind: str, row: int = 0) -> None:
        self.seen[kind].append(row)

    def faults(self) -> tuple[Fault, ...]:
        return tuple(
            Fault(kind, len(self.seen[kind]), tuple(filter(None, self.seen[kind][:5])), note)
            for kind, note in NOTES.items()
            if kind in self.seen
        )


def read_table(path: Path, wanted: set[str], labelled: bool, log: Log) -> Table:
    """The cells of a file as they stand, one row or more.

    wanted     columns that the user named, which make a first row a header
    labelled   False = there may be one column only
    log        what was mended is added to it
    raises     InputError when the file cannot be read, or no row is left
    """
    content = _decoded(path, _bytes(path), log)
    if _is_json_lines(path, content):
        table = _json_lines(content, log)
    else:
        table = _delimited(path, content, wanted, labelled, log)
    if not (table.rows and table.columns):
        raise no_rows(path, log)
    return table


def as_error(faults: Sequence[Fault]) -> InputError:
    """What --strict says: every soft fault, with the first rows of each."""
    return InputError(
        f"the file has faults, and --strict accepts none. Got {_listed(faults)}. "
        "Wanted a file without any. Mend these rows, or leave out --strict to go on as noted."
    )


def _listed(faults: Sequence[Fault]) -> str:
    parts = []
    for fault in faults:
        where = f" (rows {', '.join(map(str, fault.rows))})" if fault.rows else ""
        parts.append(f"{fault.count:,} x {fault.kind}{where}, {fault.note}")
    return "; ".join(parts)


def no_rows(path: Path, log: Log) -> InputError:
    return InputError(
        f"{path.name} has no row to learn from. Got {_listed(log.faults()) or 'a header only'}. "
        "Wanted a header and rows with a text and a label, or one JSON object a line (of a JSON "
        "array: jq -c '.[]' FILE). Mend the file, or name its columns by --text-column and "
        "--label-column."
    )


def _bytes(path: Path) -> bytes:
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
            do = "Name a file in it."
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {why}. Wanted a CSV or JSON lines file. {do}") from None


def _decoded(path: Path, content: bytes, log: Log) -> str:
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


def _is_json_lines(path: Path, content: str) -> bool:
    line = content.lstrip().split("\n", 1)[0]
    by_content = line.startswith("{") and _object(line) is not None
    return by_content or path.suffix.lower() in JSON_SUFFIXES


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_lines(content: str, log: Log) -> Table:
    found = {}
    for number, line in enumerate(content.split("\n"), 1):
        if (row := _object(line)) is not None:
            found[number] = row
        elif line.strip():
            log.add("invalid-json", number)
    rows = [*found.values()]
    return Table(tuple(dict.fromkeys(key for row in rows for key in row)), rows, [*found])


def _delimited(path: Path, content: str, wanted: set[str], labelled: bool, log: Log) -> Table:
    rows = _records(content, _delimiter(path, content, wanted, labelled), log)
    header = _header(rows, wanted)
    width = len(header) or Counter(map(len, rows)).most_common(1)[0][0]
    found = {}
    for number, row in enumerate(rows[bool(header) :], 1):
        if len(row) == width:
            found[number] = row
        else:
            log.add("ragged-row", number)
    names = [name.strip() for name in header] or [""] * width
    columns = tuple(name or f"column {i}" for i, name in enumerate(names, 1))
    return Table(columns, [*found.values()], [*found])


def _delimiter(path: Path, content: str, wanted: set[str], labelled: bool) -> str:
    """The one whose header has most known names, then whose rows are most alike in width."""
    best, best_score = NO_DELIMITER, (0, 0.0 if labelled else 0.5, False)
    is_list = path.suffix == ".txt" and not labelled
    for delimiter in "" if is_list else "\t,;|":  # of equals the first: tabs are rare in texts
        head = csv.reader(io.StringIO(content[:60_000], newline=""), delimiter=delimiter)
        rows = [row for row in islice(head, 200) if row]
        rows = rows[:-1] if len(rows) > 1 and len(content) > 60_000 else rows  # the last is cut
        if rows and len(rows[0]) > 1:
            n_known = sum(folded(name) in KNOWN or name in wanted for name in rows[0])
            alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            score = (n_known, alike, delimiter == "\t" and path.suffix == ".tsv")
            best, best_score = max((best, best_score), (delimiter, score), key=lambda s: s[1])
    return best


def _records(content: str, delimiter: str, log: Log) -> list[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # one for the whole process

    def read(quoting: Literal[0, 3], strict: bool) -> list[list[str]]:
        lines = io.StringIO(content, newline="")
        rows = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=strict)
        return [row for row in rows if row]

    try:
        return read(csv.QUOTE_MINIMAL, True)
    except csv.Error:
        log.add("stray-quote")
        ways = [read(csv.QUOTE_MINIMAL, False), read(csv.QUOTE_NONE, False)]
        return max(ways, key=lambda rows: sum(len(row) == len(rows[0]) for row in rows))


def _header(rows: list[list[str]], wanted: set[str]) -> list[str]:
    """The first row, where it names columns; none where it looks like the rows below it."""
    first = rows[0]
    if any(folded(name) in KNOWN or name in wanted for name in first):
        return first
    below = [{row[i] for row in rows[1:] if i < len(row)} for i in range(len(first))]
    is_data = any(
        name in same or name.count(" ") > 3 or name.endswith((".", "?", "!")) or _is_number(name)
        for name, same in zip(first, below, strict=True)
    )
    return [] if is_data or len(first) == 1 else first


def folded(name: str) -> str:
    return name.strip().casefold()


def _is_number(cell: str) -> bool:
    return cell.strip().lstrip("-+").replace(".", "", 1).isdecimal()

"""From text to a table: delimited files and JSON lines, as people have them.

What can be mended is mended and counted as a Fault.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mendel.data.faults import Log

TEXT_NAMES = ["text", "message", "utterance", "sentence", "query", "question", "content", "body"]
LABEL_NAMES = ["label", "category", "intent", "class", "target", "tag"]
TOKEN_NAMES = ["tokens", "words", "seq.in"]
TAG_NAMES = ["ner_tags", "tags", "seq.out"]
SPAN_NAMES = ["spans", "entities"]
MANY_NAMES = ["labels", "tags", "categories", "topics", "classes", "intents"]
NUMBER_NAMES = ["score", "rating", "value", "number", "similarity"]
PAIR_NAMES = [
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
]
KNOWN = {
    *TEXT_NAMES,
    *LABEL_NAMES,
    *MANY_NAMES,
    *NUMBER_NAMES,
    *(name for pair in PAIR_NAMES for name in pair),
    "provenance",
}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
NO_DELIMITER = "\x1f"  # one column


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: Sequence[Any]  # dicts, or a list or tuple of cells each
    numbers: Sequence[int]  # of the rows in the file, for messages

    def values(self, column: str, step: int = 1) -> Iterable[Any]:
        if self.rows and isinstance(self.rows[0], dict):
            return (row.get(column) for row in self.rows[::step])
        at = self.columns.index(column)
        return (row[at] for row in self.rows[::step])


def is_json_lines(path: Path, content: str) -> bool:
    """By its first line, or by the suffix."""
    line = content.lstrip().split("\n", 1)[0]
    by_content = line.startswith("{") and _object(line) is not None
    return by_content or path.suffix.lower() in JSON_SUFFIXES


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_lines(content: str, log: Log) -> Table:
    """One JSON object a line; the columns are all keys there are."""
    found = {}
    for number, line in enumerate(content.split("\n"), 1):
        if (row := _object(line)) is not None:
            found[number] = row
        elif line.strip():
            log.add("invalid-json", number)
    rows = [*found.values()]
    return Table(tuple(dict.fromkeys(key for row in rows for key in row)), rows, [*found])


def delimited(path: Path, content: str, wanted: set[str], labelled: bool, log: Log) -> Table:
    """Cells of a CSV, TSV or the like.

    wanted     columns that the user named, which make a first row a header
    labelled   False = there may be one column only
    """
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

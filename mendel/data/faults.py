"""Soft faults: what was wrong with a file, how often, and what was done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mendel.types import InputError

MAX_CHARS = 20_000  # of one text
NOTES = {  # every soft fault, and what was done about it
    "encoding": "not UTF-8: read as Windows-1252, look at the accents",
    "damaged-utf8": "bytes that are not UTF-8: each replaced by \ufffd",
    "stray-quote": "quotes that do not pair up: taken as they stand",
    "ragged-row": "more or fewer fields than columns: skipped",
    "ragged-sentence": "tokens and tags do not pair up: sentence skipped",
    "invalid-json": "not a JSON object: skipped",
    "empty": "text or label empty, null or of another form than wanted: skipped",
    "empty-line": "a line without text: skipped",
    "control-character": "control characters: each replaced by a space",
    "long-text": f"longer than {MAX_CHARS:,} characters: cut",
    "label-space": "spare white space in the label: removed",
    "label-case": "label differs from another only by case: kept as a class of its own",
    "single-row-class": "the only row of its class, which cannot be split: skipped",
    "rare-label": "the only row with this label, which cannot be split: kept",
    "odd-label": "an entry of the list is no plain value: left out",
    "not-a-record": 'not a JSON object such as {"city": "Rome"}: skipped',
    "not-a-number": "label is not a finite number such as 3.5: skipped",
    "broken-tags": "tags against their scheme (I- without B-): a span begins where they change",
    "odd-span": "not a span with start, end and label: dropped",
    "span-outside": "start or end lies outside of the text: dropped",
    "empty-span": "no character in it but white space: dropped",
    "span-space": "begins or ends with white space: trimmed",
    "overlapping-span": "overlaps another: the longest is kept, of equals the first",
    "repeated-item": "the same as an earlier item: kept once",
    "long-item": f"longer than {MAX_CHARS:,} characters: cut into pieces, each an item",
    "no-text-file": "a file of the folder that is no text: left out",
    "unknown-file": "names a file that is not among the documents: skipped",
    "answer-elsewhere": "the answer is not in its file: all of the file counts as right",
    "answer-nowhere": "the answer is in no document: skipped",
    "duplicate": "text and label of an earlier row: kept",
    "conflict": "the same text has another label elsewhere: kept",
}


@dataclass(frozen=True)
class Fault:
    """One kind of soft fault: how often, where, and what was done about it."""

    kind: str
    count: int
    rows: tuple[int, ...]  # the first 5: data rows from 1, of JSON lines and CoNLL line numbers
    note: str


class Log:
    """Soft faults as they are met; row 0 means the file as a whole."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)
        self.notes: list[str] = []  # what a person should know, though nothing is wrong

    def add(self, kind: str, row: int = 0) -> None:
        self.seen[kind].append(row)

    def faults(self) -> tuple[Fault, ...]:
        return tuple(
            Fault(kind, len(self.seen[kind]), _first(self.seen[kind]), note)
            for kind, note in NOTES.items()
            if kind in self.seen
        )


def _first(rows: Sequence[int]) -> tuple[int, ...]:
    """The first 5 of them, each once."""
    return tuple(filter(None, [*dict.fromkeys(rows)][:5]))


def as_error(faults: Sequence[Fault]) -> InputError:
    """What --strict says: every soft fault, with the first rows of each."""
    return InputError(
        f"the file has faults, and --strict accepts none. Got {listed(faults)}. "
        "Wanted a file without any. Mend these rows, or leave out --strict to go on as noted."
    )


def listed(faults: Sequence[Fault]) -> str:
    """The faults in one line, for messages."""
    parts = []
    for fault in faults:
        where = f" (rows {', '.join(map(str, fault.rows))})" if fault.rows else ""
        parts.append(f"{fault.count:,} x {fault.kind}{where}, {fault.note}")
    return "; ".join(parts)


def no_rows(path: Path, log: Log) -> InputError:
    return InputError(
        f"{path.name} has no row to learn from. Got {listed(log.faults()) or 'a header only'}. "
        "Wanted a header and rows with a text and a label, or one JSON object a line (of a JSON "
        "array: jq -c '.[]' FILE). Mend the file, or name its columns by --text-column and "
        "--label-column."
    )

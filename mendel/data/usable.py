"""Whether rows can be learned from as a whole, and which of them cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mendel.data.faults import Log, listed
from mendel.data.targets import Target, TaskKind
from mendel.types import InputError


class Row(NamedTuple):
    number: int  # in the file
    text: str
    target: Target
    origin: str


def usable(path: Path, rows: list[Row], kind: TaskKind, column: str, log: Log) -> list[Row]:
    """The rows that a model of this kind can be trained on; what is odd about them is counted.

    column   of the label, for messages
    raises   InputError where there is nothing to tell apart
    """
    if kind == "regress":
        _check_numbers(path, rows, column)
        return rows
    _note_case(rows, log)
    if kind in ("classify", "pair"):
        return _splittable(path, rows, kind, column, log)
    if kind == "tag":
        _check_spans(path, rows, column, log)
    elif kind == "extract":
        _check_records(path, rows, column)
    else:
        _check_labels(path, rows, column, log)
    return rows


def note_repeats(rows: Sequence[Row], log: Log) -> None:
    """Count rows that say what an earlier one says, and texts that have several answers."""
    pairs: set[tuple[str, Target]] = set()
    for row in rows:
        if (row.text, row.target) in pairs:
            log.add("duplicate", row.number)
        pairs.add((row.text, row.target))
    n_targets = Counter(text for text, _ in pairs)
    for row in rows if len(n_targets) < len(pairs) else []:
        if n_targets[row.text] > 1:
            log.add("conflict", row.number)


def _names(target: Target) -> Iterator[str]:
    """The labels of any target, spans included."""
    if isinstance(target, str):
        yield target
    elif isinstance(target, tuple):
        named = (item for item in target if not isinstance(item, int))
        yield from (item if isinstance(item, str) else item.label for item in named)


def _counts(rows: Iterable[Row]) -> Counter[str]:
    return Counter(name for row in rows for name in _names(row.target))


def _note_case(rows: Sequence[Row], log: Log) -> None:
    """Rows with the rarer spelling of a label."""
    spellings = defaultdict(list)
    for label, _ in _counts(rows).most_common():
        spellings[label.casefold()].append(label)
    rare = {label for same in spellings.values() for label in same[1:]}
    for row in rows if rare else []:
        if not rare.isdisjoint(_names(row.target)):
            log.add("label-case", row.number)


def _splittable(path: Path, rows: list[Row], kind: TaskKind, column: str, log: Log) -> list[Row]:
    """The rows whose class has two or more; an error where one class is left."""
    counts = Counter(row.target for row in rows)
    for row in rows:
        if counts[row.target] == 1:
            log.add("single-row-class", row.number)
    kept = [row for row in rows if counts[row.target] > 1]
    if len({row.target for row in kept}) == 1:
        raise InputError(
            f"{path.name} has one class only. Got {kept[0].target!r} in all {len(kept):,} rows "
            f"that can be used, by column {column!r}. Wanted two classes or more, of two rows or "
            "more each. Add rows of another class, or name another column by --label-column."
        )
    return kept


def _check_labels(path: Path, rows: Sequence[Row], column: str, log: Log) -> None:
    counts = _counts(rows)
    if rows and len(counts) < 2:
        got = f"{next(iter(counts))!r} only" if counts else "none"
        raise InputError(
            f"{path.name} has too few labels. Got {got} in {len(rows):,} rows, by column "
            f"{column!r}. Wanted two labels or more, in a list or parted by | or ;. For a single "
            "yes or no, give every row one of two labels and say --kind classify."
        )
    for row in rows:
        if any(counts[name] == 1 for name in _names(row.target)):
            log.add("rare-label", row.number)
    if rows and all(sum(1 for _ in _names(row.target)) == 1 for row in rows):
        log.notes.append("every row has exactly one label: kind classify may fit better")


def _check_spans(path: Path, rows: Sequence[Row], column: str, log: Log) -> None:
    if rows and not any(row.target for row in rows):
        faults = listed(log.faults())
        raise InputError(
            f"{path.name} marks nothing. Got {len(rows):,} rows without any span, by column "
            f"{column!r}{faults and f' ({faults})'}. Wanted spans such as "
            "{'start': 0, 'end': 5, 'label': 'city'}, or tags such as B-city. Name their column by "
            "--label-column, or mark some."
        )


def _check_records(path: Path, rows: Sequence[Row], column: str) -> None:
    if rows and not any(row.target for row in rows):
        raise InputError(
            f"{path.name} says nothing. Got {len(rows):,} empty records, by column {column!r}. "
            'Wanted records such as {"city": "Rome", "date": "2024-03-05"}. Name their column by '
            "--label-column, or fill some."
        )


def _check_numbers(path: Path, rows: Sequence[Row], column: str) -> None:
    if rows and len({row.target for row in rows}) == 1:
        raise InputError(
            f"{path.name} has one number only. Got {rows[0].target} in all {len(rows):,} rows that "
            f"can be used, by column {column!r}. Wanted numbers that differ. Add rows, or name "
            "another column by --label-column."
        )

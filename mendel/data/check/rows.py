"""The rows of a file with their numbers: also those that a reader leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from mendel.data.cells import plain
from mendel.data.delimited import Table, folded
from mendel.data.faults import MAX_CHARS, Fault, Log
from mendel.data.readers import Examples, read_examples
from mendel.data.tables import read_table
from mendel.data.targets import TaskKind

SPLIT_NAMES = ("split", "fold")
NAMED = ("classify", "pair")  # kinds whose label is the name of a class


class Row(NamedTuple):
    number: int  # as the reader's faults count: data rows from 1, of JSON lines the line
    text: str
    label: str  # "" where the task has no classes
    part: str  # of the split that the file states; "" where it states none


@dataclass(frozen=True)
class Rows:
    rows: tuple[Row, ...]  # with a text, and a label where there are classes
    kind: TaskKind
    faults: tuple[Fault, ...]
    text_column: str
    label_column: str
    split_column: str  # "" where there is none

    @property
    def has_classes(self) -> bool:
        return self.kind in NAMED


def read_rows(
    path: Path,
    *,
    kind: TaskKind | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> Rows:
    """Every row with a text and a label.

    raises   InputError where read_examples does
    """
    examples = read_examples(path, kind=kind, text_column=text_column, label_column=label_column)
    wanted = {name for name in (text_column, label_column) if name}
    table = read_table(path, wanted, True, Log(), kind)
    split = _split_column(table, examples)
    rows = tuple(_rows(table, examples, split))
    if len(rows) < len(examples.texts):  # the texts do not stand in the cells: tokens, sentences
        labels = examples.labels or [""] * len(examples.texts)
        pairs = zip(examples.texts, labels, strict=True)
        rows = tuple(Row(number, *pair, "") for number, pair in enumerate(pairs, 1))
        split = ""
    return Rows(
        rows, examples.kind, examples.faults, examples.text_column, examples.label_column, split
    )


def _split_column(table: Table, examples: Examples) -> str:
    used = (examples.text_column, examples.label_column)
    return next((c for c in table.columns if folded(c) in SPLIT_NAMES and c not in used), "")


def _rows(table: Table, examples: Examples, split_column: str) -> Iterator[Row]:
    has_classes = examples.kind in NAMED
    label_column = examples.label_column if has_classes else ""
    names = (examples.text_column, examples.second_column, label_column, split_column)
    columns = [table.values(name) if name else repeat("") for name in names]
    for number, *cells in zip(table.numbers, *columns, strict=False):
        text, second, label, part = map(plain, cells)
        label = " ".join(label.split())
        if text.strip() and (label or not has_classes):
            text = f"{text}\t{second}" if second else text
            yield Row(number, text[:MAX_CHARS], label, part.strip())

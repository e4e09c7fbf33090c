"""A file of examples, as people have them, for every kind of task.

    path --read_table--> Table --choose_columns--> cells --clean--> Examples

What cannot be read is an InputError; what can be mended is mended and counted as a Fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from mendel.data.besides import Besides, columns_besides
from mendel.data.cells import READERS, clean_text, plain
from mendel.data.columns import Columns, choose_columns, guess_kind, has_tags, with_usual
from mendel.data.delimited import TOKEN_NAMES, Table, folded
from mendel.data.faults import Fault, Log, no_rows
from mendel.data.records import COLUMN, entries_of, with_records
from mendel.data.sentences import with_spans, with_texts
from mendel.data.tables import read_table
from mendel.data.targets import Target, TaskKind
from mendel.data.usable import Row, note_repeats, usable
from mendel.types import Digest, InputError, digest

TAKES_SECOND = ("pair", "regress")


@dataclass(frozen=True)
class Examples:
    texts: tuple[str, ...]  # of a pair "first\tsecond"; a tab inside of either is a space
    targets: tuple[Target, ...]  # as many as texts; none where the file was read as unlabelled
    kind: TaskKind
    faults: tuple[Fault, ...]
    text_column: str
    label_column: str  # "" where unlabelled
    digest: Digest  # of texts and targets
    provenance: str | None  # collected, written, generated, mixed; None where the file is silent
    second_column: str = ""  # of a pair
    notes: tuple[str, ...] = ()  # what a person should know, though nothing is wrong
    besides: Besides = field(default_factory=dict)  # the user's columns of few values

    @property
    def labels(self) -> tuple[str, ...]:
        """The targets of classify and pair; other kinds have none."""
        return tuple(target for target in self.targets if isinstance(target, str))

    def only(self, places: Sequence[int]) -> Examples:
        """Some of the rows; what is known of the file stays as it is."""
        return replace(
            self,
            texts=tuple(self.texts[i] for i in places),
            targets=tuple(self.targets[i] for i in places),
            besides={name: tuple(c[i] for i in places) for name, c in self.besides.items()},
        )


def read_examples(
    path: Path,
    *,
    kind: TaskKind | None = None,
    text_column: str | None = None,
    second_column: str | None = None,
    label_column: str | None = None,
    labelled: bool = True,
    joins: bool = False,
    usual: Columns | None = None,
) -> Examples:
    """The labelled texts of a file, with the faults that were mended on the way.

    path            CSV, TSV, semicolons, JSON lines, CoNLL, parquet; or a folder: seq.in with
                    seq.out and label, or a Hugging Face data set; told apart by content and suffix
    kind            what the label is; None = classify, unless the label says else (guess_kind)
    text_column     name of the column; None = guess it by name, then by shape
    second_column   the other text of a pair, for kind regress too. The label of kind pair is a
                    name, "4.2" too; a number of many values that rates a pair is kind regress
    label_column    likewise; not looked at where labelled is False
    joins           the rows join others: one class is enough, and one row of it
    usual           names that hold where none is given, if the file has them; else it is guessed
    returns         Examples in the order of the file
    raises          InputError when file or columns cannot be read, or there is one class only,
                    one label, one number, or no span at all
    cost            10,000 rows in 0.1 s, of tagged tokens in 0.3 s; a million in 8 s; memory about
                    ten times the file
    """
    log = Log()
    given = Columns(text_column or "", second_column or "", label_column or "")
    usual = usual or Columns()
    named = {name for name in (*given, *usual) if name}
    table = read_table(path, named, labelled, log, kind)
    given = with_usual(table, given, usual)
    kind = kind or guess_kind(table, given if labelled else given._replace(label=""))
    _check_second(kind, given)
    columns = choose_columns(path, table, kind, given, labelled=labelled)
    table = _spelled(table, columns, kind, log)
    if kind == "extract" and labelled and not columns.label:
        table, columns = with_records(table, columns.text), columns._replace(label=COLUMN)
    rows = _cleaned(table, columns, kind, log)
    rows = usable(path, rows, kind, columns.label, log) if labelled and not joins else rows
    if not rows:
        raise no_rows(path, log)
    note_repeats(rows, log)
    texts = tuple(row.text for row in rows)
    targets = tuple(row.target for row in rows) if labelled else ()
    origins = {row.origin for row in rows}
    return Examples(
        texts,
        targets,
        kind,
        log.faults(),
        columns.text,
        columns.label,
        digest([texts, targets]),
        "mixed" if len(origins) > 1 else origins.pop() or None,
        columns.second,
        tuple(log.notes),
        columns_besides(table, columns, [row.number for row in rows]) if labelled else {},
    )


def _check_second(kind: TaskKind, given: Columns) -> None:
    if given.second and kind not in TAKES_SECOND:
        raise InputError(
            f"kind={kind} reads one text. Got --second-column {given.second!r}. Wanted it for "
            f"{' or '.join(TAKES_SECOND)} only. Leave it out, or say --kind pair."
        )


def _spelled(table: Table, columns: Columns, kind: TaskKind, log: Log) -> Table:
    """The table with texts where it has tokens, and with spans where it has tags."""
    if folded(columns.text) not in TOKEN_NAMES:
        return table
    if kind == "tag" and columns.label and has_tags(table, columns.label):
        return with_spans(table, columns.text, columns.label, log)
    return with_texts(table, columns.text)


def _cleaned(table: Table, columns: Columns, kind: TaskKind, log: Log) -> list[Row]:
    """The rows that have a text, and an answer where one is wanted."""
    read = entries_of if kind == "extract" else READERS[kind]
    rows = []
    origin = next((c for c in table.columns if c.lower() == "provenance"), "")
    names = (columns.text, columns.second, columns.label, origin)
    cells = zip(table.numbers, *(_cells(table, name) for name in names), strict=False)
    for number, first, second, answer, source in cells:
        halves = (first, second) if columns.second else (first,)
        parts = [clean_text(plain(half), number, log) for half in halves]
        if not all(map(str.strip, parts)):
            log.add("empty", number)
            continue
        text = _joined(parts)
        target = read(answer, text, number, log) if columns.label else ""
        if target is not None:
            rows.append(Row(number, text, target, plain(source)))
    return rows


def _cells(table: Table, column: str) -> Iterable[Any]:
    return table.values(column) if column else repeat("")


def _joined(parts: Sequence[str]) -> str:
    return "\t".join(part.replace("\t", " ") for part in parts) if len(parts) > 1 else parts[0]

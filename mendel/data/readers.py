"""A file of examples, as people have them: CSV, TSV, semicolons or JSON lines.

    file --read_table--> Table --choose columns--> cells --clean--> Examples

What cannot be read is an InputError; what can be mended is mended and counted as a Fault.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from mendel.data.tables import (
    LABEL_NAMES,
    MAX_CHARS,
    TEXT_NAMES,
    Fault,
    Log,
    Table,
    folded,
    no_rows,
    read_table,
)
from mendel.types import Digest, InputError, digest

N_SAMPLE = 1_000  # rows that a guess looks at
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Examples:
    texts: tuple[str, ...]
    labels: tuple[str, ...]  # as many as texts; none where the file was read as unlabelled
    faults: tuple[Fault, ...]
    text_column: str
    label_column: str  # "" where unlabelled
    digest: Digest  # of texts and labels
    provenance: str | None  # collected, written, generated, mixed; None where the file is silent


class Row(NamedTuple):
    number: int
    text: str
    label: str
    origin: str


def read_examples(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labelled: bool = True,
) -> Examples:
    """The labelled texts of a file, with the faults that were mended on the way.

    path            CSV, TSV, semicolons or JSON lines, told apart by content and suffix
    text_column     name of the column; None = guess it by name, then by shape
    label_column    likewise; not looked at where labelled is False
    returns         Examples in the order of the file
    raises          InputError when file or columns cannot be read, or there is one class only
    cost            10,000 rows in 0.1 s, a million in 8 s; memory about ten times the file
    """
    log = Log()
    wanted = {name for name in (text_column, label_column) if name}
    table = read_table(path, wanted, labelled, log)
    text, label = _columns(path, table, text_column or "", label_column or "", labelled)
    rows = _cleaned(table, text, label, log)
    rows = _splittable(path, rows, label, log) if label else rows
    if not rows:
        raise no_rows(path, log)
    _note_repeats(rows, log)
    texts = tuple(row.text for row in rows)
    labels = tuple(row.label for row in rows) if label else ()
    origins = {row.origin for row in rows}
    origin = "mixed" if len(origins) > 1 else origins.pop() or None
    return Examples(texts, labels, log.faults(), text, label, digest([texts, labels]), origin)


def _names(columns: Sequence[str]) -> str:
    """The columns for a message: few, short and printable."""
    shown = [CONTROL.sub(" ", name)[:40] for name in columns[:20]]
    return ", ".join(shown) + f" and {len(columns) - 20} more" * (len(columns) > 20)


def _columns(path: Path, table: Table, text: str, label: str, labelled: bool) -> tuple[str, str]:
    """Names of the two columns: as given, else by name, else by shape."""
    label = label if labelled else ""
    for name, role in ((text, "text"), (label, "label")):
        if name and name not in table.columns:
            near = difflib.get_close_matches(name, table.columns, 1, 0)[0]
            raise InputError(
                f"{path.name} has no column {name!r}. Got {_names(table.columns)}; the nearest is "
                f"{near!r}. Wanted the name of the {role}. Say --{role}-column {near!r}."
            )
    text = text or _known(table.columns, TEXT_NAMES, label)
    label = label or (_known(table.columns, LABEL_NAMES, text) if labelled else "")
    text = text or _longest(table, label)
    label = label or (_repeating(table, text) if labelled and text else "")
    for name, role, names in ((text, "text", TEXT_NAMES), (label, "label", LABEL_NAMES)):
        if text == label or not (name or (role == "label" and not labelled)):
            raise InputError(
                f"cannot tell which column of {path.name} is the {role}. Got "
                f"{_names(table.columns)}. Wanted one for the text and another for the label, "
                f"named {', '.join(names)} or the like. Say --{role}-column NAME."
            )
    return text, label


def _known(columns: Sequence[str], names: Sequence[str], taken: str) -> str:
    by_name = {folded(column): column for column in columns if column != taken}
    return next((by_name[name] for name in names if name in by_name), "")


def _shapes(table: Table, taken: str) -> dict[str, tuple[float, int, int]]:
    """Mean length, distinct values and values of each other column, on a sample of rows."""
    step = max(1, len(table.rows) // N_SAMPLE)
    shapes = {}
    for column in [name for name in table.columns[:50] if name != taken]:
        cells = [cell[:MAX_CHARS] for cell in map(_plain, table.values(column, step)) if cell]
        shapes[column] = sum(map(len, cells)) / max(1, len(cells)), len(set(cells)), len(cells)
    return shapes


def _longest(table: Table, taken: str) -> str:
    """The column whose values are long and distinct; none where two are about as much so."""
    scores = {c: mean * n / max(1, m) for c, (mean, n, m) in _shapes(table, taken).items()}
    first, second = [*sorted(scores.values(), reverse=True), 0.0, 0.0][:2]
    return max(scores, key=lambda c: scores[c]) if first > 2 * second else ""


def _repeating(table: Table, taken: str) -> str:
    """The only column with few and short values; none where several are so."""
    few = [
        column
        for column, (mean, n, m) in _shapes(table, taken).items()
        if 1 <= n <= (m / 2 if m >= 20 else m - 1) and mean <= 60 and column.lower() != "provenance"
    ]
    return few[0] if len(few) == 1 else ""


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list) or value != value:
        return ""
    return json.dumps(value)


def _cleaned(table: Table, text_column: str, label_column: str, log: Log) -> list[Row]:
    texts = table.values(text_column)
    labels = table.values(label_column) if label_column else repeat("")
    column = next((c for c in table.columns if c.lower() == "provenance"), None)
    origins = repeat("") if column is None else table.values(column)
    rows = []
    for number, *cells in zip(table.numbers, texts, labels, origins, strict=False):
        text, label, origin = map(_plain, cells)
        if len(text) > MAX_CHARS:
            log.add("long-text", number)
            text = text[:MAX_CHARS]
        if CONTROL.search(text) or CONTROL.search(label):
            log.add("control-character", number)
            text, label = CONTROL.sub(" ", text), CONTROL.sub(" ", label)
        squeezed = " ".join(label.split())
        if not text or text.isspace() or (label_column and not squeezed):
            log.add("empty", number)
            continue
        if squeezed != label:
            log.add("label-space", number)
        rows.append(Row(number, text, squeezed, origin))
    return rows


def _splittable(path: Path, rows: list[Row], column: str, log: Log) -> list[Row]:
    """The rows whose class has two or more; an error where one class is left."""
    counts = Counter(row.label for row in rows)
    spellings = defaultdict(list)
    for label, _ in counts.most_common():
        spellings[label.casefold()].append(label)
    rare = {label for same in spellings.values() for label in same[1:]}
    for row in rows:
        if row.label in rare:
            log.add("label-case", row.number)
        if counts[row.label] == 1:
            log.add("single-row-class", row.number)
    kept = [row for row in rows if counts[row.label] > 1]
    if len({row.label for row in kept}) == 1:
        raise InputError(
            f"{path.name} has one class only. Got {kept[0].label!r} in all {len(kept):,} rows that "
            f"can be used, by column {column!r}. Wanted two classes or more, of two rows or more "
            "each. Add rows of another class, or name another column by --label-column."
        )
    return kept


def _note_repeats(rows: list[Row], log: Log) -> None:
    pairs: set[tuple[str, str]] = set()
    for row in rows:
        if (row.text, row.label) in pairs:
            log.add("duplicate", row.number)
        pairs.add((row.text, row.label))
    n_labels = Counter(text for text, _ in pairs)
    for row in rows if len(n_labels) < len(pairs) else []:
        if n_labels[row.text] > 1:
            log.add("conflict", row.number)

"""Which columns of a table are meant, and for which kind of task: by name, then by shape."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mendel.data.cells import CONTROL, SEPARATOR, plain
from mendel.data.delimited import (
    LABEL_NAMES,
    MANY_NAMES,
    NUMBER_NAMES,
    PAIR_NAMES,
    SPAN_NAMES,
    TAG_NAMES,
    TEXT_NAMES,
    TOKEN_NAMES,
    Table,
    folded,
)
from mendel.data.faults import MAX_CHARS
from mendel.data.records import RECORD_NAMES, is_record
from mendel.data.targets import TaskKind
from mendel.types import InputError

N_SAMPLE = 1_000  # rows that a guess looks at
N_NUMBERS = 20  # more different numbers than this, some of them broken, are no names of classes
NO_TEXT = {"id", "idx", "index", "provenance"}
NAMES: dict[TaskKind, Sequence[str]] = {  # of the label, the likelier first
    "classify": LABEL_NAMES,
    "multilabel": [*MANY_NAMES, *LABEL_NAMES],
    "tag": [*SPAN_NAMES, *TAG_NAMES, "labels", "label"],
    "pair": [*LABEL_NAMES, "is_duplicate", "gold_label", "relevance", "similar"],
    "regress": [*NUMBER_NAMES, *LABEL_NAMES],
    "extract": RECORD_NAMES,
}
PAIR_TOO = [("first", "second"), ("query", "document"), ("query", "passage"), ("a", "b")]


class Columns(NamedTuple):
    """Names of columns; "" where there is none."""

    text: str = ""
    second: str = ""
    label: str = ""


def guess_kind(table: Table, given: Columns) -> TaskKind:
    """The kind of task, where the user has not said it: classify, unless the label says else.

    The label is the column that the user named, else one with a name for a label, else for spans,
    tags, labels, or for a number where no other column could be the label. It says
    extract     JSON objects
    tag         spans, or tags beside tokens
    multilabel  lists of labels, or a name in the plural and cells parted by | or ;
    regress     numbers only, more than 20 different ones, not all of them whole
    pair        none of these, and two texts are named, or have names such as text1 and text2
    """
    names = [*LABEL_NAMES, *SPAN_NAMES, *TAG_NAMES, *MANY_NAMES]
    label = given.label or known(table.columns, names, given.text) or _repeating(table, given.text)
    label = label or known(table.columns, NUMBER_NAMES, given.text)
    if _has_records(table, given.label or known(table.columns, RECORD_NAMES, given.text)):
        return "extract"
    cells = list(table.values(label)) if label in table.columns else []
    lists = [cell for cell in islice(cells, N_SAMPLE) if isinstance(cell, list)]
    if lists:
        return _kind_of_lists(lists, label, table)
    if _is_measure(cells):
        return "regress"
    if given.second or (not given.text and _named_pair(table.columns, PAIR_NAMES)):
        return "pair"
    is_many = folded(label) in MANY_NAMES and any(SEPARATOR.search(plain(cell)) for cell in cells)
    return "multilabel" if is_many else "classify"


def with_usual(table: Table, given: Columns, usual: Columns) -> Columns:
    """The usual names where none is given, if the table has all that are named then."""
    every = Columns(*(now or then for now, then in zip(given, usual, strict=True)))
    named = [name for name in every if name]
    fits = len(set(named)) == len(named) and set(named) <= set(table.columns)
    return every if fits else given


def choose_columns(
    path: Path, table: Table, kind: TaskKind, given: Columns, *, labelled: bool
) -> Columns:
    """Names of the columns: as given, else by name, else by shape.

    labelled   False = no label is looked for
    raises     InputError for an unknown name, and where a column cannot be told
    """
    given = given if labelled else given._replace(label="")
    _check_names(path, table, given)
    text, second, label = given
    is_rated = kind == "regress" and not text and bool(_named_pair(table.columns, PAIR_NAMES))
    is_pair = kind == "pair" or bool(second) or is_rated
    label = label or (known(table.columns, NAMES[kind], text, second) if labelled else "")
    if is_pair:
        text, second = _pair(table.columns, given._replace(label=label))
    text = text or known(table.columns, _text_names(table, kind, label), label)
    text = text or _longest(table, label)
    label = label or (_repeating(table, text, second) if labelled and text else "")
    chosen = Columns(text, second, label)
    if kind == "extract" and not given.label and not _has_records(table, chosen.label):
        chosen = chosen._replace(label="")  # each field has a column of its own
    _check_roles(path, table, kind, chosen, [True, is_pair, labelled and kind != "extract"])
    return chosen


def known(columns: Sequence[str], names: Sequence[str], *taken: str) -> str:
    """The column with the first of the names that there is; "" where there is none."""
    by_name = {folded(column): column for column in columns if column not in taken}
    return next((by_name[name] for name in names if name in by_name), "")


def has_tags(table: Table, column: str) -> bool:
    """Whether the column has lists of words: the tags of tokens."""
    lists = (cell for cell in table.values(column) if isinstance(cell, list))
    return isinstance(next((cell[0] for cell in lists if cell), None), str)


def _has_records(table: Table, label: str) -> bool:
    cells = table.values(label) if label in table.columns else []
    return is_record(next((cell for cell in cells if cell not in (None, "")), None))


def _kind_of_lists(lists: Sequence[list[Any]], label: str, table: Table) -> TaskKind:
    first = next((items[0] for items in lists if items), None)
    if first is None:
        return "tag" if folded(label) in [*SPAN_NAMES, *TAG_NAMES] else "multilabel"
    has_tokens = bool(known(table.columns, TOKEN_NAMES))
    return "tag" if has_tokens or isinstance(first, dict | list) else "multilabel"


def _is_measure(cells: Sequence[Any]) -> bool:
    """Whether these are numbers that measure something, rather than name it."""
    numbers = set()
    for cell in filter(None, cells):
        try:
            numbers.add(float(cell))
        except (TypeError, ValueError, OverflowError):
            return False
    return len(numbers) > N_NUMBERS and not all(map(float.is_integer, numbers))


def _check_names(path: Path, table: Table, given: Columns) -> None:
    for name, role in zip(given, Columns._fields, strict=True):
        if name and name not in table.columns:
            near = difflib.get_close_matches(name, table.columns, 1, 0)[0]
            raise InputError(
                f"{path.name} has no column {name!r}. Got {_names(table.columns)}; the nearest is "
                f"{near!r}. Wanted the name of the {role}. Say --{role}-column {near!r}."
            )


def _check_roles(
    path: Path, table: Table, kind: TaskKind, chosen: Columns, needed: Sequence[bool]
) -> None:
    names = Columns(", ".join(TEXT_NAMES), "text2", ", ".join(NAMES[kind]))
    for role, name, likely, need in zip(Columns._fields, chosen, names, needed, strict=True):
        if need and (not name or list(chosen).count(name) > 1):
            texts = "two for the texts" if needed[1] else "one for the text"
            raise InputError(
                f"cannot tell which column of {path.name} is the {role}. Got "
                f"{_names(table.columns)}. Wanted {texts} and another for the label, named "
                f"{likely} or the like. Say --{role}-column NAME."
            )


def _names(columns: Sequence[str]) -> str:
    """The columns for a message: few, short and printable."""
    shown = [CONTROL.sub(" ", name)[:40] for name in columns[:20]]
    return ", ".join(shown) + f" and {len(columns) - 20} more" * (len(columns) > 20)


def _text_names(table: Table, kind: TaskKind, label: str) -> list[str]:
    """Tags need the tokens that they belong to, even where the text is there too."""
    is_tags = kind == "tag" and bool(label) and has_tags(table, label)
    return [*TOKEN_NAMES, *TEXT_NAMES] if is_tags else [*TEXT_NAMES, *TOKEN_NAMES]


def _named_pair(
    columns: Sequence[str], names: Sequence[tuple[str, str]], text: str = "", second: str = ""
) -> tuple[str, str] | None:
    by_name = {folded(column): column for column in columns}
    for one, two in names:
        pair = by_name.get(one, ""), by_name.get(two, "")
        if all(pair) and text in ("", pair[0]) and second in ("", pair[1]):
            return pair
    return None


def _pair(columns: Sequence[str], given: Columns) -> tuple[str, str]:
    """Two columns by name, else the only ones that are left; "" for one that cannot be told."""
    text, second, _ = given
    if found := _named_pair(columns, [*PAIR_NAMES, *PAIR_TOO], text, second):
        return found
    rest = [c for c in columns if folded(c) not in NO_TEXT and c not in given]
    if len(rest) == (not text) + (not second):
        text = text or rest.pop(0)
        second = second or rest.pop(0)
    return text, second


def _shapes(table: Table, taken: Sequence[str]) -> dict[str, tuple[float, int, int]]:
    """Mean length, distinct values and values of each other column, on a sample of rows."""
    step = max(1, len(table.rows) // N_SAMPLE)
    shapes = {}
    for column in [name for name in table.columns[:50] if name not in taken]:
        cells = [cell[:MAX_CHARS] for cell in map(plain, table.values(column, step)) if cell]
        shapes[column] = sum(map(len, cells)) / max(1, len(cells)), len(set(cells)), len(cells)
    return shapes


def _longest(table: Table, *taken: str) -> str:
    """The column whose values are long and distinct; none where two are about as much so."""
    scores = {c: mean * n / max(1, m) for c, (mean, n, m) in _shapes(table, taken).items()}
    first, second = [*sorted(scores.values(), reverse=True), 0.0, 0.0][:2]
    return max(scores, key=lambda c: scores[c]) if first > 2 * second else ""


def _repeating(table: Table, *taken: str) -> str:
    """The only column with few and short values; none where several are so."""
    few = [
        column
        for column, (mean, n, m) in _shapes(table, taken).items()
        if 1 <= n <= (m / 2 if m >= 20 else m - 1) and mean <= 60 and column.lower() != "provenance"
    ]
    return few[0] if len(few) == 1 else ""

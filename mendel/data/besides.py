"""The user's other columns that sort rows into a few: what a report may be sliced by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mendel.data.cells import plain
from mendel.data.delimited import Table

MAX_VALUES = 20  # of a column; more of them name rows rather than sort them
MAX_COLUMNS = 20
MAX_CHARS = 60

Besides = dict[str, tuple[str, ...]]  # column -> a value for each row, "" where there is none


def columns_besides(table: Table, taken: Collection[str], numbers: Sequence[int]) -> Besides:
    """Columns of two to twenty different values, for the rows of those numbers, in their order.

    taken    columns that have a role already: text and label
    returns  none for rows that stand in no line of their own
    """
    place = {number: i for i, number in enumerate(table.numbers)}
    if not all(number in place for number in numbers):
        return {}
    found: Besides = {}
    for column in table.columns:
        if column in taken or len(found) == MAX_COLUMNS:
            continue
        cells = list(table.values(column))
        if values := _few(cells[place[number]] for number in numbers):
            found[column] = values
    return found


def _few(cells: Iterable[object]) -> tuple[str, ...]:
    """The cells as one line each; none where they have too many different values, or one."""
    values: list[str] = []
    different: set[str] = set()
    for cell in cells:
        values.append(" ".join(plain(cell).split())[:MAX_CHARS])
        different.add(values[-1])
        if len(different - {""}) > MAX_VALUES:
            return ()
    return tuple(values) if len(different - {""}) > 1 else ()

"""The user's other columns that sort rows into a few: what a report may be sliced by."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
        values = tuple(" ".join(plain(cells[place[n]]).split())[:MAX_CHARS] for n in numbers)
        if 2 <= len(set(values) - {""}) <= MAX_VALUES:
            found[column] = values
    return found

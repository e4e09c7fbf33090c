"""Records of fields, as people have them: one JSON object a row, or a column for each field."""

from __future__ import annotations

import json
import math
from typing import Any

from mendel.data.cells import CONTROL, squeezed
from mendel.data.delimited import Table, folded
from mendel.data.faults import Log
from mendel.data.targets import Entry
from mendel.types import InputError

RECORD_NAMES = ["record", "fields", "json", "extracted", "entities", "target", "label"]
COLUMN = "record"  # where fields that had columns of their own are put
NO_FIELDS = {"provenance", "id", "idx", "index", "split", "fold"}


def is_record(cell: Any) -> bool:
    """Whether a cell is a JSON object, or the text of one."""
    return isinstance(_object(cell), dict)


def entries_of(cell: Any, text: str, row: int, log: Log) -> tuple[Entry, ...] | None:
    """The fields that have a value, sorted by name; none is a record too.

    log      a cell that is no object is left out
    raises   InputError for a field that holds a list or an object
    """
    found = _object(cell)
    if not isinstance(found, dict):
        log.add("not-a-record" if found not in (None, "") else "empty", row)
        return None
    entries = {}
    for field, value in found.items():
        name = squeezed(str(field))
        if isinstance(value, list | dict | tuple):
            raise _nested(name, value, row)
        if isinstance(value, float) and not math.isfinite(value):
            continue  # how tables write that nothing is there
        if isinstance(value, str):
            value = " ".join(CONTROL.sub(" ", value).split())
        if value is None or value == "":
            continue
        if not name:
            log.add("odd-label", row)
        elif isinstance(value, str | int | float):
            entries[name] = value
        else:
            entries[name] = str(value)  # a day in a table that has days
    return tuple(Entry(name, entries[name]) for name in sorted(entries))


def with_records(table: Table, text: str) -> Table:
    """The table with one record a row, of all columns that are neither text nor about the row."""
    names = [c for c in table.columns if c != text and folded(c) not in NO_FIELDS]
    about = [c for c in table.columns if folded(c) == "provenance"]
    cells = zip(*(table.values(name) for name in (text, *about, *names)), strict=True)
    rows = []
    for first, *rest in cells:
        origins, values = rest[: len(about)], rest[len(about) :]
        record = dict(zip(names, values, strict=True))
        rows.append([first, *origins, record])
    return Table((text, *about, COLUMN), rows, table.numbers)


def _object(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith("{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _nested(name: str, value: Any, row: int) -> InputError:
    form = "an object" if isinstance(value, dict) else "a list"
    return InputError(
        f"row {row}: field {name[:40]!r} is {form}. Wanted a string, number, true, false or null "
        f"in each field. Give its parts fields of their own, as {name[:40]}_1, or leave it out."
    )

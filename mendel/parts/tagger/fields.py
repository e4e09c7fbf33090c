"""Fields of a record: of which type each is, and what a piece of text says for it.

text     as it is written                     choice   one of few values, however it is spelt
date     a day, as ISO 8601                   number   JSON number
amount   a number and a currency: "12.50 EUR"  flag     true or false, by what texts say for it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from .values import amount_of, date_of, number_of, squeezed

MOST = 0.95  # of a field's values that can be read as a type, for the field to be of it
MAX_CHOICES = 30
ROWS_A_CHOICE = 5  # on average, for a field to be a choice
SEPARATORS = re.compile(r"[\s\-_.,;:'’\"!?()/]+")
NAME = re.compile(r"0[0-9]|\+|[0-9]{16}")  # digits that begin so name something: 0042, +49 30

Value = str | int | float | bool
Record = Mapping[str, Value]
Fields = Mapping[str, "Field"]


@dataclass(frozen=True)
class Field:
    """How the values of a field are written.

    type          text, choice, flag, date, number or amount
    month_first   3/5/2024 is the fifth of March
    comma         1,234 is little more than one, 1.234 is more than a thousand
    forms         of a choice or flag: folded form -> value
    """

    type: str
    month_first: bool = False
    comma: bool = False
    forms: Mapping[str, Value] = field(default_factory=dict)

    def read(self, written: str) -> Value | None:
        """The value that a piece of text stands for; None where it is none of this type."""
        if self.type == "date":
            return date_of(written, month_first=self.month_first)
        if self.type == "number":
            return number_of(written, comma=self.comma)
        if self.type == "amount":
            return amount_of(written)
        if self.type == "flag":
            return self.forms.get(folded(written))
        return self.forms.get(folded(written), squeezed(written) or None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """For people: the type, and what else is known of it."""
        values = [str(value) for value in dict.fromkeys(self.forms.values())]
        also = [f"{form} = {v}" for form, v in self.forms.items() if form != str(key(v))]
        choices = ", ".join(values[:8]) + ", ..." * (len(values) > 8)
        if also:
            choices += f"; also {', '.join(also[:8])}{', ...' * (len(also) > 8)}"
        more = {
            "date": "month first in 3/5/2024" if self.month_first else "day first in 3/5/2024",
            "number": "1,234 has decimals" if self.comma else "",
            "choice": choices,
            "flag": choices,
        }.get(self.type)
        return f"{self.type} ({more})" if more else self.type


AMOUNT = re.compile(r"-?[0-9.]+ [A-Z]{3}")  # as values.py writes it


@lru_cache(maxsize=50_000)
def folded(text: str) -> str:
    """Without case, white space and punctuation: what makes two spellings one."""
    return SEPARATORS.sub(" ", text).strip().casefold()


def key(value: Value) -> Value:
    """What makes two values the same."""
    if isinstance(value, bool):
        return folded(str(value))
    if isinstance(value, str) and AMOUNT.fullmatch(value):
        return value  # its sign is no punctuation
    return folded(value) or value if isinstance(value, str) else value


def fields_of(records: Sequence[Record]) -> dict[str, Field]:
    """Every field that occurs, with the type that nearly all of its values have."""
    columns: dict[str, list[Value]] = {}
    for record in records:
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    return {name: _field_of(columns[name]) for name in sorted(columns)}


def _field_of(values: Sequence[Value]) -> Field:
    if all(isinstance(value, bool) for value in values):
        return Field("flag", forms=_forms(values))
    written = [str(value) for value in values]
    found = _number_or_date(written)
    if found is not None:
        return found
    n_choices = len({key(value) for value in values})
    if n_choices <= MAX_CHOICES and len(values) >= ROWS_A_CHOICE * n_choices:
        return Field("choice", forms=_forms(values))
    return Field("text")


def _number_or_date(written: Sequence[str]) -> Field | None:
    """The type that nearly all of the values are of; None for words."""
    types = [Field("date"), Field("date", month_first=True), Field("amount")]
    if not any(NAME.match(value) for value in written):
        commas = sum(bool(re.search(r",[0-9]{1,2}$", value)) for value in written)
        types.append(Field("number", comma=commas > sum("." in value for value in written)))
    allowed = int((1 - MOST) * len(written))
    best = min(types, key=lambda found: _n_odd(found, written, allowed))
    return best if _n_odd(best, written, allowed) <= allowed else None


def _n_odd(found: Field, written: Sequence[str], allowed: int) -> int:
    """Values that are not of the type; no more than one above what is allowed is counted."""
    odd = (value for value in written if found.read(value) is None)
    return sum(1 for _ in islice(odd, allowed + 1))


def _forms(values: Sequence[Value]) -> dict[str, Value]:
    """Each value by its folded form; of several spellings the most frequent."""
    usual = Counter(values).most_common()
    return {str(key(value)): value for value, _ in reversed(usual)}


def canonical(record: Record, fields: Fields) -> dict[str, Value]:
    """The record with values as answers give them; one that is not of its type stays a text."""
    return {name: _canonical(value, fields.get(name)) for name, value in record.items()}


def _canonical(value: Value, found: Field | None) -> Value:
    if found is None or isinstance(value, bool):
        return value
    if found.type == "number" and not isinstance(value, str):
        return int(value) if value == int(value) else value
    read = found.read(str(value))
    return squeezed(str(value)) if read is None else read


def misfits(record: Record, fields: Fields) -> list[str]:
    """Fields whose value is not of their type: 31/02/2024, or a word for a number."""
    return [
        name
        for name, value in record.items()
        if name in fields and not is_of_type(value, fields[name])
    ]


def is_of_type(value: Value, found: Field) -> bool:
    """Also of a choice: whether it is one of the values."""
    if found.type == "choice":
        return str(key(value)) in found.forms
    if isinstance(value, bool) or found.type == "flag":
        return isinstance(value, bool) and found.type == "flag"
    return found.type == "text" or found.read(str(value)) is not None


def with_fields(data: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of `Field.to_dict`; raises TypeError where one is of another form."""
    return {name: Field(**about) for name, about in data.items()}


def variants(found: Field) -> list[Field]:
    """The same field with its numbers or dates written the other way."""
    if found.type == "date":
        return [replace(found, month_first=not found.month_first)]
    if found.type == "number":
        return [replace(found, comma=not found.comma)]
    return []

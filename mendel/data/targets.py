"""What a model is asked for: the kinds of task and the form of their answers."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

TaskKind = Literal[
    "classify", "multilabel", "tag", "pair", "regress", "extract", "retrieve", "generate"
]


NO_TABLE = ("generate", "retrieve")  # kinds whose data is no table of texts and answers


class Span(NamedTuple):
    """A named piece of a text."""

    start: int  # characters of the text
    end: int  # excluded
    label: str


class Entry(NamedTuple):
    """One field of a record."""

    label: str  # the field's name
    value: str | int | float | bool


# classify and pair: a label; multilabel: sorted labels, none too; tag: sorted and disjoint spans;
# regress: a finite number; extract: entries, sorted by name; generate: bytes of the text, its end
# as one; retrieve: numbers of passages, one or more, sorted
Target = str | tuple[str, ...] | tuple[Span, ...] | float | tuple[Entry, ...] | tuple[int, ...]


def as_json(target: Target) -> Any:
    """In lists, strings and numbers, as a run's folder keeps it."""
    return json.loads(json.dumps(target))

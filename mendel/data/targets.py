"""What a model is asked for: the kinds of task and the form of their answers."""

from __future__ import annotations

from typing import Literal, NamedTuple

TaskKind = Literal["classify", "multilabel", "tag", "pair", "regress", "retrieve"]


class Span(NamedTuple):
    """A named piece of a text."""

    start: int  # characters of the text
    end: int  # excluded
    label: str


# classify and pair: a label; multilabel: sorted labels, none too; tag: sorted and disjoint spans;
# regress: a finite number; retrieve: numbers of passages, one or more, sorted
Target = str | tuple[str, ...] | tuple[Span, ...] | tuple[int, ...] | float

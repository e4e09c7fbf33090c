"""The kinds of task that a design run knows, each in a file of its own.

kind.py   what a kind supplies: targets, metric, what is fitted out of fold, its part of the report
text.py   the builder of text models, and its ladder; tagger.py the same for spans, search.py for
          passages, writer.py for models that write
"""

from typing import Any

from mendel.kinds.classify import Classify
from mendel.kinds.extract import Extract
from mendel.kinds.generate import Generate
from mendel.kinds.kind import Fitted, Kind, Maker, Rung, Shape
from mendel.kinds.multilabel import Multilabel
from mendel.kinds.pair import Pair
from mendel.kinds.regress import Regress
from mendel.kinds.retrieve import Retrieve
from mendel.kinds.tag import Tag
from mendel.spec import TextSpec

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(Classify(), Multilabel(), Pair(), Regress()),
        *(Tag(), Extract(), Retrieve(), Generate()),
    )
}
MAKERS: dict[str, Maker] = {kind.builder.part: kind.builder for kind in KINDS.values()}


def recipe_of(spec: TextSpec) -> Any:
    """The part's own view of a spec; raises SpecError for a field that it does not have."""
    return MAKERS[spec.part].recipe(spec)


__all__ = ["KINDS", "MAKERS", "Classify", "Fitted", "Kind", "Maker", "Rung", "Shape", "recipe_of"]

"""Typed changes to a recipe, each valid, canonical and as wide as fits beneath the caps.

fields.py    mechanisms of mixers and channels: one turned on, off or over
training.py  optimizer, rates, schedule, initialisation, terms of the loss
change.py    what a change is
"""

from __future__ import annotations

from mendel.propose.changes import fields, training
from mendel.propose.changes.change import Change, Draft, Verb, fitted
from mendel.propose.matching import Caps, matched
from mendel.propose.novelty import canonical
from mendel.spec import Recipe
from mendel.types import InputError

__all__ = ["Change", "Draft", "Verb", "changes"]

KINDS = (fields, training)


def changes(recipe: Recipe, caps: Caps) -> list[Change]:
    """Every typed change of the recipe that is valid and fits, in a fixed order.

    No two lead to the same recipe, and none to the recipe itself.
    """
    recipe = canonical(recipe)
    drafts = (draft for kind in KINDS for draft in kind.drafts(recipe))
    return fitted(drafts, caps, (recipe, *_as_matched(recipe, caps)))


def _as_matched(recipe: Recipe, caps: Caps) -> list[Recipe]:
    made = matched(recipe, caps)
    return [] if made is None else [made]

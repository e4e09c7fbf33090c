"""Typed changes to a recipe, each valid, canonical and as wide as fits beneath the caps.

fields.py    mechanisms of mixers and channels: one turned on, off or over
order.py     hybrids made and unmade, layers swapped, parts put in and taken out
routing.py   a router around a recurrence, and away again
shape.py     depth, width, channels, keys and values at matched cost
training.py  optimizer, rates, schedule, initialisation, terms of the loss
crossing.py  what two recipes have, in one
words.py     what sets two recipes apart
change.py    what a change is
"""

from __future__ import annotations

from mendel.propose.changes import crossing, fields, order, routing, shape, training
from mendel.propose.changes.change import Change, Draft, Verb, fitted
from mendel.propose.changes.words import called, difference
from mendel.propose.matching import Caps, matched
from mendel.propose.spelling import canonical
from mendel.spec import Recipe

__all__ = ["Change", "Draft", "Verb", "called", "changes", "crosses", "difference", "fitted"]

KINDS = (fields, order, routing, shape, training)


def changes(recipe: Recipe, caps: Caps) -> list[Change]:
    """Every typed change of the recipe that is valid and fits, in a fixed order.

    No two lead to the same recipe, and none to the recipe itself.
    raises   SpecError for a recipe with a part or a field that there is not
    """
    recipe = canonical(recipe)
    drafts = (draft for kind in KINDS for draft in kind.drafts(recipe))
    return fitted(drafts, caps, _as_they_are(caps, recipe))


def crosses(a: Recipe, b: Recipe, caps: Caps) -> list[Change]:
    """Every recipe that has a part of a and the rest of b, or the other way round; neither
    parent is among them."""
    a, b = canonical(a), canonical(b)
    return fitted(crossing.drafts(a, b), caps, _as_they_are(caps, a, b))


def _as_they_are(caps: Caps, *recipes: Recipe) -> list[Recipe]:
    """The recipes, and what they are when nothing but their width is changed."""
    wide = (matched(recipe, caps) for recipe in recipes)
    return [*recipes, *(recipe for recipe in wide if recipe is not None)]

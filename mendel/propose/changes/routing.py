"""Routing between branches: a delta rule becomes one of four branches, and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from mendel.parts.part import resolve
from mendel.propose.changes.change import Draft, Verb, same_places, with_model
from mendel.propose.spelling import whole
from mendel.spec import PartSpec, Recipe

Fields = dict[str, Any]

GATES: dict[str, tuple[Fields, str]] = {
    "softmax": ({"gate": "softmax"}, "a sharp choice between near, far, state and value"),
    "sigmoid": (
        {"gate": "sigmoid", "retention": True},
        "each branch is weighed alone, and the state forgets",
    ),
    "floor": (
        {"gate": "floor", "rescale": True},
        "no branch is ever shut, and heads are weighed after the fusion",
    ),
    "staged": ({"gate": "staged"}, "local against global first, then inside each"),
}
LONG = (63, 15)  # taps of the long filter: what it keeps of the text is dear


def drafts(recipe: Recipe) -> Iterator[Draft]:
    """Each equal group of recurrences with a router around it; each router down to its state."""
    pattern = recipe.model.mixers
    for places in same_places(pattern):
        part = pattern[places[0]]
        cls, before = resolve("mixer", part)[0], whole("mixer", part)
        if cls.name == "recurrence":
            for (gate, (fields, why)), taps in itertools.product(GATES.items(), LONG):
                routed = PartSpec(part="routed", fields={**_shared(before), **fields, "long": taps})
                name = f"routed by {gate}, {taps} taps"
                yield _draft(recipe, places, routed, "insert", name, why)
        if cls.name == "routed":
            why = "does the state do without the filters beside it?"
            yield _draft(recipe, places, _state_alone(before), "simplify", "no router", why)


def _shared(before: Fields) -> Fields:
    """What the delta path of a router takes over from a recurrence."""
    beta_max = before["beta_max"] if before["write"] == "beta" else 1.0
    return {"n_heads": before["n_heads"], "conv": before["conv"], "beta_max": beta_max}


def _state_alone(before: Fields) -> PartSpec:
    """The delta path of a router as a recurrence of its own."""
    fields = {
        "n_heads": before["n_heads"],
        "conv": before["conv"],
        "beta_max": before["beta_max"],
        "key_norm": True,
        "erase": "delta",
        "write": "beta",
        "decay": "learned" if before["retention"] else "none",
    }
    return PartSpec(part="recurrence", fields=fields)


def _draft(
    recipe: Recipe, places: tuple[int, ...], part: PartSpec, verb: Verb, name: str, why: str
) -> Draft:
    pattern = [part if i in places else each for i, each in enumerate(recipe.model.mixers)]
    at = "" if len(places) == len(pattern) else f" in mixers {' '.join(map(str, places))}"
    return Draft(
        name=name + at,
        verb=verb,
        about=tuple(f"mixers.{i}" for i in places),
        values=tuple(part.model_dump(mode="json") for _ in places),
        recipe=with_model(recipe, mixers=pattern),
        why=why,
    )

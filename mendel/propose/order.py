"""Evidence and a new task -> what is expected of each recipe, and in which order to try them.

expected gain = (sum of w * gain + PRIOR * the family's) / (sum of w + PRIOR)
w             = likeness of the tasks * how sure the gain there is
worth         = gain * (time for looking - time until all folds are in)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mendel.kinds import KINDS, Maker, Shape
from mendel.propose.evidence import REFERENCE, Past, Tried
from mendel.propose.relative import Relative, absolute, relative
from mendel.propose.traits import Traits, likeness

When = Literal["first", "then", "last"]
LIKE = 0.05  # tasks less alike than this say nothing
PRIOR = 0.25  # weight of what is expected without evidence
LOST = -0.25  # who makes a quarter more errors than the linear model is tried last
N_NEAR = 20  # earlier runs that are looked at
N_CARRIED = 6  # recipes of other tasks, besides the ladder's


@dataclass(frozen=True)
class Expected:
    """What earlier runs say of one recipe on the new task.

    carried   it was found on another task: no rung of this one's ladder
    when      first: worth an early look; last: a known loser
    seen      earlier runs that tried it, each with its weight, the weightiest first
    """

    recipe: Relative
    why: str
    gain: float
    seconds: float
    carried: bool
    seen: tuple[tuple[float, Past, Tried], ...]
    when: When = "then"


def alike(traits: Traits, earlier: Sequence[Past]) -> list[tuple[float, Past]]:
    """Earlier runs on tasks like this one, each with its likeness, the most alike first."""
    weighed = [(likeness(traits, past.traits), past) for past in earlier]
    return sorted((w for w in weighed if w[0] >= LIKE), key=lambda w: -w[0])[:N_NEAR]


def ordered(traits: Traits, near: Sequence[tuple[float, Past]], looking_s: float) -> list[Expected]:
    """The quickest linear model, so that something can ship; the best, and beside it what the
    ladder would start from; then by worth; losers last.

    near        as `alike` gives them, at least one
    looking_s   seconds for training, before what is kept for the end
    """
    found = expectations(traits, near)
    linear = [e for e in found if e.recipe["family"] == REFERENCE]
    opener = min(linear, key=lambda e: e.seconds, default=None)
    rest = [e for e in found if e is not opener]

    def worth(e: Expected) -> tuple[bool, bool, float]:
        left_s = looking_s - traits.n_folds * e.seconds
        promising = e.gain > 0 and left_s > 0
        return e.gain < LOST, not promising, -e.gain * (left_s if promising else 1.0)

    rest.sort(key=worth)  # stable: what is level stays in the ladder's order
    usual = _key(_usual(KINDS[traits.kind].builder, traits.shape))
    hedge = [e for e in rest if _key(e.recipe) == usual]
    early = [opener] if opener else []
    early += rest[:1] + [e for e in hedge if e not in rest[:1]]
    later = [replace(e, when=_when(e)) for e in rest if e not in early]
    return [replace(e, when="first") for e in early] + later


def _when(e: Expected) -> When:
    return "last" if e.gain < LOST else "first" if e.gain > 0 else "then"


def _usual(maker: Maker, shape: Shape) -> Relative:
    """What the task starts from by its size alone. It is tried early whatever was seen elsewhere:
    a few runs on other tasks have been wrong about it."""
    return relative(maker, maker.within(maker.starting_point(shape), shape), shape)


def expectations(traits: Traits, near: Sequence[tuple[float, Past]]) -> list[Expected]:
    """Of each rung, and of the recipes that did well elsewhere."""
    shape, maker = traits.shape, KINDS[traits.kind].builder
    rungs = [(relative(maker, recipe, shape), why) for recipe, why in maker.rungs(shape)]
    known = {_key(found) for found, _ in rungs}
    made = [_expected(found, why, False, maker, shape, near) for found, why in rungs]
    carried = [
        _expected(found, "led on another task", True, maker, shape, near)
        for found in _leaders(near)
        if _key(found) not in known and _is_possible(maker, found, shape)
    ]
    best = sorted((e for e in carried if e.gain > 0), key=lambda e: -e.gain)
    return made + best[:N_CARRIED]


def changes(maker: Maker, near: Sequence[tuple[float, Past]]) -> list[tuple[str, float]]:
    """Mutations, and the share of the linear model's errors that each mended beyond its parent;
    the best first, those that nobody tried in the maker's own order."""
    found = [
        (name, _shrunk(_steps_of(maker, change, near), 0.0)) for name, change in maker.mutations
    ]
    return sorted(found, key=lambda f: -f[1])


def _steps_of(
    maker: Maker, change: Callable[[Any], Any], near: Sequence[tuple[float, Past]]
) -> list[tuple[float, float]]:
    """Weight and gain beyond the parent, wherever an earlier run tried both."""
    told = []
    for w, past in near:
        shape, by_key = past.traits.shape, {_key(t.recipe): t for t in past.tried}
        for parent in past.tried:
            recipe = absolute(maker, parent.recipe, shape)
            changed = maker.within(change(recipe), shape) if recipe.is_learned else recipe
            child = by_key.get(_key(relative(maker, changed, shape)))
            if child is not None and child is not parent:
                told.append((w * min(parent.sure, child.sure), child.gain - parent.gain))
    return told


def _expected(
    found: Relative,
    why: str,
    carried: bool,
    maker: Maker,
    shape: Shape,
    near: Sequence[tuple[float, Past]],
) -> Expected:
    key, family = _key(found), str(found["family"])
    seen = [(w * t.sure, past, t) for w, past in near for t in past.tried if _key(t.recipe) == key]
    kin = [(w, [t for t in past.tried if t.family == family]) for w, past in near]
    prior = _shrunk([(w * t.sure / len(told), t.gain) for w, told in kin for t in told], 0.0)
    gain = _shrunk([(w, t.gain) for w, _, t in seen], prior)
    paces = [(w, t.pace) for w, told in kin for t in told] or [
        (w, t.pace) for w, past in near for t in past.tried
    ]
    pace = math.fsum(w * p for w, p in paces) / math.fsum(w for w, _ in paces)
    guess_s = maker.guess_s(absolute(maker, found, shape), shape)
    seen.sort(key=lambda s: -s[0])
    return Expected(found, why, gain, guess_s * pace, carried, tuple(seen))


def _shrunk(seen: Sequence[tuple[float, float]], prior: float) -> float:
    total = math.fsum(w * gain for w, gain in seen) + PRIOR * prior
    return total / (math.fsum(w for w, _ in seen) + PRIOR)


def _leaders(near: Sequence[tuple[float, Past]]) -> Iterator[Relative]:
    """Recipes that were among the best three of an earlier run, each once."""
    told: set[str] = set()
    for _, past in near:
        plain = [t for t in past.tried if not t.recipe.get("augment")]  # those are judged there
        for tried in sorted(plain, key=lambda t: -t.gain * t.sure)[:3]:
            if _key(tried.recipe) not in told:
                told.add(_key(tried.recipe))
                yield tried.recipe


def _is_possible(maker: Maker, found: Relative, shape: Shape) -> bool:
    try:
        absolute(maker, found, shape)
    except (TypeError, ValueError):
        return False
    return True


def _key(found: Relative) -> str:
    return json.dumps(dict(found), sort_keys=True)

"""Turns of earlier runs -> what each recipe was worth there, beside the linear one.

Held-out folds only: turns come through ledger.Earlier, which knows no sealed score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mendel.kinds import KINDS, recipe_of
from mendel.propose.relative import Relative, relative
from mendel.propose.traits import Traits
from mendel.spec import TextSpec
from mendel.types import Kind, Line, Turn

REFERENCE = "linear"  # the family that gains are counted from
LEAST_ERROR = 0.02  # share; below it a mended error would count for too much
HALF_SURE = 50  # errors of the linear model that make a gain half as sure as it can be


@dataclass(frozen=True)
class Tried:
    """One recipe in one earlier run.

    gain      share of the linear model's errors that it mended, on the folds that both saw
    points    the same as a difference of scores
    seconds   a round; pace: the same / the maker's guess
    sure      0 to 1: errors that it rests on, and folds seen
    """

    recipe: Relative
    gain: float
    points: float
    seconds: float
    pace: float
    sure: float

    @property
    def family(self) -> str:
        return str(self.recipe["family"])


@dataclass(frozen=True)
class Past:
    """One earlier run."""

    traits: Traits
    tried: tuple[Tried, ...]


def pasts(turns: Sequence[Turn]) -> list[Past]:
    """What each run says. Runs that did not record their task, without a linear model, or of
    recipes that this version does not know are passed over."""
    lines: dict[Line, list[Turn]] = {}
    for turn in turns:
        lines.setdefault(turn.line, []).append(turn)
    found = [_past(told) for told in lines.values()]
    return [past for past in found if past is not None and past.tried]


def _past(told: Sequence[Turn]) -> Past | None:
    traits = next((_traits(turn) for turn in told if turn.kind is Kind.START), None)
    if traits is None or traits.kind not in KINDS:
        return None
    rounds: dict[str, list[Turn]] = {}
    for turn in told:
        scored = turn.result.error is None and all(map(math.isfinite, turn.result.scores))
        if turn.kind is Kind.TRIAL and scored and turn.result.scores:
            rounds.setdefault(turn.trial, []).append(turn)
    known = [(found, trial) for trial in rounds.values() if (found := _recipe(trial[0], traits))]
    linear = [_scores(trial) for (r, _), trial in known if r["family"] == REFERENCE]
    if not linear:
        return None
    beside = max(linear, key=lambda scores: (len(scores), sum(scores)))
    return Past(traits, tuple(_tried(r, guess, t, beside, traits) for (r, guess), t in known))


def _tried(
    found: Relative, guess_s: float, trial: Sequence[Turn], beside: Sequence[float], traits: Traits
) -> Tried:
    n = min(len(trial), len(beside))
    mine, its = (math.fsum(scores[:n]) / n for scores in (_scores(trial), beside))
    errors = max(1 - its, LEAST_ERROR)
    seconds = math.fsum(turn.result.cost.seconds for turn in trial) / len(trial)
    n_errors = errors * traits.n_rows * n / traits.n_folds
    return Tried(
        recipe=found,
        gain=min(max((mine - its) / errors, -1.0), 1.0),
        points=mine - its,
        seconds=seconds,
        pace=seconds / max(guess_s, 1e-9),
        sure=n_errors / (n_errors + HALF_SURE),
    )


def _scores(trial: Sequence[Turn]) -> list[float]:
    return [turn.result.scores[0] for turn in sorted(trial, key=lambda turn: turn.round)]


def _traits(turn: Turn) -> Traits | None:
    """None where an older version recorded nothing, or another one something else."""
    try:
        return Traits.parse(dict(turn.result.facts["task"]))
    except (KeyError, TypeError, ValueError):
        return None


def _recipe(turn: Turn, traits: Traits) -> tuple[dict[str, Any], float] | None:
    """As what sets it apart, and the seconds that its maker would have guessed."""
    try:
        spec = TextSpec.parse(dict(turn.candidate.state["model"]))
        recipe, maker = recipe_of(spec), KINDS[traits.kind].builder
        if spec.part != maker.part:
            return None
        return relative(maker, recipe, traits.shape), maker.guess_s(recipe, traits.shape)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

"""Turns as the trials that they were: what each chose, what it gained beside its champion, on what.

turns --trials_of--> rounds and settings of each trial --measured--> one gain with its pairs

Facts are a worker's words: what in them is not as it should be is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mendel.propose.settings import Settings, settings
from mendel.types import InputError, Json, Kind, Turn

Tried = tuple[Sequence[Turn], Settings]  # the rounds of a trial, and what was chosen


@dataclass(frozen=True)
class Measured:
    """One trial: what was chosen, what it gained beside its champion, and on how many pairs.

    spread   variance of a pair, where there are two or more
    beside   whose level it is measured from
    """

    chosen: Settings
    gain: float
    n_pairs: int
    spread: float | None
    beside: str


def by_trial(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The rounds of each trial among them, in the order of their first."""
    found: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.id):
        if turn.kind is Kind.TRIAL:
            found.setdefault(turn.trial or f"turn {turn.id}", []).append(turn)
    return list(found.values())


def readable(trials: Sequence[Sequence[Turn]]) -> list[Tried]:
    """Those whose recipe this mendel knows: not an older one's, nor with a plug-in's part."""
    found = []
    for rounds in trials:
        try:
            found.append((rounds, settings(rounds[0].candidate.state)))
        except InputError:
            continue
    return found


def measured(tried: Tried, n_proxies: int) -> Measured | None:
    """All pairs of a trial beside its first champion; None where it failed before any.

    A trial that was cut after some of the proxies counts as level on the others.
    """
    rounds, chosen = tried
    first = rounds[0]
    share = 1.0
    if first.result.facts.get("stage") == "race" and n_proxies:
        share = len(proxies(first)) / n_proxies
    pairs = [
        (mine - its) * share
        for turn in rounds
        if turn.champion == first.champion and turn.result.error is None
        for mine, its in zip(turn.result.scores, turn.result.baseline, strict=False)
    ]
    return _of_pairs(pairs, first, chosen)


def measured_on(name: str, tried: Tried) -> Measured | None:
    """A trial on one proxy alone; None where it was not run on it."""
    rounds, chosen = tried
    facts = [turn.result.facts for turn in rounds if turn.champion == rounds[0].champion]
    sides = [(_scores(f, "proxies").get(name, ()), _scores(f, "champion").get(name, ()))
             for f in facts]  # fmt: skip
    pairs = [mine - its for a, b in sides for mine, its in zip(a, b, strict=False)]
    return _of_pairs(pairs, rounds[0], chosen)


def proxies(turn: Turn) -> Mapping[str, Sequence[float]]:
    """Normalised scores by proxy, one a seed."""
    return _scores(turn.result.facts, "proxies")


def _scores(facts: Json, side: str) -> Mapping[str, Sequence[float]]:
    told = facts.get(side)
    if not isinstance(told, Mapping):
        return {}
    return {str(name): scores for name, scores in told.items() if _are_numbers(scores)}


def _are_numbers(scores: Any) -> bool:
    return isinstance(scores, list | tuple) and all(
        isinstance(score, int | float) and abs(score) < np.inf for score in scores
    )


def _of_pairs(pairs: Sequence[float], first: Turn, chosen: Settings) -> Measured | None:
    if not pairs or not np.isfinite(pairs).all():
        return None
    spread = float(np.var(pairs, ddof=1)) if len(pairs) > 1 else None
    beside = f"{first.line} {first.champion}"
    return Measured(chosen, float(np.mean(pairs)), len(pairs), spread, beside)

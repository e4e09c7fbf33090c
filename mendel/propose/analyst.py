"""The analyst: what all turns so far say of every field, as a turn that the proposer learns.

turns --analyse--> Insight: effects, interactions, failures, words     Driver.note_insight writes it

effects.py    the regression, and the correction for how many were looked at
settings.py   a recipe as the fields that were chosen
failures.py   what the failures have in common
ablations.py  which of a promoted design's changes carries its gain
shares.py     where wins came from
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from mendel.propose.ablations import ablations, carried_by
from mendel.propose.effects import Column, Estimate, Fit, Measured, fit, interactions
from mendel.propose.failures import Failure, failures
from mendel.propose.settings import Settings, Value, settings
from mendel.propose.shares import Shares, shares
from mendel.types import InputError, Json, Kind, Turn

__all__ = [
    "Effect", "Failure", "Insight", "Interaction", "Shares", "ablations", "analyse", "carried_by",
    "shares",
]  # fmt: skip

CLEAR = 0.025  # of effects, and as much of interactions: together at most 5 % of null histories
NEWEST = 2_000  # trials; older ones were measured beside champions that few remember
N_WORDS = 12  # lines for people about each
N_ALIKE = 3
N_PROXIES = 3  # named beside an effect

Tried = tuple[Sequence[Turn], Settings]  # the rounds of a trial, and what was chosen


@dataclass(frozen=True)
class Effect:
    """A field at a value instead of the usual one: what it adds to the score, all else held.

    field      without the layer, as in knowledge notes: mixers.erase, train.lr
    value      "x2": a number's effect for each doubling
    low high   95 % of this one effect; n: trials that had it
    p          corrected for all effects that were looked at
    by         where it is clear, its mean on each proxy: which it helps, which it costs
    """

    field: str
    value: Value
    mean: float
    low: float
    high: float
    n: int
    usual: Value = None
    p: float = 1.0
    by: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def clear(self) -> bool:
        return self.p < CLEAR

    @property
    def words(self) -> str:
        for_ = f"per doubling of {self.field}"
        if self.value != "x2":
            for_ = f"for {self.field} = {self.value} instead of {self.usual}"
        told = f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f}) {for_}, {self.n} trials"
        most = sorted(self.by, key=lambda name: (-abs(self.by[name]), name))[:N_PROXIES]
        where = ", ".join(f"{name} {self.by[name]:+.3f}" for name in most)
        return f"{told}; {where}." if where else f"{told}."


@dataclass(frozen=True)
class Interaction:
    """What two values add together, beyond what each adds alone."""

    first: tuple[str, Value]
    second: tuple[str, Value]
    mean: float
    low: float
    high: float
    n: int  # trials that had both
    p: float

    @property
    def words(self) -> str:
        (a, x), (b, y) = self.first, self.second
        told = f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        return f"{told} beyond the sum of both for {a} = {x} with {b} = {y}, {self.n} trials."


@dataclass(frozen=True)
class Insight:
    """What is known so far.

    effects        every one that could be estimated, the clearest first
    interactions   those that are clear
    words          lines for people, the summary first
    upto           the newest turn that was read
    """

    effects: tuple[Effect, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    failures: tuple[Failure, ...] = ()
    words: tuple[str, ...] = ()
    n_trials: int = 0
    n_looked_at: int = 0
    upto: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Json) -> Self:
        """Raises InputError where it is not what to_dict gives."""
        try:
            found = dict(data)
            pairs = [
                {**one, "first": tuple(one["first"]), "second": tuple(one["second"])}
                for one in found["interactions"]
            ]
            found["effects"] = tuple(Effect(**one) for one in found["effects"])
            found["interactions"] = tuple(Interaction(**one) for one in pairs)
            found["failures"] = tuple(Failure(**one) for one in found["failures"])
            found["words"] = tuple(found["words"])
            return cls(**found)
        except (KeyError, TypeError) as error:
            wanted = ", ".join(one.name for one in fields(cls))
            raise InputError(f"this is no insight: {error}. Wanted {wanted}.") from None


def analyse(turns: Sequence[Turn]) -> Insight:
    """The effect of each field, clear interactions, what failed; by the newest 2,000 trials.

    turns    of one line or of several; only trials are read, and never what is sealed
    returns  in at most 5 % of histories where no field has an effect, any is called clear
    """
    told = sorted((t for t in turns if t.kind is Kind.TRIAL), key=lambda turn: turn.id)
    trials = _by_trial(told)[-NEWEST:]
    tried = [(rounds, chosen) for rounds in trials if (chosen := _chosen(rounds[0])) is not None]
    n_proxies = max((len(_proxies(rounds[0])) for rounds, _ in tried), default=0)
    measured = [_measured(rounds, chosen, n_proxies) for rounds, chosen in tried]
    found = fit([one for one in measured if one is not None])
    pairs = interactions(found)
    failed = tuple(failures([(chosen, rounds[-1].result.error) for rounds, chosen in tried]))
    effects = _located(map(_effect, found.columns, found.estimates), tried)
    clear = [_interaction(*one) for one in pairs if one[2].p < CLEAR]
    made = Insight(
        effects=tuple(sorted(effects, key=lambda one: one.p)),
        interactions=tuple(sorted(clear, key=lambda one: one.p)),
        failures=failed,
        n_trials=len(trials),
        n_looked_at=len(effects) + len(pairs),
        upto=told[-1].id if told else 0,
    )
    return replace(made, words=tuple(_words(made, found)))


def _by_trial(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The rounds of each trial, in the order of their first."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.trial or f"turn {turn.id}", []).append(turn)
    return list(found.values())


def _chosen(turn: Turn) -> Settings | None:
    """None: a recipe that this mendel cannot read, of an older one or with a plug-in's part."""
    try:
        return settings(turn.candidate.state)
    except InputError:
        return None


def _proxies(turn: Turn) -> Mapping[str, Sequence[float]]:
    found: Mapping[str, Sequence[float]] = turn.result.facts.get("proxies", {})
    return found


def _measured(rounds: Sequence[Turn], chosen: Settings, n_proxies: int) -> Measured | None:
    """All pairs of a trial beside its first champion; None where it failed before any.

    A trial that was cut after some of the proxies counts as level on the others.
    """
    first = rounds[0]
    share = 1.0
    if first.result.facts.get("stage") == "race" and n_proxies:
        share = len(_proxies(first)) / n_proxies
    pairs = [
        (mine - its) * share
        for turn in rounds
        if turn.champion == first.champion and turn.result.error is None
        for mine, its in zip(turn.result.scores, turn.result.baseline, strict=False)
    ]
    return _of_pairs(pairs, first, chosen)


def _of_pairs(pairs: Sequence[float], first: Turn, chosen: Settings) -> Measured | None:
    if not pairs or not np.isfinite(pairs).all():
        return None
    spread = float(np.var(pairs, ddof=1)) if len(pairs) > 1 else None
    beside = f"{first.line} {first.champion}"
    return Measured(chosen, float(np.mean(pairs)), len(pairs), spread, beside)


def _located(effects: Iterable[Effect], tried: Sequence[Tried]) -> list[Effect]:
    """The clear ones with what they do on each proxy; one number each, which claims nothing."""
    found = list(effects)
    if not any(effect.clear for effect in found):
        return found
    means: dict[tuple[str, Value, Value], dict[str, float]] = {}
    for name in sorted({name for rounds, _ in tried for name in _proxies(rounds[0])}):
        measured = [_measured_on(name, rounds, chosen) for rounds, chosen in tried]
        on = fit([one for one in measured if one is not None])
        for column, estimate in zip(on.columns, on.estimates, strict=True):
            means.setdefault((column.field, column.value, column.usual), {})[name] = estimate.mean
    return [
        replace(one, by=means.get((one.field, one.value, one.usual), {})) if one.clear else one
        for one in found
    ]


def _measured_on(name: str, rounds: Sequence[Turn], chosen: Settings) -> Measured | None:
    """A trial on one proxy alone; None where it was not run on it."""
    first = rounds[0]
    facts = [turn.result.facts for turn in rounds if turn.champion == first.champion]
    sides = [
        (f.get("proxies", {}).get(name, ()), f.get("champion", {}).get(name, ())) for f in facts
    ]
    pairs = [mine - its for a, b in sides for mine, its in zip(a, b, strict=False)]
    return _of_pairs(pairs, first, chosen)


def _effect(column: Column, e: Estimate) -> Effect:
    return Effect(
        column.field, column.value, e.mean, e.low, e.high, column.n, column.usual, e.p
    )  # fmt: skip


def _interaction(a: Column, b: Column, e: Estimate, n: int) -> Interaction:
    return Interaction((a.field, a.value), (b.field, b.value), e.mean, e.low, e.high, n, e.p)


def _words(made: Insight, found: Fit) -> Iterator[str]:
    """The summary, then what is clear, then what cannot be known yet."""
    clear = [effect for effect in made.effects if effect.clear]
    n_clear = len(clear) + len(made.interactions)
    yield (
        f"{made.n_trials} trials, {sum(one.n for one in made.failures)} failed; of "
        f"{made.n_looked_at} effects and pairs of them {n_clear} are clear."
    )
    yield from (effect.words for effect in clear[:N_WORDS])
    yield from (pair.words for pair in made.interactions[:N_WORDS])
    yield from (failure.words for failure in made.failures[:N_WORDS])
    for column, other in found.alike[:N_ALIKE]:
        yield (
            f"{column.field} = {column.value} and {other.field} = {other.value} came together: "
            "what each adds cannot be told."
        )

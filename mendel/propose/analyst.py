"""The analyst: what all turns so far say of every field, as a turn that the proposer learns.

turns --analyse--> Insight: effects, interactions, failures, words     Driver.note_insight writes it

measured.py   turns as trials
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

from mendel.propose.ablations import Carried, ablations, carried, carried_by
from mendel.propose.effects import Column, Estimate, Fit, fit, interactions
from mendel.propose.failures import Failure, failures
from mendel.propose.measured import Tried, by_trial, measured, measured_on, proxies, readable
from mendel.propose.settings import Value
from mendel.propose.shares import Shares, shares
from mendel.types import InputError, Json, Turn

__all__ = [
    "Carried", "Effect", "Failure", "Insight", "Interaction", "Shares", "ablations", "analyse",
    "carried_by",
    "shares",
]  # fmt: skip

# of effects, and as much of interactions: 3 % of histories where nothing was chosen by its score,
# and below 5 % where a search followed its own noise, which inflates both
CLEAR = 0.015
NEWEST = 2_000  # trials; older ones were measured beside champions that few remember
N_WORDS = 12  # lines for people about each
N_ALIKE = 3
N_PROXIES = 3  # named beside an effect
NO_WIN = Shares()


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
    carried        of each promoted design whose changes were put back
    wins           where they came from
    words          lines for people, the summary first
    upto           the newest turn that was read
    """

    effects: tuple[Effect, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    failures: tuple[Failure, ...] = ()
    carried: tuple[Carried, ...] = ()
    wins: Shares = NO_WIN
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
            found["carried"] = tuple(
                Carried(one["turn"], tuple(one["fields"]), one["n_back"])
                for one in found["carried"]
            )
            found["wins"] = Shares(**found["wins"])
            found["words"] = tuple(found["words"])
            return cls(**found)
        except (KeyError, TypeError) as error:
            wanted = ", ".join(one.name for one in fields(cls))
            raise InputError(f"this is no insight: {error}. Wanted {wanted}.") from None


def analyse(turns: Sequence[Turn]) -> Insight:
    """The effect of each field, clear interactions, what failed, what carries a promoted design.

    turns    of one line or of several; only trials are read, and never what is sealed. Effects
             and failures are those of the newest 2,000
    returns  in at most 5 % of histories anything is called clear that is not so; searches that
             follow their own noise were simulated too
    """
    trials = by_trial(turns)
    tried = readable(trials[-NEWEST:])
    n_proxies = max((len(proxies(rounds[0])) for rounds, _ in tried), default=0)
    found = fit([one for each in tried if (one := measured(each, n_proxies)) is not None])
    pairs = interactions(found)
    effects = _located(map(_effect, found.columns, found.estimates), tried)
    clear = [_interaction(*one) for one in pairs if one[2].p < CLEAR]
    failed = failures([(chosen, rounds[-1].result.error) for rounds, chosen in tried])
    made = Insight(
        effects=tuple(sorted(effects, key=lambda one: one.p)),
        interactions=tuple(sorted(clear, key=lambda one: one.p)),
        failures=tuple(failed),
        carried=tuple(carried(turns)),
        wins=shares(turns),
        n_trials=len(trials),
        n_looked_at=len(effects) + len(pairs),
        upto=max((turn.id for rounds in trials for turn in rounds), default=0),
    )
    return replace(made, words=tuple(_words(made, found)))


def _located(effects: Iterable[Effect], tried: Sequence[Tried]) -> list[Effect]:
    """The clear ones with what they do on each proxy; one number each, which claims nothing."""
    found = list(effects)
    if not any(effect.clear for effect in found):
        return found
    means: dict[tuple[str, Value, Value], dict[str, float]] = {}
    for name in sorted({name for rounds, _ in tried for name in proxies(rounds[0])}):
        on = fit([one for each in tried if (one := measured_on(name, each)) is not None])
        for column, estimate in zip(on.columns, on.estimates, strict=True):
            means.setdefault((column.field, column.value, column.usual), {})[name] = estimate.mean
    return [
        replace(one, by=means.get((one.field, one.value, one.usual), {})) if one.clear else one
        for one in found
    ]


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
    yield from (one.words for one in made.carried[-N_WORDS:])
    if made.wins.n_wins:
        yield made.wins.words
    yield from (failure.words for failure in made.failures[:N_WORDS])
    for column, other in found.alike[:N_ALIKE]:
        yield (
            f"{column.field} = {column.value} and {other.field} = {other.value} came together: "
            "what each adds cannot be told."
        )

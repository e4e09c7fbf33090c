"""One round of a trial: race, screen or confirmation.

race (one tuning seed, proxy by proxy, cut when behind) -> screen (seeds of the line) -> told
confirmation: fresh seeds, both sides side by side
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mendel import judge
from mendel.clocks.research.bench import Bench, number
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.suite import Leg, Suites, rounded
from mendel.spec import Recipe
from mendel.types import Decision, Digest

N_ROUND = 4  # pairs of each round of a confirmation
SLACK = 0.05  # that a mean may be behind the champion's after one proxy; after k of them, SLACK / k


@dataclass(frozen=True)
class Bar:
    """What a challenger has to show on its way to the end of its screen.

    Simulated with seeds as far apart as real ones (`benchmarks/research.py power`), beside four
    seeds, a gain of .01, one training each and no look on the way: half as many again of large
    gains go on to a confirmation, half as many of those that are none, for 3 to 6 % more seconds
    of a screen. A gain below .03 of the mean would need more pairs than a confirmation has.
    """

    n_seeds: int  # of the screen
    gain: float  # whoever is not ahead by it after all of a race, or on a screen so far, is cut
    again: int = 1  # times as many trainings of a champion, which meets all challengers with them
    look: int = 0  # after so many seeds t is looked at as well; 0: only at the end
    min_t: float = 1.0  # at that look


SCREEN = Bar(6, 0.03, again=2, look=4)
SELECTION = Bar(4, 0.0)  # of the menu, by point estimate


@dataclass(frozen=True)
class Seeds:
    """One to tune and race on, some to screen on; a champion has seeds of its own, that it was not
    chosen by: else it would be hard to beat where it was lucky."""

    tuning: int
    screen: tuple[int, ...]

    @classmethod
    def of(cls, line: Digest, what: str, after: str = "") -> Seeds:
        """Those of a name.

        after   a trial: the screen is on seeds of its confirmation, where its champion is known
        """
        if after:
            screen = tuple(seed for i in (1, 2) for seed in fresh(after, i))[: SCREEN.n_seeds]
        else:
            screen = numbers(SCREEN.n_seeds, line, what, "screen")
        return cls(number(line, what, "tuning"), screen)

    def asked(self, suites: Suites) -> list[tuple[Leg, int]]:
        """What a race and a screen may train either side on."""
        pairs = [(leg, seed) for leg in suites.screen for seed in self.screen]
        more = [(leg, each) for leg, s in pairs for each in trainings(leg, s, SCREEN.again)]
        return [*((leg, self.tuning) for leg in suites.race), *more]


def numbers(n: int, *names: str) -> tuple[int, ...]:
    return tuple(number(*names, str(i)) for i in range(n))


def fresh(trial: str, round: int) -> tuple[int, ...]:
    """Seeds of one round of a confirmation, which nobody met before."""
    return numbers(N_ROUND, trial, str(round))


def trainings(leg: Leg, seed: int, times: int = 1) -> tuple[int, ...]:
    """Seeds that a side is trained on for one pair: the pair's, and others where a leg asks more.

    times   more of them, where more than one is asked
    """
    n = leg.n_trainings * (times if leg.n_trainings > 1 else 1)
    return (seed, *(number(str(seed), str(i)) for i in range(1, n)))


@dataclass
class Sheet:
    """What one round measured: both sides, proxy by proxy and seed by seed."""

    suites: Suites
    stage: str
    mine: dict[str, list[float]] = field(default_factory=dict)
    its: dict[str, list[float]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)  # the first seed's, for the facts
    trained: dict[str, tuple[int, int]] = field(default_factory=dict)  # times a pair, of each side
    repairs: list[str] = field(default_factory=list)
    flops: float = 0.0
    error: str | None = None
    cut: str = ""

    def add(self, leg: Leg, mine: Sequence[Measured], its: Sequence[Measured]) -> None:
        """A pair's trainings; a challenger that failed one ends the round, a champion that did is
        worth a guess there."""
        self.measured.setdefault(leg.name, mine[0])
        self.trained[leg.name] = len(mine), len(its)
        self.repairs += [repair for each in mine for repair in each.repairs]
        self.flops += sum(each.flops for each in mine)
        scores = [each.score for each in mine if each.error is None and each.score is not None]
        if len(scores) < len(mine):
            self.error = f"{leg.name}: {mine[-1].error or 'there is no score'}"
            return
        known = [each.score for each in its if each.score is not None]
        if len(known) < len(its):
            self.repairs.append(f"{leg.name}: the champion failed and counts as a guess")
        self.mine.setdefault(leg.name, []).append(fmean(scores))
        self.its.setdefault(leg.name, []).append(sum(known) / len(its))

    @property
    def scores(self) -> tuple[float, ...]:
        return self.suites.mean(self.mine)

    @property
    def baseline(self) -> tuple[float, ...]:
        return self.suites.mean(self.its)

    @property
    def behind(self) -> float:
        """How far the mean over the seeds so far is behind; below 0: ahead."""
        return fmean(self.baseline) - fmean(self.scores)

    def facts(self) -> dict[str, Any]:
        """As the contract of a research turn has them; costs and audit are the clock's."""
        found = self.measured
        told: dict[str, Any] = rounded(
            {
                "stage": self.stage,
                "proxies": self.mine,
                "champion": self.its,
                "trained": self.trained,
                "suites": self.suites.by_suite(self.mine),
                "lr": {name: each.factor for name, each in found.items()},
                "steps": {name: each.n_steps for name, each in found.items()},
                "curves": {name: each.curve for name, each in found.items()},
                "repairs": self.repairs,
                "cut": self.cut,
            }
        )
        return told


@dataclass(frozen=True)
class Pairs:
    """Both sides of a trial, and how either is trained on a seed of a leg."""

    mine: Recipe
    its: Recipe
    train: Callable[[Recipe, Leg, int], Measured]

    def add(self, sheet: Sheet, leg: Leg, seed: int, times: int = 1) -> None:
        """One pair of a leg; the champion is not trained where the challenger failed."""
        ours: list[Measured] = []
        for each in trainings(leg, seed):
            ours.append(self.train(self.mine, leg, each))
            if ours[-1].error is not None or ours[-1].score is None:
                return sheet.add(leg, ours, [])
        again = trainings(leg, seed, times)
        return sheet.add(leg, ours, [self.train(self.its, leg, each) for each in again])

    def add_all(self, sheet: Sheet, legs: Sequence[Leg], seed: int, times: int = 1) -> None:
        for leg in legs:
            self.add(sheet, leg, seed, times)
            if sheet.error is not None:
                return


def first_round(bench: Bench, mine: Recipe, its: Recipe, seeds: Seeds, bar: Bar = SCREEN) -> Sheet:
    """Race, then screen; whoever is behind is cut, and the sheet is of the stage it came to."""
    pairs = Pairs(mine, its, lambda who, leg, seed: bench.tuned(who, leg, seed, seeds.tuning))
    race = _race(pairs, bench.suites, seeds.tuning, bar.gain)
    if race.error is not None or race.cut:
        return race
    screen = Sheet(bench.suites, "screen", repairs=race.repairs, flops=race.flops)
    for seed in seeds.screen[: bar.n_seeds]:
        pairs.add_all(screen, bench.suites.screen, seed, bar.again)
        if screen.error is None:
            screen.cut = _why_cut(screen, bar)
        if screen.error is not None or screen.cut:
            return screen
    screen.measured |= race.measured  # curves of the seed that was tuned on
    return screen


def _race(pairs: Pairs, suites: Suites, seed: int, gain: float) -> Sheet:
    sheet, legs = Sheet(suites, "race"), suites.race
    for n, leg in enumerate(legs, 1):
        pairs.add(sheet, leg, seed)
        if sheet.error is not None:
            return sheet
        if sheet.behind > (SLACK / n if n < len(legs) else -gain):
            sheet.cut = f"{-sheet.behind:+.3f} after {n} of {len(legs)} proxies"
            return sheet
    return sheet


def _why_cut(screen: Sheet, bar: Bar) -> str:
    """Why it goes no further; empty where it does, or has come to its end."""
    n = len(screen.scores)
    if n == bar.n_seeds:
        return ""
    if screen.behind > -bar.gain:
        return f"{-screen.behind:+.3f} after {n} of {bar.n_seeds} seeds"
    if n == bar.look:
        found = judge.screen(screen.scores, screen.baseline, min_t=bar.min_t)
        if found.decision is Decision.DISCARD:
            return f"{found.reason}, after {n} of {bar.n_seeds} seeds"
    return ""


def confirmation(
    bench: Bench, mine: Recipe, its: Recipe, seeds: Sequence[int], tuning: int
) -> Sheet:
    """Seeds of this round alone, kept so that a killed one goes on; at the rates of each race.

    tuning   the seed on which a rate is swept that is not known here
    """

    def train(who: Recipe, leg: Leg, seed: int) -> Measured:
        return bench.kept(who, leg, seed, _factor(bench, who, leg, tuning))

    pairs, sheet = Pairs(mine, its, train), Sheet(bench.suites, "confirm")
    for seed in seeds:
        pairs.add_all(sheet, bench.suites.confirm, seed)
        if sheet.error is not None:
            return sheet
    return sheet


def _factor(bench: Bench, recipe: Recipe, leg: Leg, tuning: int) -> float:
    known = bench.factor(recipe, leg.suite, tuning)
    if known is not None:
        return known
    swept = next(other for other in bench.suites.race if other.suite == leg.suite and other.swept)
    return bench.tuned(recipe, swept, tuning, tuning).factor

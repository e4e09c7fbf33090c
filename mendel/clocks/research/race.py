"""One round of a trial: race, screen or confirmation.

race (one tuning seed, proxy by proxy, cut when behind) -> screen (seeds of the line) -> told
confirmation: fresh seeds, both sides side by side
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mendel.clocks.research.bench import Bench, number
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.suite import Leg, Suites, rounded
from mendel.spec import Recipe
from mendel.types import Digest

N_SCREEN = 4  # seeds; as many again in each round of a confirmation
SLACK = 0.05  # that a mean may be behind the champion's after one proxy; after k of them, SLACK / k
GAIN = 0.01  # whoever is not ahead by it after all of a race, or on a screen so far, is cut


@dataclass(frozen=True)
class Seeds:
    """One to tune and race on, some to screen on; a champion has seeds of its own, that it was not
    chosen by: else it would be hard to beat where it was lucky."""

    tuning: int
    screen: tuple[int, ...]

    @classmethod
    def of(cls, line: Digest, what: str) -> Seeds:
        return cls(number(line, what, "tuning"), numbers(line, what, "screen"))


def numbers(*names: str) -> tuple[int, ...]:
    return tuple(number(*names, str(i)) for i in range(N_SCREEN))


@dataclass
class Sheet:
    """What one round measured: both sides, proxy by proxy and seed by seed."""

    suites: Suites
    stage: str
    mine: dict[str, list[float]] = field(default_factory=dict)
    its: dict[str, list[float]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)  # the first seed's, for the facts
    repairs: list[str] = field(default_factory=list)
    flops: float = 0.0
    error: str | None = None
    cut: str = ""

    def add(self, leg: Leg, mine: Measured, its: Measured | None) -> None:
        """A challenger that failed ends the round; a champion that did is worth a guess."""
        self.measured.setdefault(leg.name, mine)
        self.repairs += mine.repairs
        self.flops += mine.flops
        if mine.error is not None or mine.score is None:
            self.error = f"{leg.name}: {mine.error or 'there is no score'}"
            return
        score = 0.0
        if its is not None and its.score is not None:
            score = its.score
        else:
            self.repairs.append(f"{leg.name}: the champion failed and counts as a guess")
        self.mine.setdefault(leg.name, []).append(mine.score)
        self.its.setdefault(leg.name, []).append(score)

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
                "suites": self.suites.by_suite(self.mine),
                "lr": {name: each.factor for name, each in found.items()},
                "steps": {name: each.n_steps for name, each in found.items()},
                "curves": {name: each.curve for name, each in found.items()},
                "repairs": self.repairs,
                "cut": self.cut,
            }
        )
        return told


def first_round(bench: Bench, mine: Recipe, its: Recipe, seeds: Seeds, gain: float = GAIN) -> Sheet:
    """Race, then screen; whoever is behind is cut, and the sheet is of the stage it came to.

    gain     to be ahead by; a selection asks for none
    """
    race = _race(bench, mine, its, seeds.tuning, gain)
    if race.error is not None or race.cut:
        return race
    screen = Sheet(bench.suites, "screen", repairs=race.repairs, flops=race.flops)
    for n, seed in enumerate(seeds.screen, 1):
        _one_seed(screen, bench, mine, its, seed, seeds.tuning)
        if screen.error is not None:
            return screen
        if n < N_SCREEN and screen.behind > -gain:
            screen.cut = f"{-screen.behind:+.3f} after {n} of {N_SCREEN} seeds"
            return screen
    screen.measured |= race.measured  # curves of the seed that was tuned on
    return screen


def _race(bench: Bench, mine: Recipe, its: Recipe, seed: int, gain: float) -> Sheet:
    sheet, legs = Sheet(bench.suites, "race"), bench.suites.race
    for n, leg in enumerate(legs, 1):
        ours = bench.tuned(mine, leg, seed, seed)
        sheet.add(leg, ours, bench.tuned(its, leg, seed, seed) if ours.error is None else None)
        if sheet.error is not None:
            return sheet
        if sheet.behind > (SLACK / n if n < len(legs) else -gain):
            sheet.cut = f"{-sheet.behind:+.3f} after {n} of {len(legs)} proxies"
            return sheet
    return sheet


def _one_seed(
    sheet: Sheet, bench: Bench, mine: Recipe, its: Recipe, seed: int, tuning: int
) -> None:
    for leg in bench.suites.screen:
        ours = bench.tuned(mine, leg, seed, tuning)
        theirs = bench.tuned(its, leg, seed, tuning) if ours.error is None else None
        sheet.add(leg, ours, theirs)
        if sheet.error is not None:
            return


def confirmation(
    bench: Bench, mine: Recipe, its: Recipe, seeds: Sequence[int], tuning: int
) -> Sheet:
    """Seeds of this round alone, kept so that a killed one goes on; at the rates of each race.

    tuning   the seed on which a rate is swept that is not known here
    """
    sheet = Sheet(bench.suites, "confirm")
    for seed in seeds:
        for leg in bench.suites.confirm:
            ours = bench.kept(mine, leg, seed, _factor(bench, mine, leg, tuning))
            theirs = None
            if ours.error is None:
                theirs = bench.kept(its, leg, seed, _factor(bench, its, leg, tuning))
            sheet.add(leg, ours, theirs)
            if sheet.error is not None:
                return sheet
    return sheet


def _factor(bench: Bench, recipe: Recipe, leg: Leg, tuning: int) -> float:
    known = bench.factor(recipe, leg.suite, tuning)
    if known is not None:
        return known
    swept = next(other for other in bench.suites.race if other.suite == leg.suite and other.swept)
    return bench.tuned(recipe, swept, tuning, tuning).factor

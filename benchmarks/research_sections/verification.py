"""What a verification costs, finds and gets wrong: contests, judge and stopping real, scores drawn.

The menu is the real one. A design's score on a proxy is drawn around a level by how it remembers,
erases and forgets (as measured on the open proxies), and an offset of its own; a seed costs what it
has cost. Two worlds of parity: torn, learned or not by chance, a pair's deviation about .4; quiet.

power   the recipe is the best of the menu and a gain on each proxy: core hours, share won
false   the recipe's mean is that of a design in one condition: how often that one is taken for
        beaten. alike: the same distribution; steady: parity always learned in part, never by
        luck; rare: the design fails a proxy of recall on one seed in ten, and makes up for it;
        surprise: a proxy of recall, which nobody takes for torn, is learned on one seed in two;
        hidden: the recipe learns it on four in ten, the design on nine, which has less elsewhere
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mendel.clocks.research import card
from mendel.clocks.research.bench import Bench
from mendel.clocks.research.contest import MINE, Contest
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.suite import Leg
from mendel.clocks.research.terms import SECONDS, Terms, noise_of, terms_of
from mendel.clocks.research.twins import CONDITIONS, Condition, Twins
from mendel.clocks.research.verify import contenders
from mendel.data.proxies import TWINS
from mendel.propose.archive import cell_of
from mendel.propose.menu import Named
from mendel.spec import Recipe
from mendel.types import Account
from research_sections.drawn import SUITES, Menu
from research_sections.rows import Row

GAINS = (0.03, 0.05, 0.1)
WORLDS = ("torn", "quiet")
SHAPES = ("alike", "steady", "rare", "surprise", "hidden")
N_BEGUN, N_KEPT = 2, 1  # confirmations of the line before: a run of an hour has about as many
OPEN = {twin: name for name, (twin, _) in TWINS.items()}
TIMES = {"as found": 1.0, "2x width": 1.6, "2x tokens": 2.0}  # of a seed's seconds
SWEEP = 5 / 3  # what a seed costs on which a rate is swept

# delta rule, decay from the data alone, signed delta rule: seconds preset, seed 0 (suite.py)
LEVELS: Mapping[str, tuple[float, float, float]] = {
    "word_z60": (0.55, 0.85, 0.68), "compression": (0.23, 0.33, 0.22),
    "overwritten_recall": (0.99, 0.02, 0.99), "memorisation": (0.94, 1.00, 0.81),
    "word_a5": (0.67, 0.67, 0.69), "selective_copying": (0.35, 0.21, 0.25),
    "mqar": (1.00, 0.02, 0.99), "in_context_recall": (1.00, 0.25, 0.98),
    "word_s5": (0.60, 0.60, 0.62), "noisy_recall": (0.8, 0.1, 0.8),
    "fuzzy_recall": (0.4, 0.1, 0.4), "parity": (0.0, 0.0, 0.94),
}  # fmt: skip
N_WORKERS = 2
OWN, QUIET = 0.05, (0.015, 0.05)  # offset of a design on a proxy; deviation over seeds of one
LEARNED = 0.94  # parity, where a seed learns it
RARE, FAILS = "overwritten_recall", 0.1
HIDDEN, WEIGHT = (0.4, 0.9), 1 / 16  # who learns it how often: recipe, design; its weight


@dataclass
class World:
    """Scores by design, proxy, condition and seed; `mine` is the best of the menu and a gain."""

    conditions: Sequence[Condition]
    kind: str
    seed: int
    gain: float = 0.0
    shape: str = "alike"

    @cached_property
    def names(self) -> dict[str, str]:
        """Of recipes, in any condition."""
        found = {each.recipe.hash: each.name for c in self.conditions for each in c.rivals}
        return {**found, **{c.mine.hash: MINE for c in self.conditions}}

    @cached_property
    def truth(self) -> dict[str, dict[str, float]]:
        first = self.conditions[0]
        found = {each.name: self._levels(each, first) for each in first.rivals}
        best = max(found, key=lambda name: first.twins.mean(_listed(found[name]))[0])
        found[MINE] = {name: value + self.gain for name, value in found[best].items()}
        return found

    @cached_property
    def sd(self) -> dict[str, float]:
        draw = random.Random(f"sd {self.seed}")
        return {name: draw.uniform(*QUIET) for name in TWINS}

    def _levels(self, design: Named, condition: Condition) -> dict[str, float]:
        erases = cell_of(design.recipe, condition.caps).erases
        like = 2 if erases == "signed" else 0 if erases != "no" else 1
        draw = random.Random(f"{self.seed} {design.name}")
        found = {}
        for twin in (leg.name for leg in condition.twins.whole):
            level = LEVELS[OPEN[twin]][like] + draw.gauss(0, OWN)
            if OPEN[twin] == "parity" and self.kind == "torn":
                level = LEARNED * draw.uniform(0.3, 0.9) if like == 2 else 0.0
            found[twin] = min(0.99, level)
        return found

    def score(self, name: str, twin: str, seed: int, where: str) -> float:
        proxy, mean = OPEN[twin], self.truth[name][twin]
        draw = random.Random(f"{self.seed} {name} {twin} {seed} {where}")
        steady = self.shape == "steady" and name == MINE
        if proxy == "parity" and self.kind == "torn" and not steady:
            mean = LEARNED * (draw.random() < mean / LEARNED)
        if self.shape == "rare" and proxy == RARE and name != MINE:
            mean = 0.05 if draw.random() < FAILS else (mean - 0.05 * FAILS) / (1 - FAILS)
        if self.shape == "surprise" and proxy == RARE:
            mean = LEARNED * (draw.random() < 0.5)
        if self.shape == "hidden" and proxy == RARE:
            mean = LEARNED * (draw.random() < HIDDEN[name != MINE])
        elif self.shape == "hidden" and name == MINE:
            mean -= LEARNED * (HIDDEN[0] - HIDDEN[1]) * WEIGHT / (1 - WEIGHT)
        return mean + draw.gauss(0, self.sd[proxy])


def _listed(table: Mapping[str, float]) -> dict[str, list[float]]:
    return {name: [value] for name, value in table.items()}


class DrawnBench(Bench):
    """Scores of a world instead of training; seconds as they were measured."""

    world: World
    where: str

    def tuned(self, recipe: Recipe, leg: Leg, seed: int, tuning: int) -> Measured:
        return self._drawn(recipe, leg, seed, SWEEP if leg.swept else 1.0)

    def kept(self, recipe: Recipe, leg: Leg, seed: int, factor: float) -> Measured:
        return self._drawn(recipe, leg, seed, 1.0)

    def factor(self, recipe: Recipe, suite: str, tuning: int) -> float:
        return 1.0

    def _drawn(self, recipe: Recipe, leg: Leg, seed: int, times: float) -> Measured:
        name = self.world.names[recipe.hash]
        seconds = TIMES[self.where] * SECONDS[OPEN[leg.name]] * times
        score = self.world.score(name, leg.name, seed, self.where)
        return Measured.model_construct(factor=1.0, score=score, seconds=seconds, error=None)


def settings(menu: Menu, n: int | None = None) -> list[Condition]:
    """The three conditions with the real menu; its first n designs where that is said."""
    found = []
    for name, (_, tokens) in CONDITIONS.items():
        twins = Twins.of(SUITES, tokens)
        train = menu.start.train.model_copy(update={"weight_decay": 1e-3})
        mine = menu.start.model_copy(update={"train": train})
        found.append(Condition(name, twins, menu.caps, mine, menu.designs[:n]))
    return found


def held_to(kind: str) -> Terms:
    """As of a line that has seen the noise of what it screens and confirms."""
    noise = noise_of([], SUITES.whole)
    noise["parity"] = 0.4 if kind == "torn" else noise["word_z60"]
    return terms_of(noise, SUITES, Account(n_begun=N_BEGUN, n_kept=N_KEPT))


def fought(
    world: World, condition: Condition, terms: Terms, **more: Any
) -> tuple[Contest, float, float]:
    """A contest to its end, and its core seconds, and those of two workers beside each other."""
    DrawnBench.world, DrawnBench.where = world, condition.name
    contest = Contest(condition, Path(f"nowhere/{world.seed}"), terms, **more)
    spent = wall = 0.0
    while jobs := contest.wanted:
        cards = [card.measured(job) for job in jobs]
        spent += sum(each.seconds for each in cards)
        wall += beside(each.seconds for each in cards)
        contest.add(cards)
    return contest, spent, wall


def beside(seconds: Iterable[float]) -> float:
    """Until the last is done, of two workers that take the next one in order."""
    free = [0.0] * N_WORKERS
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def verified(world: World, terms: Terms, everywhere: bool) -> tuple[bool, float, float, int]:
    """Condition by condition, as verify has it: won, core hours, hours of two workers, judged."""
    spent, wall, judged, near, only = 0.0, 0.0, 0, list[str](), None
    for i, condition in enumerate(world.conditions):
        contest, seconds, passed = fought(world, condition, terms, favourites=near, only=only)
        spent, wall = spent + seconds / 3600, wall + passed / 3600
        judged = judged or len(contest.near)
        if contest.stopper is not None:
            return False, spent, wall, judged
        near = contest.near
        if i == 0 and not everywhere:
            only = contenders(contest, ())
    return True, spent, wall, judged


def power(menu: Menu, n: int, kind: str, gain: float, everywhere: bool) -> Row:
    conditions, held = settings(menu), held_to(kind)
    found = [verified(World(conditions, kind, i, gain), held, everywhere) for i in range(n)]
    hours = sorted(each[1] for each in found if each[0]) or [float("nan")]
    walls = sorted(each[2] for each in found if each[0]) or [float("nan")]
    lost = [each[1] for each in found if not each[0]]
    return {
        "won": round(statistics.fmean(each[0] for each in found), 3),
        "core hours of a win, median": round(statistics.median(hours), 2),
        "of a win, 90 %": round(hours[int(0.9 * (len(hours) - 1))], 2),
        "wins within 4 core hours": round(sum(h <= 4 for h in hours) / len(hours), 2),
        "two workers' hours, median": round(statistics.median(walls), 2),
        "wins within 2 of those": round(sum(h <= 2 for h in walls) / len(walls), 2),
        "of a loss, median": round(statistics.median(lost), 2) if lost else None,
        "judged as found, median": statistics.median(each[3] for each in found),
    }


def false(menu: Menu, n: int, kind: str, shape: str) -> Row:
    """One design of the same mean, in one condition."""
    condition, held = settings(menu)[0], held_to(kind)
    signed = next(each for each in menu.designs if each.name == "delta_net_signed")
    alone = replace(condition, menu=(signed,))
    taken = 0
    for i in range(n):
        contest, *_ = fought(World([alone], kind, i, 0.0, shape), alone, held)
        taken += contest.stopper is None
    return {"taken for beaten": taken, "of": n, "share": taken / n, "level": round(held.level, 5)}


def verification(options: argparse.Namespace) -> dict[str, Any]:
    """--runs verifications of each world and gain, ten times as many against a level design."""
    menu, found = Menu(), dict[str, Any]()
    real, card.Bench = card.Bench, DrawnBench  # type: ignore[misc]
    try:
        for kind in WORLDS:
            print(kind, held_to(kind), flush=True)
            for shape in SHAPES:
                key = f"false, {kind}, {shape}"
                found[key] = false(menu, 10 * options.runs, kind, shape)
                print(key, found[key], flush=True)
            for gain in GAINS:
                for everywhere in (False, True):
                    key = f"{kind}, +{gain:g}" + (", all designs at each size" * everywhere)
                    found[key] = power(menu, options.runs, kind, gain, everywhere)
                    print(key, found[key], flush=True)
    finally:
        card.Bench = real  # type: ignore[misc]
    return found


SECTIONS = {"verification": verification}

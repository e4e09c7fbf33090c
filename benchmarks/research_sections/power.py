"""What a trial costs and finds: planted gains, from the race to the end of a confirmation.

Race, screen, confirmation and judge are the real ones, training is a draw: parity is learned or
not, other proxies are Gaussian, each as far apart from seed to seed as in a real run. Two rules are
played, that of the code and the one before it. Whether a gain is a trade is not asked.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mendel import judge
from mendel.clocks.research.measure import FACTORS, THIRD, Measured
from mendel.clocks.research.race import SCREEN, Bar, Seeds, confirmation, first_round, fresh
from mendel.clocks.research.request import START
from mendel.clocks.research.suite import CONFIRM, Leg, Suites
from mendel.clocks.research.verdict import MIN_T, max_pairs
from mendel.evidence import next_level
from mendel.spec import Recipe
from mendel.types import Account, Candidate, Champion, Decision, Digest, Line, Result, Trial
from research_sections.drawn import DrawnBench, World
from research_sections.rows import Row

LEARNED, NOT, SHARE = 0.97, 0.15, 0.6  # of parity: what a seed scores, and how many learn it
SD = {"word_z60": 0.05, "overwritten_recall": 0.05, "word_a5": 0.02}  # over seeds
QUIET = 0.03  # of all others
SECONDS = {  # of a training in full (suite.py)
    "word_z60": 7, "compression": 6, "overwritten_recall": 12, "parity": 14, "memorisation": 8,
    "word_a5": 7, "selective_copying": 13,
}  # fmt: skip
N_REIGNS, N_CONFIRMED = 60, 150
N_BEGUN = 3  # confirmations before, of the line whose level is taken
MINE, ITS = START, START.model_copy()  # told apart by being two objects
KINDS: dict[str, dict[str, float]] = {
    "no gain": {},
    "worse by .03 everywhere": dict.fromkeys(SECONDS, -0.03),
    "parity .2": {"parity": 0.2},
    "word_z60 .03": {"word_z60": 0.03},
    ".03 everywhere": dict.fromkeys(SECONDS, 0.03),
    "parity .2, .03 elsewhere": {**dict.fromkeys(SECONDS, 0.03), "parity": 0.2},
}


class Before(Suites):
    """Each proxy trained once a pair, and selective copying in a confirmation."""

    def _legs(self, order: Sequence[str]) -> tuple[Leg, ...]:
        return tuple(replace(leg, n_trainings=1) for leg in super()._legs(order))

    @cached_property
    def confirm(self) -> tuple[Leg, ...]:
        return self.screen + self._legs((*CONFIRM, "selective_copying"))


@dataclass(frozen=True)
class Rule:
    """How challengers are screened, and on what."""

    suites: Suites
    bar: Bar


RULES = {"before": Rule(Before(), Bar(4, 0.01)), "now": Rule(Suites(), SCREEN)}


class Gained(World):
    """Challengers score higher by what is planted; a champion's name begins with "its"."""

    def __init__(self, gains: Mapping[str, float]) -> None:
        super().__init__("even", 0)
        self.gains = gains

    def score(self, design: Digest, proxy: str, n_steps: int, seed: int) -> float:
        draw = random.Random(f"{design} {proxy} {n_steps} {seed}")
        gain = 0.0 if design.startswith("its") else self.gains.get(proxy, 0.0)
        if proxy == "parity":
            return LEARNED if draw.random() < SHARE + gain / (LEARNED - NOT) else NOT
        return min(1.0, draw.gauss(0.5 + gain, SD.get(proxy, QUIET)))


class CostedBench(DrawnBench):
    """Counts the seconds of trainings that were not done before."""

    def __init__(self, rule: Rule, world: World) -> None:
        super().__init__(Path(), world)
        self.suites, self.seconds, self.known = rule.suites, 0.0, set[Any]()

    def called(self, mine: str, its: str) -> CostedBench:
        self.names = {id(MINE): mine, id(ITS): its}
        return self

    def kept(self, recipe: Recipe, leg: Leg, seed: int, factor: float) -> Measured:
        steps = leg.proxy.n_steps
        training = self.names[id(recipe)], leg.name, steps, seed
        if training not in self.known:
            self.known.add(training)
            whole = self.suites.leg(leg.name).proxy.n_steps
            is_swept = leg.swept and steps < whole  # two rates are given up after a third
            share = steps / whole * (1 + (len(FACTORS) - 1) * THIRD * is_swept)
            self.seconds += share * SECONDS[leg.name]
        return super().kept(recipe, leg, seed, factor)


def power(options: argparse.Namespace) -> dict[str, Any]:
    """--runs challengers of each of N_REIGNS champions, by both rules and with each gain."""
    found: dict[str, Any] = {}
    for name, rule in RULES.items():
        for kind, gains in KINDS.items():
            row = found.setdefault(name, {})[kind] = played(rule, gains, options.runs)
            print(f"{name:7} {kind:26} {row}", flush=True)
    return found


def played(rule: Rule, gains: Mapping[str, float], n: int, n_confirmed: int = N_CONFIRMED) -> Row:
    begun, seconds = explored(rule, gains, n)
    shown, of_one = confirmed(rule, gains, n_confirmed)
    return {
        "confirmations begun": round(begun, 4),
        "seconds a screen": round(seconds, 1),
        "shown, of those begun": round(shown, 3),
        "seconds a confirmation": round(of_one),
        "found": round(begun * shown, 5),
        "seconds a trial": round(seconds + begun * of_one, 1),
    }


def explored(
    rule: Rule, gains: Mapping[str, float], n: int, n_reigns: int = N_REIGNS
) -> tuple[float, float]:
    """The share of challengers that begin a confirmation; seconds of a trial before it."""
    begun, seconds = 0, 0.0
    for reign in range(n_reigns):
        bench = CostedBench(rule, Gained(gains))
        seeds = Seeds.of("power", str(reign))
        for i in range(n):
            bench.called(f"{reign} {i}", f"its {reign}")
            sheet = first_round(bench, MINE, ITS, seeds, rule.bar)
            if sheet.stage == "screen" and not sheet.cut:
                found = judge.screen(sheet.scores, sheet.baseline, min_t=MIN_T)
                begun += found.decision is Decision.CONTINUE
        seconds += bench.seconds
    return begun / (n * n_reigns), seconds / (n * n_reigns)


def confirmed(rule: Rule, gains: Mapping[str, float], n: int) -> tuple[float, float]:
    """The share of confirmations that end with a keep; seconds of one."""
    bench, level = CostedBench(rule, Gained(gains)), next_level(Account(n_begun=N_BEGUN))
    shown = sum(_is_shown(bench.called(f"mine {i}", f"its {i}"), i, level) for i in range(n))
    return shown / n, bench.seconds / n


def _is_shown(bench: CostedBench, number: int, level: float) -> bool:
    here, rounds = Champion(Candidate({})), [Result((1.0,), (0.0,))]
    while True:
        seeds = fresh(f"trial {number}", len(rounds))
        sheet = confirmation(bench, MINE, ITS, seeds, 0)
        rounds.append(Result(sheet.scores, sheet.baseline))
        trial = Trial("t", Line("power", "0"), Candidate({}), here, tuple(rounds), level)
        most = max_pairs(level)
        found = judge.superiority(trial, Account(), max_pairs=most, min_t=MIN_T, ceiling=1.0)
        if found.decision is not Decision.CONTINUE:
            return found.keep


SECTIONS = {"power": power}

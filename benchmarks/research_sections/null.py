"""Honesty: lines on which nothing is better. How many promote anything all the same?

The turns are the driver's own, two in flight; what is replaced is in drawn.py. A design of the menu
that leads by point estimate claims nothing; a keep with an error level is a false promotion.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from mendel.clocks.research.clock import trials_of
from mendel.clocks.research.run import Run
from mendel.driver import REPLACED, Driver
from mendel.ledger import Ledger
from mendel.types import InputError, Trial, Turn, digest
from research_sections.drawn import (
    MEASURED,
    WORLDS,
    DrawnClock,
    GreedyClock,
    Menu,
    Noise,
    Variants,
    World,
    fresh_ledger,
    noise_of,
)
from research_sections.rows import Row, Rows

IN_FLIGHT = 2  # as of two workers
MOST = 0.05  # the lower bound of the share, at most
GREEDY = "keep any better screen"
BESIDE = 5  # one line in so many is played by the other rule too, each world as often
RULES: dict[str, type[DrawnClock]] = {"judge": DrawnClock, GREEDY: GreedyClock}


def null(options: argparse.Namespace) -> dict[str, Any]:
    """--runs lines of --turns turns by the judge, and a fifth of them by the other rule."""
    n_lines, noise = options.runs, measured_noise(options)
    asked = {"section": "null", "turns": options.turns}
    rows = Rows(options.rows, {**asked, "noise": digest(noise)} if noise else asked)
    menu = Menu()
    found: dict[str, list[Row]] = {rule: [] for rule in RULES}
    for i in range(n_lines):
        for rule in RULES:
            if rule == GREEDY and i % (BESIDE * len(WORLDS)) >= len(WORLDS):
                continue
            row = rows.get(
                f"{rule} {i}", lambda r=rule, n=i: line(menu, r, n, options.turns, noise)
            )
            found[rule].append(row)
        if i % 10 == 9 or i + 1 == n_lines:
            so_far = {r: sum(row["false"] > 0 for row in each) for r, each in found.items()}
            print(f"{i + 1} lines, with a false promotion: {so_far}", flush=True)
    shares = {rule: summed(lines) for rule, lines in found.items()}
    for rule, told in shares.items():
        print(rule, told, flush=True)
    return {"turns": options.turns, **shares}


def measured_noise(options: argparse.Namespace) -> Noise | None:
    """Of the real run --run (the newest) in --home; None where no home is given."""
    if options.home is None:
        return None
    ledger = Ledger(f"sqlite:///{options.home / 'ledger.db'}", options.home)
    try:
        folder = options.home / "research" / (options.run or "")
        run = Run.load(folder) if options.run else Run.newest(ledger)
        found = noise_of(ledger.turns(run.line))
    finally:
        ledger.close()
    if not found:
        raise InputError(
            f"no noise in run {run.spec.id}: none of its trials has two seeds of a proxy beside "
            "its champion. Wanted a run with screens. Give another --run, or no --home."
        )
    for proxy, off in found.items():
        spread = statistics.pstdev(off)
        print(f"{proxy}: a seed is off by {spread:.4f}, from {len(off)} pairs", flush=True)
    return found


def line(menu: Menu, rule: str, number: int, n_turns: int, noise: Noise | None = None) -> Row:
    """One line's counts; raises AssertionError where a turn failed or was not believed."""
    kind = MEASURED if noise else WORLDS[number % len(WORLDS)]
    world = World(kind, number, noise)
    with fresh_ledger() as ledger:
        run = Run.create(ledger, menu.spec(f"null-{number}"))
        clock = RULES[rule](run, ledger, Variants(menu.designs, number), menu).in_world(world)
        spent = played(Driver(clock, ledger), n_turns, random.Random(number))
        turns = ledger.turns(run.line)
    return {"world": world.kind, **counted(turns), "cpu_ms a turn": spent}


def played(driver: Driver, n_turns: int, chance: random.Random) -> dict[str, float]:
    """CPU ms a turn of ask, trial and tell; rounds end in any order."""
    flying, spent = list[Trial](), [0.0, 0.0, 0.0]
    driver.start()
    for _ in range(n_turns):
        at = time.process_time()
        while len(flying) < IN_FLIGHT and (trial := driver.ask()) is not None:
            flying.append(trial)
        asked = time.process_time()
        trial = flying.pop(chance.randrange(len(flying)))
        result = driver.measure(trial)
        measured = time.process_time()
        driver.tell(trial, result)
        told = time.process_time()
        for place, seconds in enumerate((asked - at, measured - asked, told - measured)):
            spent[place] += 1e3 * seconds / n_turns
    return dict(zip(("ask", "trial", "tell"), (round(each, 3) for each in spent), strict=True))


def counted(turns: Sequence[Turn]) -> Row:
    trials = [turn for turn in turns if turn.trial]
    bad = [t for t in trials if t.result.error or "not believed" in t.verdict.reason]
    bad += [t for t in trials if t.verdict.reason.startswith("the policy failed")]
    assert not bad, f"a drawn result was not taken as a real one: {bad[0].verdict.reason}"
    kept = [turn for turn in trials if turn.verdict.keep]
    stages = [t.result.facts["stage"] for t in trials_of(turns)]
    return {
        "turns": len(trials),
        "trials": len(stages),
        "cut by the race": stages.count("race"),
        "screened": stages.count("screen"),
        "confirmed": len({turn.trial for turn in trials if turn.verdict.level is not None}),
        "measured in vain": sum(turn.verdict.reason == REPLACED for turn in trials),
        "selected": sum(turn.verdict.level is None for turn in kept),
        "false": sum(turn.verdict.level is not None for turn in kept),
    }


def summed(lines: Sequence[Row]) -> Row:
    """The share of lines with a false promotion, whole and by world, with its interval."""
    names = ("turns", "trials", "cut by the race", "screened", "confirmed", "measured in vain")
    whole, worlds = share(lines), dict.fromkeys(each["world"] for each in lines)
    return {
        **whole,
        "by world": {w: share([each for each in lines if each["world"] == w]) for w in worlds},
        "false promotions": sum(each["false"] for each in lines),
        **{name: sum(each[name] for each in lines) for name in names},
        "selected from the menu": sum(each["selected"] for each in lines),
        "cpu_ms a turn": {
            part: round(sum(each["cpu_ms a turn"][part] for each in lines) / len(lines), 3)
            for part in ("ask", "trial", "tell")
        },
        "reached": whole["low"] <= MOST,
    }


def share(lines: Sequence[Row]) -> Row:
    """Clopper and Pearson 1934: the exact two-sided 95 % interval."""
    from scipy.stats import binomtest

    n = sum(each["false"] > 0 for each in lines)
    if not lines:
        return {"lines": 0, "with a false promotion": 0, "low": 0.0, "high": 1.0}
    low, high = binomtest(n, len(lines)).proportion_ci(method="exact")
    return {
        "lines": len(lines), "with a false promotion": n,
        "low": round(float(low), 5), "high": round(float(high), 5),
    }  # fmt: skip


SECTIONS = {"null": null}

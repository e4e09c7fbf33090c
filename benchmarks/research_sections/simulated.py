"""A thousand workers and one driver, without the workers: how many rounds a second does it serve?

All leases are open at once; a worker's round ends, its result is told, and it asks for the next.
Scores are drawn (drawn.py), ask and tell are real. By CPU time, of one process on one core.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mendel.clocks.research.run import Run
from mendel.driver import Driver
from mendel.propose.builtin import Builtin
from mendel.types import Trial
from research_sections.drawn import DrawnClock, Menu, Variants, World, fresh_ledger
from research_sections.null import counted
from research_sections.rows import Row

N_PROPOSALS = 5
LEASE_S = 24 * 3600.0  # as workers have it: no lease ends here


def simulated(options: argparse.Namespace) -> dict[str, Any]:
    """--turns rounds beside 2, and beside --workers leases in flight."""
    menu, found = Menu(), {}
    for n in sorted({2, options.workers}):
        found[f"{n} in flight"] = row = served(menu, n, options.turns)
        print(f"{n} in flight: {row}", flush=True)
    return found


def served(menu: Menu, n_flying: int, n_turns: int) -> Row:
    with fresh_ledger() as ledger:
        run = Run.create(ledger, menu.spec(f"workers-{n_flying}"))
        proposer = Variants(menu.designs, 0)
        clock = DrawnClock(run, ledger, proposer, menu).in_world(World("even", 0))
        driver, chance = Driver(clock, ledger, lease_s=LEASE_S), random.Random(0)
        driver.start()
        flying = [_asked(driver) for _ in range(n_flying)]
        asks, tells = [], []
        for _ in range(n_turns):
            trial = flying.pop(chance.randrange(n_flying))
            result = driver.measure(trial)
            tells.append(_timed(lambda t=trial, r=result: driver.tell(t, r)))
            asks.append(_timed(lambda: flying.append(_asked(driver))))
        row = {
            **_rates(asks, tells, n_flying),
            **counted(ledger.turns(run.line)),
            "builtin's proposal, median ms": proposal(clock, menu),
        }
    return row


def _rates(asks: list[float], tells: list[float], n_flying: int) -> Row:
    both = statistics.fmean(asks) + statistics.fmean(tells)
    return {
        "asks a second": round(1 / statistics.fmean(asks), 1),
        "tells a second": round(1 / statistics.fmean(tells), 1),
        "ask, median ms": round(1e3 * statistics.median(asks), 2),
        "tell, median ms": round(1e3 * statistics.median(tells), 2),
        "rounds a second": round(1 / both, 1),
        "keeps up where a round takes s": round(n_flying * both, 2),
    }


def proposal(clock: DrawnClock, menu: Menu) -> float:
    """CPU ms of the builtin researcher, which knows what was told, beside all in flight."""
    problem = replace(clock.problem, menu=())  # what is looked for is its search, not the menu
    researcher, times = Builtin(problem), []
    researcher.learn(clock.history.told())
    pending = clock.history.pending()
    for i in range(N_PROPOSALS):
        times.append(_timed(lambda some=pending[i:]: researcher.propose(some)))
    return round(1e3 * statistics.median(times), 1)


def _asked(driver: Driver) -> Trial:
    trial = driver.ask()
    assert trial is not None, "nothing was left to ask"
    return trial


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


SECTIONS = {"simulated": simulated}

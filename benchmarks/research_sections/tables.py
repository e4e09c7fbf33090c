"""Search skill on published tables: how many trials until one of the best designs is found.

Every method plays the same spaces with the same seeds and is told the table's accuracy. A trial is
a design that the run has not tried before. The guided search was tuned on NATS-Bench, CIFAR-10.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mendel.propose.guided import Guided, Task
from mendel.propose.searchers import Evolution, HillClimb, RandomSearch, Searcher
from mendel.propose.spaces import Choices, Picks
from mendel.propose.tpe import TreeParzen
from research_sections.published import NATS, Table, read

TOP, WIDER = 0.001, 0.005  # the best share of all designs
MAX_TRIALS = 1_000  # a run that has not found one by then counts as one more
N_REGRET = 50
FIRST = "cifar10"
N_EARLIER = 100  # turns on the first set
N_KNOWN = 100_000  # turns behind the proposal that is timed
Make = Callable[[Choices, int], Searcher[Picks]]
METHODS: dict[str, Make] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "tpe": TreeParzen,
    "hill climbing": HillClimb,
    "guided": Guided,
}
BASELINES = ("evolution", "tpe", "hill climbing")  # the issue's; random stands beside them


def search(shared: Path, sets: Sequence[str], n_runs: int) -> dict[str, Any]:
    rows: dict[str, Any] = {name: _search(read(shared, name), n_runs) for name in sets}
    rows["ms a proposal, 100,000 known turns"] = _proposal_ms()
    return rows


def across(shared: Path, sets: Sequence[str], n_runs: int) -> dict[str, Any]:
    """From FIRST to each of the other image sets."""
    later = [name for name in sets if name in NATS and name != FIRST]
    return {name: _across(read(shared, FIRST), read(shared, name), n_runs) for name in later}


def play(
    searcher: Searcher[Picks], table: Table, shares: Sequence[float], at_least: int = 0
) -> tuple[list[int], float]:
    """Trials until each share is reached, and the regret after N_REGRET (NaN where it ended
    sooner)."""
    wanted = [table.reached_by(share) for share in shares]
    found, best, regret = [MAX_TRIALS + 1] * len(shares), -math.inf, math.nan
    for n in range(1, MAX_TRIALS + 1):
        candidate = searcher.ask()
        score = table.scores[candidate]
        searcher.tell(candidate, score)
        best = max(best, score)
        found = [min(f, n) if best >= w else f for f, w in zip(found, wanted, strict=True)]
        if n == N_REGRET:
            regret = table.best - best
        if n >= at_least and max(found) <= n:
            break
    return found, regret


def _search(table: Table, n_runs: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, make in METHODS.items():
        began = time.process_time()
        runs = [play(make(table.space, seed), table, [TOP], N_REGRET) for seed in range(n_runs)]
        trials = [found[0] for found, _ in runs]
        rows[name] = {
            **_told(trials),
            "regret after 50": statistics.fmean(regret for _, regret in runs),
            "cpu_s a run": (time.process_time() - began) / n_runs,
        }
        print(name, rows[name], flush=True)
    best = min(rows[name]["median"] for name in BASELINES)
    least = min(rows[name]["regret after 50"] for name in METHODS if name != "guided")
    rows["median, guided / best baseline"] = rows["guided"]["median"] / best
    rows["regret below every baseline"] = rows["guided"]["regret after 50"] < least
    return rows


def _across(first: Table, table: Table, n_runs: int) -> dict[str, Any]:
    """On this table: cold, after random turns on the first one, after a search there, and
    replaying what that search found, best first."""
    arms: dict[str, Callable[[int], Searcher[Picks]]] = {
        "cold": lambda seed: Guided(table.space, seed),
        "after random turns": lambda seed: Guided(
            table.space, seed, [turns(RandomSearch(first.space, seed), first)]
        ),
        "after a search": lambda seed: Guided(table.space, seed, [_searched(first, seed)]),
        "replay of the search": lambda seed: Replay(_searched(first, seed), table.space, seed),
    }
    rows: dict[str, Any] = {}
    for name, make in arms.items():
        runs = [play(make(seed), table, [WIDER, TOP])[0] for seed in range(n_runs)]
        rows[name] = {
            "top 0.5 %": _told([wider for wider, _ in runs]),
            "top 0.1 %": _told([top for _, top in runs]),
        }
        print(name, rows[name], flush=True)
    for share in ("top 0.5 %", "top 0.1 %"):
        warm, cold = rows["after random turns"][share], rows["cold"][share]
        rows[f"{share}, median, after random turns / cold"] = warm["median"] / cold["median"]
    return rows


def _proposal_ms() -> float:
    """Median CPU time of a proposal in a space of 5^9 designs; the first one imports scipy."""
    space, rng = Choices((5,) * 9), np.random.default_rng(0)
    searcher, times = Guided(space, 0), []
    for candidate in map(tuple, rng.integers(5, size=(N_KNOWN, 9)).tolist()):
        searcher.tell(candidate, float(sum(candidate)))
    for _ in range(11):
        began = time.process_time()
        searcher.tell(candidate := searcher.ask(), float(sum(candidate)))
        times.append(1e3 * (time.process_time() - began))
    return statistics.median(times)


def _searched(first: Table, seed: int) -> Task[Picks]:
    return turns(Evolution(first.space, seed), first)


def turns(searcher: Searcher[Picks], table: Table) -> Task[Picks]:
    """What a search of N_EARLIER turns leaves behind."""
    tried = {}
    for _ in range(N_EARLIER):
        candidate = searcher.ask()
        tried[candidate] = table.scores[candidate]
        searcher.tell(candidate, tried[candidate])
    return Task(list(tried), list(tried.values()))


class Replay(RandomSearch[Picks]):
    """The designs of another task, best first; then random ones."""

    def __init__(self, task: Task[Picks], space: Choices, seed: int) -> None:
        super().__init__(space, seed)
        ranked = sorted(zip(task.scores, task.candidates, strict=True), reverse=True)
        self.waiting = [candidate for _, candidate in reversed(ranked)]

    def ask(self) -> Picks:
        return self.lease(self.waiting.pop()) if self.waiting else super().ask()


def _told(trials: Sequence[int]) -> Mapping[str, Any]:
    """The quartiles say how far runs differ; `missed`: runs that never got there."""
    quarter, half, three = (float(q) for q in np.quantile(trials, [0.25, 0.5, 0.75]))
    return {
        "median": half,
        "quartiles": [quarter, three],
        "mean": statistics.fmean(trials),
        "missed": sum(n > MAX_TRIALS for n in trials),
    }


SECTIONS = {"tables": search, "across": across}

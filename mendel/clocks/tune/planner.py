"""A small network that plans each request by itself: a challenger of the table of classes.

logged requests --fit--> net --replayed on later ones, by their chances--> judge --> champion

A pair is the mean of a block of requests that no fit has seen. What a policy would have cost on a
request that had another plan is told by the net itself and corrected where the plans agree, by
1 / the chance that the plan had (doubly robust), so the estimate does not lean on the net.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.live import LiveFile
from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.classes import NAMES
from mendel.clocks.tune.learning import LOGGED
from mendel.clocks.tune.state import Logged
from mendel.driver import Driver
from mendel.judge import superiority
from mendel.ledger import Ledger
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Cost,
    History,
    Line,
    Result,
    Trial,
    Verdict,
)

Floats = NDArray[np.float64]
HIDDEN = 16
STEPS, BATCH, RATE = 400, 128, 0.01
CAUTION = 0.05  # log ms that the net must promise, to leave the table
ENOUGH = 800  # requests to fit
BLOCK = 64  # requests in a pair
ROUND = 4  # pairs in a round
MAX_PAIRS = 48
WEIGHT = 30.0  # of one request, at most
TABLE: dict[str, Any] = {"planner": None}


class Net:
    """log ms of each plan at a point: one hidden layer."""

    def __init__(self, weights: Sequence[Floats]) -> None:
        self.w, self.b, self.v, self.c = weights

    def predict(self, at: Floats) -> Floats:
        """(..., 7) -> (..., plans)"""
        found: Floats = np.tanh(at @ self.w + self.b) @ self.v + self.c
        return found

    def plan(self, at: Floats, live: int) -> int:
        """The one it promises most of, or the table's where that is not clearly more."""
        y = self.predict(at)
        best = int(y.argmin())
        return best if y[live] - y[best] > CAUTION else live

    def to_list(self) -> list[Any]:
        return [np.round(w, 5).tolist() for w in (self.w, self.b, self.v, self.c)]

    @classmethod
    def parse(cls, rows: Sequence[Any]) -> Net:
        return cls([np.asarray(row, np.float64) for row in rows])


def fit(rows: Sequence[Logged], n_plans: int, seed: int = 0) -> Net:
    """Least squares on what each request cost under the plan that it had (Adam)."""
    at, plan, y = np.stack([r.at for r in rows]), [r.plan for r in rows], [r.y for r in rows]
    plans, ys = np.array(plan), np.array(y)
    ys = np.clip(ys, *np.quantile(ys, (0.005, 0.995)))  # stalls
    chance = np.random.default_rng(seed)
    w = chance.standard_normal((len(NAMES), HIDDEN)) / 2
    net = Net([w, np.zeros(HIDDEN), np.zeros((HIDDEN, n_plans)), np.full(n_plans, ys.mean())])
    weights = [net.w, net.b, net.v, net.c]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    # rivals are rare in the log and matter as much
    counts = np.bincount(plans, minlength=n_plans)
    often = 1 / np.sqrt(counts[plans])
    often /= often.sum()
    for step in range(1, STEPS + 1):
        pick = chance.choice(len(ys), BATCH, p=often)
        for i, g in enumerate(_gradient(net, at[pick], plans[pick], ys[pick])):
            first[i] += 0.1 * (g - first[i])
            second[i] += 0.01 * (g * g - second[i])
            m, s = first[i] / (1 - 0.9**step), second[i] / (1 - 0.99**step)
            weights[i] -= RATE * (1 - step / (STEPS + 1)) * m / (np.sqrt(s) + 1e-8)
    return net


def _gradient(net: Net, at: Floats, plans: NDArray[np.int64], y: Floats) -> list[Floats]:
    n = np.arange(len(y))
    hidden = np.tanh(at @ net.w + net.b)
    off = np.zeros((len(y), len(net.c)))
    off[n, plans] = np.clip((hidden @ net.v + net.c)[n, plans] - y, -1, 1) / len(y)
    back = off @ net.v.T * (1 - hidden * hidden)
    return [at.T @ back, back.sum(0), hidden.T @ off + 1e-4 * net.v, off.sum(0)]


def replayed(rows: Sequence[Logged], mine: Net | None, its: Net | None, told: Net) -> Floats:
    """(2, n): what each request would have cost under both policies; 1 = under the table.

    mine its   None: the table itself
    told       whose predictions stand in where the plans differ
    """
    found = np.empty((2, len(rows)))
    for i, row in enumerate(rows):
        belief = np.exp(told.predict(row.at) - told.predict(row.at)[row.live])
        cost = float(np.exp(row.y - told.predict(row.at)[row.live]))
        for side, net in enumerate((mine, its)):
            plan = row.live if net is None else net.plan(row.at, row.live)
            off = min(1 / row.chance, WEIGHT) * (cost - belief[row.plan])
            found[side, i] = belief[plan] + (off if plan == row.plan else 0.0)
    return found


class PlannerClock:
    """Champion: a net, or the table. Which one plans, the judge decides on fresh requests."""

    def __init__(self, line: Line, chooser: Tuned, folder: Path) -> None:
        self.line, self.chooser = line, chooser
        self.live = LiveFile(folder / "planner.json")
        self.rows: list[Logged] = []  # fresh: no fit and no round has seen them
        self._seen: list[Logged] = []
        self._told: Net | None = None
        self._adopt(self.champion())

    def gather(self) -> int:
        """Take the requests that ended; returns how many are fresh."""
        self.rows = (self.rows + self.chooser.logged())[-LOGGED:]
        return len(self.rows)

    def champion(self) -> Champion:
        return self.live.read() or Champion(Candidate(TABLE, "the table of classes"))

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """A net fitted to all that was seen; in turn with the table, where a net is champion."""
        self._seen = (self._seen + self.rows)[-LOGGED:]
        self.rows = []
        if len(self._seen) < ENOUGH:
            return None
        net = fit(self._seen, len(self.chooser.plans))
        turns = history.turns(limit=1)
        is_net = champion.candidate.state["planner"] is not None
        if is_net and turns and turns[-1].candidate.state["planner"] is not None:
            return Candidate(TABLE, "is the table as good by now?")
        state = {"planner": net.to_list(), "plans": list(self.chooser.plans)}
        return Candidate(state, f"a net fitted to {len(self._seen)} requests")

    def trial(self, trial: Trial) -> Result:
        """Blocks of requests that ended since the last round; raises where they are too few."""
        began = time.perf_counter()
        n = ROUND * BLOCK
        if len(self.rows) < n:
            raise RuntimeError(f"{len(self.rows)} fresh requests. Wanted {n}.")
        rows, self.rows = self.rows[:n], self.rows[n:]
        mine, its = (self._net(side.candidate) for side in (trial, trial.champion))
        told = mine or its
        assert told is not None
        costs = replayed(rows, mine, its, told).reshape(2, ROUND, BLOCK).mean(2)
        self._seen = (self._seen + rows)[-LOGGED:]
        differ = np.mean([_plan(mine, r) != _plan(its, r) for r in rows])
        facts = {"differ": float(differ), "saved": float((costs[1] - costs[0]).mean())}
        cost = Cost(seconds=time.perf_counter() - began)
        return Result(tuple(-costs[0]), tuple(-costs[1]), cost, facts=facts)

    def policy(self, trial: Trial, account: Account) -> Verdict:
        return superiority(trial, account, max_pairs=MAX_PAIRS)

    def promote(self, champion: Champion) -> None:
        self.live.write(champion)
        self._adopt(champion)

    def _adopt(self, champion: Champion) -> None:
        net = self._net(champion.candidate)
        self.chooser.planner = None if net is None else net.plan

    def _net(self, candidate: Candidate) -> Net | None:
        rows = candidate.state["planner"]
        if rows is None or tuple(candidate.state["plans"]) != self.chooser.plans:
            return None
        return Net.parse(rows)


def _plan(net: Net | None, row: Logged) -> int:
    return row.live if net is None else net.plan(row.at, row.live)


class Challenge:
    """The planner's clock, turned where enough requests have ended."""

    def __init__(self, line: Line, chooser: Tuned, ledger: Ledger, folder: Path) -> None:
        self.clock = PlannerClock(line, chooser, folder)
        self.driver = Driver(self.clock, ledger)
        self.driver.start()
        self.driver.release(forgive=True)
        self.last: Verdict | None = None
        self._wait = ENOUGH

    def tick(self) -> bool:
        """One round, if there is enough to judge it by."""
        if self.clock.gather() < self._wait:
            return False
        began = time.thread_time()
        trial = self.driver.ask()
        if trial is not None and len(self.clock.rows) >= ROUND * BLOCK:
            self.last = self.driver.tell(trial, self.driver.measure(trial))
        elif trial is not None:
            self.driver.release(forgive=True)  # fitted; its pairs are still to come
        self._wait = ROUND * BLOCK
        with self.clock.chooser.lock:
            self.clock.chooser.spent_s += time.thread_time() - began
        return True

    def status(self) -> dict[str, Any]:
        said = None if self.last is None else self.last.reason
        return {"live": self.clock.chooser.planner is not None, "verdict": said}

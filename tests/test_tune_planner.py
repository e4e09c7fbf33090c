"""A network plans only where the judge found it better than the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.classes import point, units
from mendel.clocks.tune.planner import Challenge, Net, PlannerClock, fit, replayed
from mendel.clocks.tune.state import Logged
from mendel.ledger import Ledger
from mendel.types import Line
from tests.tune_machine import PLANS, features, straight, trace

COPY = PLANS.index("lookup-8")


def split(overlap: float, plan: str) -> float:
    """Within one class: drafts pay above an overlap that no centre shows."""
    if plan == "lookup-8":
        return 0.45 if overlap > 0.4 else 1.7
    return {"plain": 1.0}.get(plan, 1.6)


def even(overlap: float, plan: str) -> float:
    return {"plain": 1.0, "lookup-8": 0.6}.get(plan, 0.9)


def serve(chooser: Tuned, challenge: Challenge, n: int, cost, seed: int) -> list[float]:
    """ms of each request, to plain's."""
    chance = np.random.default_rng(seed)
    tick, spent = straight(chooser), []
    for i in range(n):
        f = replace(features("agent", chance), overlap=float(chance.uniform(0.25, 0.55)))
        choice = chooser.choose(f)
        size = units(f, 40)
        ms = cost(f.overlap, choice.plan)
        chooser.done(trace(str(i), f, choice, 40, size * ms * float(chance.lognormal(0, 0.2))))
        spent.append(ms / cost(f.overlap, "plain"))
        if i % 16 == 0:
            tick()
            challenge.tick()
    return spent


def challenge(tmp_path: Path, chooser: Tuned) -> Challenge:
    return Challenge(Line("tune", "7" * 64), chooser, Ledger(folder=tmp_path), tmp_path)


def test_a_net_that_sees_what_classes_do_not_is_kept_and_saves(tmp_path: Path) -> None:
    chooser = Tuned(PLANS, "plain", chance=0)
    judged = challenge(tmp_path, chooser)
    spent = serve(chooser, judged, 12_000, split, 0)
    assert chooser.planner is not None, judged.status()
    assert np.mean(spent[-1000:]) < 0.95 * np.mean(spent[600:1600])


@pytest.mark.parametrize("seed", range(3))
def test_where_the_table_is_as_good_no_net_is_kept(tmp_path: Path, seed: int) -> None:
    chooser = Tuned(PLANS, "plain", chance=seed)
    judged = challenge(tmp_path, chooser)
    serve(chooser, judged, 6_000, even, seed)
    assert chooser.planner is None


def test_a_kept_net_plans_after_a_restart(tmp_path: Path) -> None:
    chooser = Tuned(PLANS, "plain", chance=0)
    judged = challenge(tmp_path, chooser)
    serve(chooser, judged, 12_000, split, 0)
    again = Tuned(PLANS, "plain")
    PlannerClock(judged.clock.line, again, tmp_path)
    f = replace(features("agent", np.random.default_rng(0)), overlap=0.55)
    assert again.planner is not None
    assert again.planner(point(f), 0) == COPY
    other = Tuned(PLANS[:3], "plain")  # another menu: its numbers mean other plans
    PlannerClock(judged.clock.line, other, tmp_path)
    assert other.planner is None


def logged(n: int, seed: int) -> list[Logged]:
    chance, rows = np.random.default_rng(seed), []
    for _ in range(n):
        f = replace(features("agent", chance), overlap=float(chance.uniform(0.25, 0.55)))
        plan = int(chance.integers(3))
        y = np.log(split(f.overlap, PLANS[plan])) + chance.normal(0, 0.2)
        rows.append(Logged(point(f), 0, plan, 0, 1 / 3, float(y)))
    return rows


def test_a_net_learns_which_plan_is_fast_where() -> None:
    net = fit(logged(2000, 0), 3)
    chance, right = np.random.default_rng(9), []
    for _ in range(300):
        f = replace(features("agent", chance), overlap=float(chance.uniform(0.25, 0.55)))
        right.append(net.plan(point(f), 0) == (COPY if f.overlap > 0.4 else 0))
    assert np.mean(right) > 0.9
    same = Net.parse(net.to_list())
    assert same.predict(point(f)) == pytest.approx(net.predict(point(f)), abs=1e-3)


def test_a_replay_tells_what_a_policy_would_have_cost_though_its_net_is_wrong() -> None:
    rows = logged(6000, 1)
    net, wrong = fit(rows, 3), fit(logged(200, 2)[::-1], 3, seed=5)
    wrong.c = wrong.c + np.array([0.0, 0.5, 0.7])
    mine, table = replayed(rows, net, None, wrong)
    truth = np.mean(
        [
            split(float(r.at[2]) / 3, PLANS[net.plan(r.at, 0)]) / np.exp(wrong.predict(r.at)[0])
            for r in rows
        ]
    )
    assert mine.mean() == pytest.approx(truth * np.exp(0.02), rel=0.05)
    assert mine.mean() < table.mean()

"""The gain that the tuner claims is the gain that there is."""

from __future__ import annotations

import numpy as np
import pytest

from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.gain import BASELINE_COST, Gain, Switch, lot, saved
from tests.tune_machine import COSTS, PLANS, mixed, run, straight


def test_the_interval_covers_the_truth_at_all_times_in_95_percent_of_runs() -> None:
    chance = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        gain, wrong = Gain(), False
        for d in chance.exponential(0.3, 1500):
            gain.add(float(d))
            if gain.n >= 100 and gain.n % 20 == 0:
                low, _, high, _ = gain.interval()
                wrong |= not low <= 0.3 <= high
        missed += wrong
    assert missed <= 20  # 10 expected at most


def test_an_estimate_is_unbiased_though_the_beliefs_are_wrong() -> None:
    chance = np.random.default_rng(1)
    truth, belief = np.array([1.0, 0.5, 0.8]), np.array([0.7, 0.9, 0.3])
    own = np.array([0.02, 0.9, 0.08])
    chances = 0.95 * own + np.array([0.05, 0, 0])
    ds = []
    for _ in range(60_000):
        plan = int(chance.choice(3, p=chances))
        cost = float(truth[plan] * chance.lognormal(-0.02, 0.2))
        ds.append(saved(belief, chances, own, 0, plan, cost))
    wanted = (truth[0] - own @ truth) / belief[0]
    error = float(np.std(ds)) / len(ds) ** 0.5
    assert np.mean(ds) == pytest.approx(wanted, abs=4 * error)
    assert error < 0.02


def test_what_it_says_to_save_is_what_it_saves() -> None:
    chooser = Tuned(PLANS, "plain", chance=3)
    found = run(chooser, mixed(3000, 3), seed=3, tick=straight(chooser))
    low, _, high, _ = chooser.gain.interval()
    share = 1 - found.went / found.could[:, 0]
    assert low < share.mean() < high
    assert low > 0
    assert chooser.switch.on


def test_the_controllers_own_time_is_counted() -> None:
    free, dear = (Tuned(PLANS, "plain", chance=0) for _ in range(2))
    run(free, ["copy"] * 200, tick=straight(free))
    dear.spent_s = 3600.0  # a controller as slow as that saves nothing
    run(dear, ["copy"] * 200, tick=straight(dear))
    assert dear.gain.interval().mean < free.gain.interval().mean - 1


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.1, 1.5, 3.0])
def test_the_lot_costs_no_more_than_it_may(ratio: float) -> None:
    assert lot(ratio, 1.0) * max(ratio - 1, 0) <= BASELINE_COST * 1.001


def test_the_switch_rests_longer_each_time_it_was_tried_in_vain() -> None:
    switch, rests = Switch(), []
    for _ in range(4):
        while not switch.add(-0.01, idle=True):
            pass
        n = 1
        while not switch.rest():
            n += 1
        rests.append(n)
    assert rests == [256, 512, 1024, 2048]


def test_a_gain_resets_the_back_off() -> None:
    switch = Switch(n_failed=5)
    for _ in range(600):
        assert not switch.add(0.4, idle=False)
    assert switch.n_failed == 0
    assert "pays" in switch.reason


def test_costs_of_the_machine_leave_something_to_gain() -> None:
    best = {kind: min(row, key=row.__getitem__) for kind, row in COSTS.items()}
    assert len(set(best.values())) >= 3

"""How many pairs a confirmation may take: enough to find a gain at the level that it was given."""

from __future__ import annotations

import numpy as np
import pytest
from research_sections import power

from mendel.clocks.research.race import N_ROUND
from mendel.clocks.research.verdict import MAX_PAIRS, MIN_PAIRS, MIN_T, max_pairs
from mendel.evidence import next_level, power_of
from mendel.judge import superiority
from mendel.types import Account, Candidate, Champion, Decision, Line, Result, Trial

N_LINES = 300
HERE = Champion(Candidate({"x": 0}))


def level_after(n_begun: int) -> float:
    return next_level(Account(n_begun=n_begun))


def confirmed(gain: float, level: float, most: int, rng: np.random.Generator) -> tuple[bool, int]:
    """Was it kept, and after how many pairs, in rounds as a line has them."""
    rounds = [Result((1.0, 2.0, 3.0, 4.0), (0.0, 0.0, 0.0, 0.0))]
    while True:
        mine, its = rng.normal(gain, 0.5**0.5, N_ROUND), rng.normal(0.0, 0.5**0.5, N_ROUND)
        rounds.append(Result(tuple(mine), tuple(its)))
        trial = Trial("t", Line("test", "0"), Candidate({"x": 1}), HERE, tuple(rounds), level)
        found = superiority(trial, Account(), max_pairs=most, min_t=MIN_T, ceiling=1.0)
        if found.decision is not Decision.CONTINUE:
            return found.keep, N_ROUND * (len(rounds) - 1)


@pytest.mark.parametrize("n_begun", [0, 20, 160])
def test_a_gain_of_one_sigma_is_shown_however_many_confirmations_were_begun(n_begun: int) -> None:
    level, rng = level_after(n_begun), np.random.default_rng(n_begun)
    most = max_pairs(level)
    found = [confirmed(1.0, level, most, rng) for _ in range(N_LINES)]
    power = sum(kept for kept, _ in found) / N_LINES
    assert power > 0.75  # .8 was asked for; 300 lines are sure of it within .05
    assert abs(power - power_of(level, most)) < 0.08
    assert sum(n for _, n in found) / N_LINES < 0.8 * most  # who is sure stops


@pytest.mark.parametrize("n_begun", [0, 80])
def test_a_no_op_is_given_up_after_a_third_of_the_pairs(n_begun: int) -> None:
    level, rng = level_after(n_begun), np.random.default_rng(n_begun)
    most = max_pairs(level)
    found = [confirmed(0.0, level, most, rng) for _ in range(N_LINES)]
    assert sum(kept for kept, _ in found) <= 8  # at a level of 1 % three are expected at most
    assert sum(n for _, n in found) / N_LINES < most / 3 + N_ROUND


def test_the_pairs_follow_the_level_and_the_level_alone() -> None:
    counts = [max_pairs(level_after(n)) for n in (0, 3, 10, 20, 40, 80, 160, 1000)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2] < counts[4] < counts[-1] == MAX_PAIRS
    assert all(n % N_ROUND == 0 and MIN_PAIRS <= n <= MAX_PAIRS for n in counts)
    assert max_pairs(0.5) == MIN_PAIRS
    assert max_pairs(None) == MAX_PAIRS  # whether a level can be reached at all is asked of the cap


@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-6, 1e-12, 1e-300])
def test_power_is_a_share_that_grows_with_the_pairs(level: float) -> None:
    powers = [power_of(level, n) for n in (1, 4, 16, 64, 256, 4096)]
    assert all(0 <= power <= 1 for power in powers)
    assert powers == sorted(powers)
    assert powers[-1] > 0.99


def test_the_fewest_pairs_are_taken_that_have_the_power() -> None:
    for n_begun in (0, 5, 20, 80):
        level = level_after(n_begun)
        most = max_pairs(level)
        assert power_of(level, most) >= 0.8 > power_of(level, most - N_ROUND)


def test_more_of_a_planted_gain_goes_through_than_by_the_screens_of_before() -> None:
    gains = power.KINDS["parity .2, .03 elsewhere"]
    begun = {name: power.explored(rule, gains, 10, 20)[0] for name, rule in power.RULES.items()}
    shown = {name: power.confirmed(rule, gains, 30)[0] for name, rule in power.RULES.items()}
    assert begun["now"] > 1.2 * begun["before"] > 0
    assert shown["now"] > 1.2 * shown["before"] > 0


def test_a_confirmation_costs_what_it_did_before_parity_was_trained_twice() -> None:
    costs = {
        name: sum(leg.n_trainings * power.SECONDS[leg.name] for leg in rule.suites.confirm)
        for name, rule in power.RULES.items()
    }
    assert costs["now"] <= 1.02 * costs["before"]

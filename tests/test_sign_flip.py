"""sign_flip: exact for parts of any shape, and never fooled by seeds that agree by luck."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.evidence import Stratum, sign_flip
from mendel.judge import better_on_the_whole
from mendel.types import Decision

gains = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=3)
parts = st.lists(gains, min_size=1, max_size=3)


def made(found: list[list[float]]) -> list[Stratum]:
    return [Stratum(each, (i + 1) / 8) for i, each in enumerate(found)]


def counted(strata: list[Stratum]) -> float:
    """The share of flips that reach the sum, one by one, without a grid."""
    terms = [each.weight * x / len(each.gains) for each in strata for x in each.gains]
    flips = itertools.product((-1, 1), repeat=len(terms))
    sums = [sum(s * abs(x) for s, x in zip(signs, terms, strict=True)) for signs in flips]
    return sum(each >= sum(terms) - 1e-12 for each in sums) / len(sums)


def test_all_flips_are_counted() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        strata = made([rng.normal(0.2, 1, n).clip(-1, 1).tolist() for n in (2, 3, 5)])
        assert sign_flip(strata) == pytest.approx(counted(strata), abs=0.01)
    assert sign_flip([Stratum([0.5] * 10, 1.0)]) == 2.0**-10


@settings(deadline=None, max_examples=60)
@given(parts, st.floats(0.001, 1))
def test_of_all_signs_that_level_gains_may_have_a_share_below_the_level_passes(
    found: list[list[float]], level: float
) -> None:
    sizes, flat = [len(each) for each in found], [x for each in found for x in each]
    n_passed = 0
    for signs in itertools.product((-1, 1), repeat=len(flat)):
        drawn = iter([s * abs(x) for s, x in zip(signs, flat, strict=True)])
        n_passed += sign_flip(made([list(itertools.islice(drawn, n)) for n in sizes])) <= level
    assert n_passed <= level * 2 ** len(flat) * (1 + 1e-9)


@settings(deadline=None, max_examples=200)
@given(parts, st.data())
def test_p_never_rises_with_a_gain(found: list[list[float]], data: st.DataObject) -> None:
    part = data.draw(st.integers(0, len(found) - 1))
    at = data.draw(st.integers(0, len(found[part]) - 1))
    before = sign_flip(made(found))
    found[part][at] += data.draw(st.floats(0, 1))
    assert sign_flip(made(found)) <= before + 1e-12


def test_seeds_of_a_torn_part_that_agree_by_luck_are_no_certainty() -> None:
    quiet = [Stratum([-0.04, -0.035], 1 / 16) for _ in range(15)]  # what the torn one makes up for
    learned = Stratum([0.94, 0.94], 1 / 16)  # on both seeds, and its rival on none
    assert sign_flip([*quiet, learned]) > 0.1
    assert sign_flip([Stratum([0.04, 0.035], 1 / 16) for _ in range(16)]) < 1e-8


def test_what_is_missing_or_no_number_never_keeps() -> None:
    good = Stratum([0.1] * 20, 0.5)
    for bad in ([], [math.nan] * 20, [math.inf] * 20):
        assert sign_flip([good, Stratum(bad, 0.5)]) == 1.0
        found = better_on_the_whole([good, Stratum(bad, 0.5)], 0.05)
        assert found.decision is Decision.CONTINUE
    assert sign_flip([]) == 1.0
    assert better_on_the_whole([good], 0.05).decision is Decision.KEEP
    assert better_on_the_whole([Stratum([0.0] * 20, 1.0)], 0.5).decision is Decision.CONTINUE

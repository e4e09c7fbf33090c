"""What the judge promises: it rarely keeps nothing, often keeps something, and never trips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mendel.evidence import Floats, e_process, e_process_of_mean, next_level, share
from mendel.judge import (
    Miss,
    Option,
    better_than,
    interval,
    matched_cost,
    noninferiority,
    screen,
    select,
    superiority,
)
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Cost,
    Decision,
    InputError,
    Line,
    Result,
    Trial,
    Verdict,
)

NAN, INF = math.nan, math.inf
LINE = Line("test", "0" * 64)
REAL = st.floats(-1e6, 1e6)
MANY = st.lists(REAL, min_size=1, max_size=30)
UNHURRIED = settings(deadline=None)  # shared machines stall


def trial(*results: Result, level: float | None = None) -> Trial:
    state = Candidate({"x": 1})
    return Trial("t", LINE, state, Champion(state), results, level)


def pairs(gains: Sequence[float] | Floats, seed: int = 0) -> Result:
    """Scores that vary from pair to pair, and differ by the gains."""
    baseline = np.random.default_rng(seed).normal(size=len(gains))
    return Result(tuple(baseline + gains), tuple(baseline))


def confirm(gains: Sequence[float], level: float = 0.01, **options: object) -> Verdict:
    screened = pairs([0.0, 1.0, 2.0])
    return superiority(trial(screened, pairs(gains), level=level), Account(), **options)  # type: ignore[arg-type]


def judge(gains: Floats, account: Account, n_screen: int = 4) -> tuple[Verdict, Account]:
    """One candidate through the whole policy, eight pairs a round, as the driver would."""
    rounds = [pairs(gains[:n_screen])]
    told = trial(*rounds)
    verdict = superiority(told, account)
    if verdict.decision is Decision.CONTINUE:
        account = replace(account, n_begun=account.n_begun + 1)
        told = replace(told, level=verdict.level)
    for start in range(n_screen, len(gains), 8):
        if verdict.decision is not Decision.CONTINUE:
            break
        told = replace(told, results=(*told.results, pairs(gains[start : start + 8])))
        verdict = superiority(told, account)
    return verdict, replace(account, n_kept=account.n_kept + verdict.keep)


# the e-processes


@given(MANY.filter(lambda x: len(x) <= 10))
@settings(max_examples=25, deadline=None)
def test_the_mean_over_all_sign_patterns_is_exactly_one(magnitudes: list[float]) -> None:
    signs = itertools.product((-1, 1), repeat=len(magnitudes))
    final = [e_process(np.multiply(magnitudes, sign))[-1] for sign in signs]
    assert np.mean(final) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.integers(0, 20), min_size=5, max_size=5), st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_no_stopping_rule_gains_where_losses_outweigh(counts: list[int], seed: int) -> None:
    """Exact, over every path of 4 pairs: P(x > t) <= P(x < -t) for each t, and no more is asked."""
    tails = np.sort(counts)[::-1]  # P(x <= -3), P(x <= -2), ... is at least P(x >= 3), ...
    support = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    assume(tails[0] > 0)
    p = np.array([tails[0], tails[1], tails[2], tails[2], tails[1], tails[0]], dtype=float)
    moved = np.random.default_rng(seed).uniform(0, 1, size=3) * p[3:]
    p[3:] -= moved  # gains that became losses or smaller gains
    p[[0, 1, 3]] += moved
    p /= p.sum()
    assert all(p[support > t].sum() <= p[support < -t].sum() + 1e-12 for t in (0, 1, 2))
    total = 0.0
    for path in itertools.product(range(6), repeat=4):
        e = e_process(support[list(path)])
        stop = int(np.argmax(e >= 1.5)) if (e >= 1.5).any() else 3
        total += float(np.prod(p[list(path)]) * e[stop])
    assert total <= 1 + 1e-9


@given(MANY, REAL, REAL)
@UNHURRIED
def test_a_larger_difference_never_lowers_the_evidence_of_its_pair(
    past: list[float], a: float, b: float
) -> None:
    low, high = sorted((a, b))
    assert e_process([*past, low])[-1] <= e_process([*past, high])[-1] * (1 + 1e-9)


@given(MANY, st.integers(-20, 20))
@UNHURRIED
def test_the_unit_of_the_score_does_not_matter(gains: list[float], power: int) -> None:
    assume(all(g == 0 or abs(g) > 1e-290 for g in gains))
    np.testing.assert_allclose(e_process(np.multiply(gains, 3.7**power)), e_process(gains))


@given(MANY)
@UNHURRIED
def test_a_pair_at_most_doubles_the_evidence(gains: list[float]) -> None:
    e = np.concatenate([[1.0], e_process(gains)])
    assert (e[1:] <= 2 * e[:-1] * (1 + 1e-9)).all()
    assert (e >= 0).all()


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(0, 10))
@UNHURRIED
def test_a_pair_at_most_doubles_the_evidence_of_a_mean(gains: list[float], margin: float) -> None:
    e = np.concatenate([[1.0], e_process_of_mean(gains, margin=margin)])
    assert (e[1:] <= 2 * e[:-1] * (1 + 1e-9)).all()
    assert (e > 0).all()


@given(MANY, st.data())
@UNHURRIED
def test_ties_count_for_nothing(gains: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(gains)))
    padded = [*gains[:at], 0.0, *gains[at:]]
    assert e_process(padded)[-1] == pytest.approx(e_process(gains)[-1], rel=1e-9)
    assert e_process([0.0] * 5).tolist() == pytest.approx([1.0] * 5)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=50))
@UNHURRIED
def test_both_processes_agree_on_correct_and_wrong(gains: list[float]) -> None:
    np.testing.assert_allclose(e_process(gains), e_process_of_mean(gains), rtol=1e-9)


@given(st.floats(0.001, 0.5), st.floats(0, 1))
@UNHURRIED
def test_the_mean_process_is_fair_at_its_margin(margin: float, tied: float) -> None:
    """However the mean of -margin comes about: rare losses among ties are not symmetric."""
    n_ties = tied * (1 - margin)  # probability of a tie
    p = {-1.0: (1 - n_ties + margin) / 2, 0.0: n_ties, 1.0: (1 - n_ties - margin) / 2}
    mean = sum(
        math.prod(p[x] for x in path) * e_process_of_mean(path, margin=margin)[-1]
        for path in itertools.product(p, repeat=4)
    )
    assert mean == pytest.approx(1, abs=1e-9)


def test_one_wild_pair_cannot_undo_the_others() -> None:
    gains = np.abs(np.random.default_rng(0).normal(1, 0.5, size=40))
    gains[20] = -1e6
    assert e_process(gains)[-1] > 1e5


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_number_that_is_not_finite_ends_the_evidence(bad: float) -> None:
    for process in (e_process, e_process_of_mean):
        e = process([1.0] * 5 + [bad] + [1.0] * 50)
        assert e[4] > 1
        assert (e[5:] == 0).all()


# the error budget


def test_the_shares_sum_to_one() -> None:
    n = 10_000
    rest = math.log(3) / math.log(n + 3)  # what the telescope leaves
    assert sum(share(i) for i in range(1, n + 1)) == pytest.approx(1 - rest, abs=1e-12)


@given(st.integers(0, 10**9))
@UNHURRIED
def test_shares_are_positive_and_fall(i: int) -> None:
    assert 0 < share(i + 2) < share(i + 1) < 1


@given(st.floats(0.001, 0.5), st.integers(1, 300))
@UNHURRIED
def test_levels_never_sum_to_more_than_alpha_where_nothing_is_kept(alpha: float, n: int) -> None:
    assert sum(next_level(Account(alpha, i, 0)) for i in range(n)) <= alpha


def test_a_keep_earns_budget_for_later_confirmations() -> None:
    assert next_level(Account(0.05, 9, 4)) == pytest.approx(5 * next_level(Account(0.05, 9, 0)))


def test_levels_equal_those_of_online_fdr() -> None:
    """The package asks one by one; ours may be asked while others are in flight."""
    package = pytest.importorskip("online_fdr.e_values")
    sequences = pytest.importorskip("online_fdr.core.abstract.abstract_gamma_seq")

    class Shares(sequences.AbstractGammaSequence):  # type: ignore[misc, name-defined]
        def calc_gamma(self, j: int, **_: object) -> float:
            return share(j)

    peer, account = package.ELond(alpha=0.05, gamma_seq=Shares()), Account()
    for e in np.exp(np.random.default_rng(0).normal(4, 3, size=500)):
        level = next_level(account)
        kept = peer.test_one(float(e))
        assert peer.current_level == pytest.approx(level, rel=1e-12)
        assert kept == (e * level >= 1)
        account = replace(account, n_begun=account.n_begun + 1, n_kept=account.n_kept + kept)
    assert account.n_kept > 5


# the policy


def test_a_screen_spends_nothing_and_its_pairs_are_not_used_again() -> None:
    noise = np.random.default_rng(0).normal(1, 1, size=12)
    results = [
        superiority(trial(pairs(first), pairs(noise), level=0.01), Account()).evidence
        for first in ([9.0, 9.1, 9.2], [-9.0, -9.1, -9.2], [NAN, NAN, NAN])
    ]
    assert results[0] == results[1] == results[2]
    assert screen((1.0, 2.1, 3.0), (0.0, 1.0, 2.0)).level is None


def test_a_passed_screen_begins_a_confirmation_at_the_level_in_force() -> None:
    account = Account(0.05, 7, 1)
    verdict = superiority(trial(pairs([1.0, 1.1, 0.9])), account)
    assert verdict.decision is Decision.CONTINUE
    assert verdict.level == next_level(account)


def test_a_confirmation_that_cannot_succeed_does_not_begin() -> None:
    verdict = superiority(trial(pairs([1.0, 1.1, 0.9])), Account(), max_pairs=6)
    assert verdict.decision is Decision.DISCARD
    assert verdict.level is None
    nothing = superiority(trial(pairs([1.0, 1.1, 0.9])), Account(alpha=0.0), max_pairs=5000)
    assert nothing.decision is Decision.DISCARD


def test_keeps_at_the_first_pair_that_reaches_one_over_the_level() -> None:
    verdict = confirm([1.0] * 20, level=0.01)
    assert verdict.keep
    assert verdict.evidence is not None and 100 <= verdict.evidence < 200


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_way_pairs_are_split_into_rounds_does_not_matter(sizes: list[int]) -> None:
    gains = np.random.default_rng(1).normal(1, 1, size=sum(sizes))
    whole = pairs(gains)
    cuts = np.cumsum([0, *sizes])
    rounds = [
        Result(whole.scores[a:b], whole.baseline[a:b]) for a, b in itertools.pairwise(cuts.tolist())
    ]
    one = superiority(trial(whole, whole, level=0.01), Account())
    assert superiority(trial(whole, *rounds, level=0.01), Account()) == one


def test_a_no_op_ends_after_max_pairs_at_the_latest() -> None:
    alternating = [1.0, -1.0] * 40
    assert confirm(alternating[:10]).decision is Decision.CONTINUE
    assert confirm(alternating).decision is Decision.DISCARD
    assert "not shown in 80" in confirm(alternating).reason
    assert "given up" in confirm(alternating[:40]).reason


def test_gives_up_when_the_pairs_left_cannot_suffice() -> None:
    verdict = confirm([0.0] * 20, level=0.01, max_pairs=26)
    assert verdict.decision is Decision.DISCARD
    assert "6 more cannot suffice" in verdict.reason


def test_pairs_beyond_max_pairs_do_not_count() -> None:
    late = [0.0] * 80 + [1.0] * 50
    assert confirm(late).decision is Decision.DISCARD


@pytest.mark.parametrize("loss", [500.0, 20.0])
def test_many_small_wins_do_not_make_up_for_a_rare_big_loss(loss: float) -> None:
    gains = [1.0] * 30
    assert confirm(gains, max_pairs=30).keep
    gains[0] = -loss
    verdict = confirm(gains, max_pairs=30)
    assert verdict.decision is Decision.DISCARD
    assert "without a clear mean gain" in verdict.reason


def test_a_no_op_change_is_not_kept() -> None:
    """60 lines of 100 no-ops; the second budget shows that ten times the level would be seen."""
    rng = np.random.default_rng(7)
    n_false = {0.05: 0, 0.5: 0}
    for alpha in n_false:
        for _ in range(60):
            account = Account(alpha)
            for _ in range(100):
                if account.n_kept == 0:
                    _, account = judge(rng.normal(size=84), account)
            n_false[alpha] += account.n_kept
    assert n_false[0.05] <= 6  # P(> 6) = 3 % where the rate is 5 %
    assert n_false[0.5] > 6


@pytest.mark.parametrize(("sigmas", "n_pairs"), [(2.0, 20), (1.0, 80)])
def test_a_true_gain_is_kept_after_many_no_ops(sigmas: float, n_pairs: int) -> None:
    """50 confirmations is what 250 no-ops at the screen come to."""
    rng = np.random.default_rng(3)
    account = Account(n_begun=50)
    kept = [judge(rng.normal(sigmas, 1, size=4 + n_pairs), account)[0].keep for _ in range(200)]
    assert np.mean(kept) >= 0.75  # 0.8 less two standard errors


def test_heavy_tails_cost_no_more_than_twice_the_pairs() -> None:
    rng = np.random.default_rng(5)

    def pairs_needed(noise: Floats) -> float:
        e = np.array([e_process(row) for row in 1 + noise])
        return float(np.median((e >= 1e4).argmax(axis=1)))

    gauss = pairs_needed(rng.normal(size=(200, 120)))
    assert pairs_needed(rng.standard_t(3, size=(200, 120)) / math.sqrt(3)) <= 2 * gauss


# what loses without a look


BAD = [
    Result((NAN, 2.0, 3.0), (0.0, 0.0, 0.0)),
    Result((INF, 2.0, 3.0), (0.0, 0.0, 0.0)),
    Result((1.0, 2.0, 3.0), (0.0, -INF, 0.0)),
    Result((1.0, 2.0, 3.0), (0.0, NAN, 0.0)),
    Result((1.0, 2.0, 3.0), (0.0, 0.0)),
    Result((1.0, 2.0, 3.0), ()),
    Result((), ()),
    Result((1e308, 1.2e308, 1e308), (-1e308, -1e308, -1e308)),
    Result((1.0, 2.0, 3.0), (0.0, 0.0, 0.0), error="CUDA out\nof memory"),
]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_finite_missing_or_failed_loses_in_every_round(bad: Result) -> None:
    good = pairs([1.0, 1.1, 0.9])
    won = pairs([1.0] * 30)
    for told in (
        trial(bad),
        trial(good, bad, level=0.01),
        trial(good, won, bad, level=0.01),
    ):
        for verdict in (
            superiority(told, Account()),
            noninferiority(told, Account(), margin=0.1),
        ):
            assert verdict.decision is Decision.DISCARD
            assert "\n" not in verdict.reason
    if bad.error is None:
        assert not better_than(bad.scores * 10, bad.baseline * 10, Account()).keep


@given(
    st.lists(st.tuples(st.floats(), st.floats()), max_size=20),
    st.one_of(st.none(), st.floats(1e-12, 0.05)),
)
@UNHURRIED
def test_no_score_makes_the_judge_raise(rows: list[tuple[float, float]], level: float) -> None:
    result = Result(tuple(a for a, _ in rows), tuple(b for _, b in rows))
    told = trial(result, *([result] if level else []), level=level)
    verdicts = [
        superiority(told, Account()),
        noninferiority(told, Account(), margin=0.1),
        better_than(result.scores, result.baseline, Account()),
    ]
    if not np.isfinite(rows).all():
        assert not any(verdict.keep for verdict in verdicts)


def test_nothing_measured_or_no_level_is_no_exception() -> None:
    good = pairs([1.0, 1.1, 0.9])
    assert superiority(trial(), Account()).decision is Decision.DISCARD
    assert superiority(trial(good, good), Account()).decision is Decision.DISCARD
    assert superiority(trial(good, level=0.01), Account()).decision is Decision.CONTINUE


def test_constant_scores_lose() -> None:
    noise = np.random.default_rng(0).normal(size=40)
    told = trial(pairs([1.0, 1.1]), Result((9.0,) * 40, tuple(noise)), level=0.01)
    verdict = superiority(told, Account())
    assert verdict.decision is Decision.DISCARD
    assert "constant" in verdict.reason
    assert superiority(told, Account(), ceiling=9.0).keep


def test_a_challenger_that_is_always_correct_does_not_lose_for_being_constant() -> None:
    champion = [True, False] * 30
    assert better_than([True] * 60, champion, Account()).keep
    assert not better_than(champion, [True] * 60, Account()).keep
    assert not better_than([True] * 60, [True] * 60, Account()).keep


# other questions


def test_better_than_needs_more_than_luck() -> None:
    assert not better_than([1, 1, 1], [0, 0, 0], Account()).keep
    scores, baseline = [1] * 50 + [0] * 50, [1] * 45 + [0] * 55
    assert not better_than(scores, baseline, Account()).keep
    assert better_than(scores, baseline, Account()).level == next_level(Account())


def test_noninferiority_finds_an_equal_and_refuses_a_worse_by_the_margin() -> None:
    rng = np.random.default_rng(2)

    def share_kept(mean: float) -> float:
        kept = [
            noninferiority(
                trial(pairs([0.0]), pairs(rng.normal(mean, 0.01, size=80)), level=0.01),
                Account(),
                margin=0.02,
            ).keep
            for _ in range(100)
        ]
        return float(np.mean(kept))

    assert share_kept(0.0) > 0.95
    assert share_kept(-0.02) <= 0.05


def test_noninferiority_screens_at_its_margin_too() -> None:
    slightly_worse = trial(pairs([-0.011, -0.01, -0.009]))
    assert noninferiority(slightly_worse, Account(), margin=0.02).decision is Decision.CONTINUE
    assert noninferiority(slightly_worse, Account(), margin=0.005).decision is Decision.DISCARD


def test_noninferiority_is_not_fooled_by_many_ties() -> None:
    """Worse by the margin on 0/1 scores: mostly ties, each of which is margin above the null."""
    rng = np.random.default_rng(4)
    n, n_kept, n_kept_equal = 1000, 0, 0
    for _ in range(100):
        worse = (rng.uniform(size=n) >= 0.05).astype(float)
        lost = trial(pairs([1.0]), Result(tuple(worse), (1.0,) * n), level=0.05)
        n_kept += noninferiority(lost, Account(), margin=0.05, max_pairs=n).keep
        equal = rng.permutation(np.repeat([1.0, -1.0, 0.0], [10, 10, n - 20]))
        base = np.where(equal > 0, 0.0, 1.0)
        same = trial(pairs([1.0]), Result(tuple(base + equal), tuple(base)), level=0.05)
        n_kept_equal += noninferiority(same, Account(), margin=0.05, max_pairs=n).keep
    assert n_kept <= 10
    assert n_kept_equal >= 90


@pytest.mark.parametrize("margin", [0.0, -0.1, NAN, INF])
def test_a_margin_must_be_a_positive_number(margin: float) -> None:
    with pytest.raises(InputError, match="margin"):
        noninferiority(trial(pairs([1.0])), Account(), margin=margin)


def test_matched_cost_says_what_differs() -> None:
    base = Cost(flops=1e9, n_params=1000, n_bytes=4000)
    near = Cost(seconds=99, flops=1.04e9, n_params=1019, n_bytes=3900)
    assert matched_cost(base, near) is None
    assert matched_cost(Cost(), Cost()) is None
    far = matched_cost(base, Cost(flops=1.2e9, n_params=1000, n_bytes=1000))
    assert far == (
        "not at matched cost: FLOPs 1e+09 -> 1.2e+09 (+20.0%), bytes 4000 -> 1000 (-75.0%)"
    )
    assert matched_cost(Cost(), base) is not None
    assert matched_cost(base, replace(base, flops=NAN)) is not None


def test_interval_is_wilsons() -> None:
    low, high = interval(8, 10)
    assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(50, 50)[1] == pytest.approx(1.0)


SMALL = Option("small", 0.899, 0.01, 10)
MIDDLE = Option("middle", 0.9075, 0.01, 50)
LARGE = Option("large", 0.909, 0.01, 100)


def test_select_ships_the_smallest_that_is_close_to_the_best() -> None:
    options = [LARGE, Option("broken", NAN, 0.0, 1), SMALL, MIDDLE]
    assert select(options, prefer="accuracy").option == MIDDLE
    assert select(options, prefer="size").option == SMALL
    assert "\n" not in select(options, prefer="size").reason


def test_select_looks_at_limits_first() -> None:
    best = replace(LARGE, score=0.99, misses=(Miss("latency", 0.1),))
    assert select([best, SMALL], prefer="accuracy").option == SMALL


def test_select_says_which_limit_binds_where_none_is_met() -> None:
    a = replace(LARGE, misses=(Miss("size", 0.1), Miss("latency", 0.5)))
    b = replace(SMALL, misses=(Miss("size", 0.25),))
    choice = select([a, b], prefer="accuracy")
    assert choice.option == b
    assert "size" in choice.reason
    assert "25.0%" in choice.reason


def test_select_with_nothing_to_ship_says_so() -> None:
    for options in ([], [Option("broken", NAN), Option("diverged", INF)]):
        choice = select(options, prefer="size")
        assert choice.option is None
        assert "finite" in choice.reason
    with pytest.raises(InputError, match="prefer"):
        select([SMALL], prefer="speed")  # type: ignore[arg-type]

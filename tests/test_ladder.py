"""The ladder's decisions, without training anything."""

from __future__ import annotations

import runpy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.clocks.design import ladder
from mendel.clocks.design.closing import N_WAYS, Ending, closing_s
from mendel.clocks.design.ladder import Standing
from mendel.emit.runtime import TEMPLATES
from mendel.kinds import KINDS, Shape, recipe_of
from mendel.kinds.text import MIN_ROWS
from mendel.parts.text.recipe import Recipe
from mendel.spec import Limits, TextSpec
from mendel.types import Candidate, Cost, Decision, InputError, Kind, Line, Result, Turn, Verdict

SHAPE = Shape(10_000, 77, Limits(), 5)
MAKER = KINDS["classify"].builder
LINE = Line("design", "task", "run")


def standing(accuracies: list[float], family: str = "dual", seconds: float = 10.0) -> Standing:
    spec = TextSpec(fields={"family": family, "dim": 60 + len(accuracies)})
    candidate = Candidate({"model": spec.to_dict()})
    turns = tuple(
        Turn(
            LINE,
            Kind.TRIAL,
            candidate,
            Result((accuracy,), cost=Cost(seconds)),
            Verdict(Decision.CONTINUE, ""),
            trial=f"{family}{accuracies}",
            round=i,
        )
        for i, accuracy in enumerate(accuracies)
    )
    return Standing(candidate, spec, turns)


def test_the_first_candidate_goes_on_and_a_clear_loser_does_not() -> None:
    assert ladder.promising([0.5], [], 0.003) is None
    stop = ladder.promising([0.5], [[0.9], [0.8], [0.7]], 0.003)
    assert stop is not None and "rank 4 of 4" in stop


def test_whoever_is_level_with_the_best_goes_on() -> None:
    better = [[0.90 + i / 1000, 0.9] for i in range(6)]
    assert ladder.promising([0.903, 0.898], better, 0.003) is None
    assert ladder.promising([0.80, 0.80], better, 0.003) is not None


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), max_size=8), st.integers(1, 4))
def test_the_best_of_its_round_always_goes_on(others: list[list[float]], r: int) -> None:
    assert ladder.promising([1.0] * r, others, 0.003) is None


def test_candidates_are_compared_on_the_folds_they_share() -> None:
    hard_folds_too = standing([0.95, 0.80, 0.80])
    easy_fold_only = standing([0.94])
    scores = ladder.level_scores([hard_folds_too, easy_fold_only])
    assert scores[0] > scores[1]
    assert ladder.leader([easy_fold_only, hard_folds_too]) is hard_folds_too


def test_the_ladder_comes_before_mutations_and_mutations_name_their_parent() -> None:
    alone = list(ladder.proposals(SHAPE, []))
    families = [recipe_of(TextSpec.parse(dict(c.state["model"]))).family for c in alone]
    assert families[:2] == ["keywords", "linear"] and {"dual", "cnn", "bag"} <= set(families)
    more = list(ladder.proposals(SHAPE, [standing([0.9])]))
    assert len(more) == len(alone) + len(MAKER.mutations)
    assert all(candidate.links for candidate in more[len(alone) :])


def test_every_kind_has_mutations_of_what_leads_and_estimates_of_its_rungs() -> None:
    for name, kind in KINDS.items():
        shape, maker = Shape(3_000, 5, Limits(), 5, name), kind.builder
        rungs = list(ladder.proposals(shape, []))
        spec = TextSpec.parse(dict(rungs[-1].state["model"]))
        told = replace(standing([0.9]), spec=spec, candidate=rungs[-1])
        assert len(list(ladder.proposals(shape, [told]))) == len(rungs) + len(maker.mutations)
        assert ladder.fits(recipe_of(spec), shape, [told], left_s=1e9)


@given(st.integers(2, 400), st.integers(60_000, 10**8), st.integers(20_000, 10**8))
def test_tables_are_cut_to_the_limits(n_labels: int, max_bytes: int, max_params: int) -> None:
    limits = Limits(max_bytes=max_bytes, max_params=max_params)
    recipe = MAKER.within(Recipe("linear", min_df=1), Shape(1000, n_labels, limits, 5))
    if recipe.max_rows > MIN_ROWS:
        assert recipe.max_rows * n_labels + n_labels <= max_params
        assert recipe.max_rows * n_labels <= max_bytes


def timed(standing: Standing, starting_s: float, latency_ms: float = 0.2) -> Standing:
    """The same, as a worker tells what it found."""
    facts = {"starting_s": starting_s, "float32": {"latency_ms": latency_ms}}
    turns = [replace(t, result=replace(t.result, facts=facts)) for t in standing.turns]
    return replace(standing, turns=tuple(turns))


def test_the_end_is_given_more_time_where_the_machine_is_busy_or_there_is_more_to_do() -> None:
    usual, found = Ending(n_sealed=1_000), [timed(standing([0.9]), starting_s=1.0)]
    needed = closing_s(SHAPE, found, usual)
    assert closing_s(SHAPE, [timed(standing([0.9]), 3.0)], usual) > needed + 10
    assert closing_s(SHAPE, [timed(standing([0.9]), 1.0, latency_ms=4)], usual) > needed + 20
    assert closing_s(SHAPE, found, Ending(10_000)) > needed + 1
    assert closing_s(SHAPE, found, Ending(1_000, n_compared=9_000, goes_on=True)) > needed + 3


def test_the_end_counts_what_only_some_kinds_are_asked() -> None:
    few, many = Ending(10), Ending(200)
    assert many.n_answers("classify") - few.n_answers("classify") == 190 * (1 + N_WAYS)
    assert many.n_answers("retrieve") - few.n_answers("retrieve") == 190
    assert 1 + len(runpy.run_path(str(TEMPLATES / "behaviour.py"))["CHANGES"]) == N_WAYS


@pytest.mark.parametrize(
    ("limits", "budget_s", "flag"),
    [
        (Limits(max_bytes=1000), 600, "--max-size"),
        (Limits(max_params=10), 600, "--max-params"),
        (Limits(max_latency_ms=0.001), 600, "--max-latency"),
        (Limits(), 1, "--budget"),
    ],
)
def test_limits_that_arithmetic_rules_out_are_refused(
    limits: Limits, budget_s: float, flag: str
) -> None:
    with pytest.raises(InputError, match=flag):
        ladder.check_limits(Shape(10_000, 77, limits, 5), budget_s)
    ladder.check_limits(SHAPE, 600)


def test_estimates_follow_what_rounds_have_taken() -> None:
    quick = ladder.estimate_s(Recipe(), SHAPE, [standing([0.9], seconds=5)])
    slow = ladder.estimate_s(Recipe(), SHAPE, [standing([0.9], seconds=50)])
    assert slow == pytest.approx(10 * quick)


def test_nothing_is_begun_that_cannot_be_completed_once_something_is_complete() -> None:
    complete = standing([0.9] * 5, seconds=10)
    one_round = ladder.estimate_s(Recipe(), SHAPE, [complete])
    assert not ladder.fits(Recipe(), SHAPE, [complete], left_s=2 * one_round)
    assert ladder.fits(Recipe(), SHAPE, [complete], left_s=6 * one_round)
    assert ladder.fits(Recipe(), SHAPE, [standing([0.9])], left_s=2 * one_round)


def test_a_complete_but_hopeless_candidate_does_not_ship_before_a_good_incomplete_one() -> None:
    hopeless, good = standing([0.45] * 5, "keywords"), standing([0.90], "linear")
    assert ladder.finalists([hopeless, good]) == [good]
    level = standing([0.905] * 5)
    assert ladder.finalists([hopeless, good, level]) == [level]

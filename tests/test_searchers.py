"""What searches promise: they find, they never repeat themselves, and a failure never wins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mendel.propose import guided
from mendel.propose.guided import Guided, Task, subset
from mendel.propose.searchers import Evolution, HillClimb, RandomSearch, Searcher
from mendel.propose.spaces import Choices, Picks
from mendel.propose.surrogate import Rows, Shape, expected_improvement, fit, given, standardised
from mendel.propose.tpe import TreeParzen
from mendel.types import InputError

SPACE = Choices((4,) * 5)
BEST = (2, 0, 3, 1, 2)
Make = Callable[..., Searcher[Picks]]
PLAIN: list[Make] = [RandomSearch, Evolution, HillClimb]
SHARED = Path(__file__).parents[2] / "shared/data"


def searches() -> list[Make]:
    return [*PLAIN, Guided]


def known_function(candidate: Picks) -> float:
    """Every right choice counts, and two neighbours that are right together count once more."""
    right = [a == b for a, b in zip(candidate, BEST, strict=True)]
    return sum(right) + sum(a and b for a, b in itertools.pairwise(right)) / 2


def shifted(candidate: Picks) -> float:
    """The same on another scale, and the last choice is free."""
    return 90 + 0.1 * known_function((*candidate[:4], 0))


def play(
    searcher: Searcher[Picks], score: Callable[[Picks], float], n: int
) -> list[tuple[Picks, float]]:
    told = []
    for _ in range(n):
        candidate = searcher.ask()
        told.append((candidate, score(candidate)))
        searcher.tell(*told[-1])
    return told


def trials_to(
    searcher: Searcher[Picks], score: Callable[[Picks], float], wanted: float, n: int = 400
) -> int:
    for i in range(n):
        [(_, found)] = play(searcher, score, 1)
        if found >= wanted:
            return i + 1
    return n + 1


def median_trials(make: Make) -> float:
    """Of 1,024 designs one is the best; a search that needs 200 trials is counted with 201."""
    top = known_function(BEST)
    return float(np.median([trials_to(make(SPACE, s), known_function, top, 200) for s in range(7)]))


def test_the_surrogate_finds_the_optimum_in_fewer_trials_than_chance_and_evolution() -> None:
    found = median_trials(Guided)
    assert found < median_trials(RandomSearch) / 3
    assert found < median_trials(Evolution)


@pytest.mark.parametrize("make", [Evolution, HillClimb])
def test_a_baseline_finds_the_optimum_in_fewer_trials_than_chance(make: Make) -> None:
    assert median_trials(make) < median_trials(RandomSearch) / 2


@pytest.mark.parametrize("make", searches())
def test_same_seed_same_run_and_another_seed_another(make: Make) -> None:
    runs = [play(make(SPACE, seed), known_function, 25) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("make", searches())
def test_a_whole_space_is_tried_once_each_and_then_refused(make: Make) -> None:
    small = Choices((3, 2, 4))
    searcher = make(small, 0)
    told = play(searcher, lambda c: float(sum(c)), 24)
    assert len({candidate for candidate, _ in told}) == 24
    with pytest.raises(InputError, match="none was found"):
        searcher.ask()


@pytest.mark.parametrize("make", searches())
def test_candidates_in_flight_are_not_asked_for_again(make: Make) -> None:
    searcher = make(SPACE, 1)
    play(searcher, known_function, 30)
    flying = [searcher.ask() for _ in range(12)]
    assert len(set(flying)) == 12
    for candidate in reversed(flying):
        searcher.tell(candidate, known_function(candidate))
    assert searcher.ask() not in flying


@pytest.mark.parametrize("make", searches())
@pytest.mark.parametrize("failure", [math.nan, math.inf])
def test_a_failure_never_wins_and_does_not_stop_the_search(make: Make, failure: float) -> None:
    """Half of the designs fail; the best of the others is found among 64 in all."""

    def score(candidate: Picks) -> float:
        return failure if candidate[0] > 1 else float(sum(candidate))

    told = play(make(Choices((4,) * 3), 2), score, 64)
    assert 7.0 in [found for _, found in told]


def test_hill_climbing_leaves_a_failure_for_any_score() -> None:
    searcher = HillClimb(SPACE, 0)
    first = searcher.ask()
    searcher.tell(first, math.nan)
    second = searcher.ask()
    searcher.tell(second, 0.0)
    assert searcher.place == second


def test_the_guided_search_leaves_a_region_that_fails() -> None:
    def score(candidate: Picks) -> float:
        return math.nan if candidate[0] > 1 else known_function(candidate)

    failed = [math.isnan(found) for _, found in play(Guided(SPACE, 5), score, 60)]
    assert sum(failed[20:]) <= 10  # by chance 20


def test_a_search_whose_every_trial_fails_goes_on() -> None:
    told = play(Guided(SPACE, 0), lambda c: math.nan, 20)
    assert len({candidate for candidate, _ in told}) == 20


def test_turns_on_another_task_help_on_this_one() -> None:
    wanted = shifted(BEST)
    cold, warm = [], []
    for seed in range(7):
        told = play(RandomSearch(SPACE, 100 + seed), known_function, 80)
        earlier = Task([c for c, _ in told], [found for _, found in told])
        cold.append(trials_to(Guided(SPACE, seed), shifted, wanted, 60))
        warm.append(trials_to(Guided(SPACE, seed, [earlier]), shifted, wanted, 60))
    assert np.median(warm) <= np.median(cold) / 2


def test_a_task_that_contradicts_does_not_stop_the_search() -> None:
    told = play(RandomSearch(SPACE, 9), lambda c: -known_function(c), 80)
    earlier = Task([c for c, _ in told], [found for _, found in told])
    misled = Guided(SPACE, 0, [earlier])
    assert trials_to(misled, known_function, known_function(BEST), 100) <= 100


def test_tasks_where_nothing_was_measured_say_nothing() -> None:
    empty = [Task[Picks]([], []), Task([BEST], [math.nan])]
    assert play(Guided(SPACE, 3, empty), known_function, 12) == play(
        Guided(SPACE, 3), known_function, 12
    )


def test_a_task_with_a_score_too_few_is_refused() -> None:
    with pytest.raises(InputError, match="1 candidates and 0 scores"):
        Task([BEST], [])


def test_a_large_space_is_searched_by_mutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """3^24 designs; the guided search gets further than hill climbing in as many trials."""
    space, wanted = Choices((3,) * 24), (1, 0, 2) * 8
    monkeypatch.setattr(guided, "N_DRAWN", 200)

    def score(candidate: Picks) -> float:
        return float(sum(a == b for a, b in zip(candidate, wanted, strict=True)))

    def best(make: Make) -> float:
        return max(found for _, found in play(make(space, 0), score, 60))

    assert best(Guided) > max(best(HillClimb), best(RandomSearch))


def test_tpe_asks_for_nothing_twice_and_repeats_itself_with_its_seed() -> None:
    pytest.importorskip("optuna", reason="needs the extra [bench]")
    runs = [play(TreeParzen(SPACE, 1), known_function, 40) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len({candidate for candidate, _ in runs[0]}) == 40


def test_tpe_survives_failures_and_what_it_did_not_ask_for() -> None:
    pytest.importorskip("optuna", reason="needs the extra [bench]")
    searcher = TreeParzen(SPACE, 1)
    searcher.tell(BEST, known_function(BEST))
    told = play(searcher, lambda c: math.nan if c[0] > 1 else known_function(c), 30)
    assert BEST not in [candidate for candidate, _ in told]


def rows(features: Any, task: int = 0) -> Rows:
    array = np.asarray(features, dtype=np.float32)
    return Rows(array, np.full(len(array), task, dtype=np.int64))


def test_the_surrogate_knows_what_it_saw_and_doubts_what_is_far() -> None:
    x = np.linspace(0, 1, 12)[:, None]
    z = standardised(np.sin(5 * x[:, 0]))
    found = fit(rows(x), z, 0.2, Shape(), rounds=4)
    mean, doubt = found.expects(rows(np.concatenate([x, [[4.0]]])))
    assert np.abs(mean[:-1] - z).max() < 0.2
    assert doubt[-1] > 3 * doubt[:-1].max()


def test_the_mean_is_that_of_the_textbook() -> None:
    """Against scikit-learn's process with the same kernel, noise and amplitude."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    rng = np.random.default_rng(0)
    x, other, z = rng.random((20, 3)), rng.random((30, 3)), rng.standard_normal(20)
    ours = given(rows(x), z, 1.0, Shape(length=0.7, share=0.0, noise=0.1))
    kernel = ConstantKernel(1.0, "fixed") + Matern(0.7, "fixed", nu=2.5)
    peer = GaussianProcessRegressor(kernel, alpha=0.1 + 1e-6, optimizer=None).fit(x, z)
    mean, deviation = peer.predict(other, return_std=True)
    found, doubt = ours.expects(rows(other))
    np.testing.assert_allclose(found, mean, atol=1e-3)
    np.testing.assert_allclose(doubt / math.sqrt(ours.amplitude), deviation, rtol=1e-2)


def test_kin_is_learnt_from_the_scores() -> None:
    """High where another task says the same, none where it says something unrelated."""
    rng = np.random.default_rng(1)
    x = rng.random((60, 2))
    z = standardised(np.sin(6 * x[:, 0]) + x[:, 1])
    both = Rows(np.concatenate([x, x]).astype(np.float32), np.repeat([0, 1], 60))
    alike = fit(both, np.concatenate([z, z]), 0.3, Shape(), rounds=6)
    apart = fit(both, np.concatenate([z, rng.permutation(z)]), 0.3, Shape(), rounds=6)
    assert alike.shape.kin >= 0.95
    assert apart.shape.kin <= 0.5


def test_standardised_scores_have_one_scale_and_failures_stand_with_the_worst() -> None:
    scores = np.array([10.0, 90.0, math.nan, 94.0, 93.0])
    z = standardised(scores)
    np.testing.assert_allclose(z, standardised(scores * 7 - 3))
    assert z[2] == z[0] == z.min()
    assert (z.argmax(), round(float(z.mean()), 6), round(float(z.std()), 6)) == (3, 0.0, 1.0)
    assert np.isfinite(standardised(np.array([5.0, 5.0]))).all()
    assert not standardised(np.array([math.nan])).any()


def test_expected_improvement_equals_its_simulation() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = np.array([0.0, 1.0, -1.0]), np.array([1.0, 0.3, 2.0])
    drawn = rng.normal(mean, deviation, (400_000, 3))
    found = expected_improvement(mean, deviation, 0.5)
    np.testing.assert_allclose(found, np.maximum(drawn - 0.5, 0).mean(axis=0), atol=0.01)


def test_a_fit_sees_the_best_the_latest_and_others() -> None:
    scores = np.arange(100_000.0) % 1000
    scores[7] = 5_000.0
    kept = subset(scores, 100, np.random.default_rng(0))
    assert len(set(kept.tolist())) == 100
    assert 7 in kept
    assert set(range(99_975, 100_000)) <= set(kept.tolist())


def test_with_100_000_known_turns_a_fit_sees_no_more_rows_than_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What keeps a proposal's time flat; the time itself is in the benchmark."""
    space, rng, seen = Choices((5,) * 9), np.random.default_rng(0), []
    searcher = Guided(space, 0)
    for candidate in map(tuple, rng.integers(5, size=(100_000, 9)).tolist()):
        searcher.tell(candidate, float(sum(candidate)))
    usual = guided.fit

    def watched(rows: Rows, *rest: Any, **more: Any) -> Any:
        seen.append(len(rows))
        return usual(rows, *rest, **more)

    monkeypatch.setattr(guided, "fit", watched)
    assert searcher.ask() not in searcher.told
    assert seen == [guided.N_OWN]


@pytest.mark.parametrize("sizes", [(), (3, 0)])
def test_a_field_without_choices_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="without a choice"):
        Choices(sizes)


def test_neighbours_differ_in_one_field_and_features_are_a_row_each() -> None:
    near = SPACE.neighbours(BEST)
    assert len(set(near)) == 5 * 3
    assert {sum(a != b for a, b in zip(n, BEST, strict=True)) for n in near} == {1}
    assert SPACE.features(near).shape == (15, 20)
    assert SPACE.features([]).shape == (0, 20)
    assert len(SPACE.everything(1024) or ()) == 1024
    assert SPACE.everything(1023) is None


@pytest.mark.skipif(not SHARED.exists(), reason="the published tables are not here")
def test_tables_are_read_whole_and_cells_that_compute_the_same_share_their_ways() -> None:
    from research_sections.published import cell_features, read

    table = read(SHARED, "cifar10")
    assert (len(table.scores), len(read(SHARED, "macro").scores)) == (5**6, 3**8)
    top = table.reached_by(0.001)
    assert sum(score >= top for score in table.scores.values()) == 15
    conv = np.array([[3, 0, 0, 0, 1, 0], [0, 3, 0, 0, 0, 1], [0, 0, 0, 3, 0, 0]])
    ways = cell_features(conv)[:, 35:]  # by one node, by the other, directly
    assert (ways[0] == ways).all() and ways[0].sum() == 1

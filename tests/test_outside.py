"""Knowing what it does not know: texts of no label, sets with a promise, and the drift alarm."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from mendel.parts import conformal
from mendel.parts.conformal import Drift, Section, fit_drift, fit_sets, measure_sets, sets
from mendel.parts.text.export import training_logits
from mendel.parts.text.fit import Examples, fit
from mendel.parts.text.recipe import Recipe
from mendel.train.outside import (
    DOUBT,
    OUTSIDE,
    fit_outside_threshold,
    generate_outside,
    outside_score,
    with_outside,
)
from mendel.types import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def desk() -> tuple[Examples, list[str]]:
    """The messages that have a label, and those that are out of scope."""
    rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    inside = [row for row in rows if row["label"] != "out_of_scope"]
    names = sorted({row["label"] for row in inside})
    labels = np.array([names.index(row["label"]) for row in inside])
    data = Examples([row["text"] for row in inside], labels, names)
    return data, [row["text"] for row in rows if row["label"] == "out_of_scope"]


def test_generated_texts_are_new_distinct_and_in_the_words_of_the_training_texts(
    desk: tuple[Examples, list[str]],
) -> None:
    data, _ = desk
    made = generate_outside(data.texts, data.labels, 300, 1)
    assert len(set(made)) == 300 and not set(made) & set(data.texts)
    words = {word for text in data.texts for word in text.split()}
    assert {word for text in made for word in text.split()} <= words
    assert made == generate_outside(data.texts, data.labels, 300, 1)
    assert made != generate_outside(data.texts, data.labels, 300, 2)


def test_texts_without_spaces_are_mixed_by_characters() -> None:
    made = generate_outside(["我的包裹在哪里", "我要退货退款", "怎么修改密码呢"], [0, 1, 2], 9, 0)
    assert len(made) == 9 and not any(" " in text for text in made)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=12), max_size=4), st.integers(0, 5))
def test_any_texts_are_mixed_or_there_are_fewer(texts: list[str], n: int) -> None:
    made = generate_outside(texts, [0] * len(texts), n, 0)
    assert len(set(made)) == len(made) <= n and not set(made) & set(texts)


def test_outside_texts_are_the_last_class_and_weigh_no_more_than_a_tenth(
    desk: tuple[Examples, list[str]],
) -> None:
    data, outside = desk
    n = len(data.texts)
    wider = with_outside(data, [*outside, data.texts[0]], n_generated=200, seed=0)
    assert wider.names == [*data.names, OUTSIDE] and wider.weights is not None
    assert (wider.labels[n:] == len(data.names)).all() and (wider.labels[:n] == data.labels).all()
    assert len(wider.texts) == len(wider.labels) == len(wider.weights) == n + len(outside) + 200
    assert wider.texts[n : n + len(outside)] == outside  # a training text is not outside
    given_rows, made = wider.weights[n : n + len(outside)], wider.weights[n + len(outside) :]
    assert made.sum() == pytest.approx(n / 10, rel=1e-5)
    assert given_rows.sum() == pytest.approx(n / 10, rel=1e-5)
    assert with_outside(data, ["one"], n_generated=0, seed=0).weights[-1] == 5  # type: ignore[index]


def test_soft_targets_and_weights_of_the_rows_stay_as_they_were() -> None:
    targets = np.array([[0.7, 0.3], [0, 1]], np.float32)
    weights = np.array([0.5, 2], np.float32)
    data = Examples(["a b", "c d"], np.zeros(2, np.int64), ["x", "y"], targets=targets)
    wider = with_outside(replace(data, weights=weights), ["e"], n_generated=0, seed=0)
    assert wider.targets is not None and wider.weights is not None
    assert (wider.targets[:2, :2] == targets).all() and (wider.weights[:2] == weights).all()
    assert wider.targets[2].tolist() == [0, 0, 1] and (wider.targets.sum(1) == 1).all()


def test_what_cannot_have_an_outside_is_refused() -> None:
    data = Examples(["a", "b"], np.array([0, 1]), ["x", "y"])
    with pytest.raises(InputError, match="kind multilabel"):
        with_outside(replace(data, kind="multilabel"), ["c"], n_generated=0, seed=0)
    with pytest.raises(InputError, match="no outside texts"):
        with_outside(data, ["a"], n_generated=0, seed=0)
    with pytest.raises(InputError, match="outside"):
        with_outside(replace(data, names=["x", OUTSIDE]), ["c"], n_generated=0, seed=0)


def test_the_outside_class_itself_is_no_label_to_be_sure_of() -> None:
    logits = np.log([[0.1, 0.2, 0.7], [0.89, 0.1, 0.01]]) + np.array([[800.0], [-800.0]])
    assert outside_score(logits, 2) == pytest.approx([0.8, 0.11])
    assert outside_score(logits[:, :2], 2) == pytest.approx([1 / 3, 10 / 99])


def test_a_model_that_saw_outside_texts_tells_others_of_them_better(
    desk: tuple[Examples, list[str]],
) -> None:
    data, outside = desk
    fold = np.arange(len(data.texts)) % 4 == 0
    texts = np.array(data.texts, object)
    train = Examples(texts[~fold].tolist(), data.labels[~fold], data.names)
    ranks = []
    for rows in (train, with_outside(train, outside[::2], n_generated=100, seed=0)):
        trained = fit(Recipe("linear"), rows)
        inside, strange = (
            outside_score(training_logits(trained, list(asked)), len(data.names))
            for asked in (texts[fold], outside[1::2])
        )
        ranks.append((strange[:, None] > inside).mean())
    assert ranks[1] > ranks[0] + 0.01


def test_a_threshold_keeps_its_promise_on_fresh_texts_nine_times_in_ten() -> None:
    chance = np.random.default_rng(0)

    def draw(n: int) -> tuple[Floats, NDArray[np.bool_]]:
        right = chance.random(n) < 0.9
        return np.where(right, chance.beta(1, 6, n), chance.beta(3, 3, n)), right

    n_broken = 0
    for _ in range(200):
        scores, right = draw(1500)
        settings = fit_outside_threshold(scores, None, right, max_wrong_rejections=0.02)
        assert json.loads(json.dumps(settings)) == settings and settings["kept"]
        fresh, good = draw(10_000)
        n_broken += (good & (fresh > settings["threshold"])).mean() > 0.02
    assert 0 < n_broken <= binom.ppf(0.999, 200, DOUBT)  # and it does not hide behind a margin


def test_outside_scores_are_counted_and_do_not_move_the_threshold() -> None:
    scores, right = np.arange(1000) / 1000, np.ones(1000, bool)
    settings = fit_outside_threshold(scores, None, right)
    counted = fit_outside_threshold(scores, [0.5, 0.9999, 1.0], right)
    assert counted["threshold"] == settings["threshold"] > 0.98
    assert counted["outside"]["n_rejected"] == 2 and settings["outside"] is None


def test_few_rows_promise_nothing_and_reject_no_right_answer() -> None:
    settings = fit_outside_threshold([0.1, 0.4, 0.9], None, [True, True, False])
    assert not settings["kept"] and settings["threshold"] == 0.4
    assert settings["n_right_rejected"] == 0 and settings["n_wrong_rejected"] == 1


@pytest.mark.parametrize(
    ("scores", "right", "share"),
    [
        ([0.1], [False], 0.01),
        ([np.nan], [True], 0.01),
        ([0.1, 0.2], [True], 0.01),
        ([0.1], [True], 1),
    ],
)
def test_a_threshold_from_nothing_is_refused(
    scores: list[float], right: list[bool], share: float
) -> None:
    with pytest.raises(InputError):
        fit_outside_threshold(scores, None, right, max_wrong_rejections=share)


def drawn(chance: np.random.Generator, n: int, k: int = 6) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities that mean what they say, nearly, and labels drawn by them."""
    probs = chance.dirichlet(np.full(k, 0.3), n)
    labels = (probs.cumsum(1) > chance.random((n, 1))).argmax(1)
    return probs**0.7 / (probs**0.7).sum(1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.8, 0.95])
@pytest.mark.parametrize("n", [30, 300])
def test_sets_hold_the_label_as_often_as_asked_on_average(coverage: float, n: int) -> None:
    chance = np.random.default_rng(0)
    reached = []
    for _ in range(150):
        settings = fit_sets(*drawn(chance, n), coverage)
        reached.append(measure_sets(*drawn(chance, 400), settings)["coverage"])
    error = np.std(reached) / np.sqrt(len(reached))
    assert coverage - 3 * error < np.mean(reached) < coverage + 1 / n + 3 * error + 0.01


def test_large_labels_are_each_covered_even_one_that_the_model_gets_wrong() -> None:
    chance = np.random.default_rng(0)

    def draw(n: int) -> tuple[Floats, NDArray[np.int64]]:
        probs, labels = drawn(chance, n)
        weak = labels == 0
        probs[weak, 0] /= 5  # the model underrates it
        return probs / probs.sum(1, keepdims=True), labels

    settings = fit_sets(*draw(6000), 0.9)
    assert len(set(settings["least"])) == 6
    probs, labels = draw(20_000)
    for k in range(6):
        rows = labels == k
        n_covered = measure_sets(probs[rows], labels[rows], settings)["n_covered"]
        n_fitted = 6000 // 6  # their own chance, beside that of the rows counted
        spread = np.sqrt(0.9 * 0.1 * (1 / rows.sum() + 1 / n_fitted))
        assert abs(n_covered / rows.sum() - 0.9) < 4 * spread


def test_a_higher_coverage_only_adds_labels_and_no_set_is_empty() -> None:
    chance = np.random.default_rng(0)
    probs, labels = drawn(chance, 500)
    few, many = (sets(probs, fit_sets(probs, labels, c)) for c in (0.5, 0.95))
    assert all(set(a) <= set(b) for a, b in zip(few, many, strict=True))
    best = probs.argmax(1).tolist()
    assert [found[0] for found in few] == best and min(map(len, few)) == 1


def test_a_label_that_hardly_occurs_is_not_in_every_set() -> None:
    probs, labels = drawn(np.random.default_rng(0), 3000, k=3)
    kept = (labels != 2) | (np.arange(3000) < 12)  # a few rows of the last label
    settings = fit_sets(probs[kept], labels[kept], 0.9)
    least = settings["least"]
    assert least[2] in least[:2]  # which lent its rows
    assert measure_sets(probs, labels, settings)["n_single"] > 1000


def test_too_few_rows_for_the_coverage_give_every_label() -> None:
    settings = fit_sets([[0.9, 0.1], [0.2, 0.8]], [0, 1], 0.95)
    assert sets([[1.0, 0.0]], json.loads(json.dumps(settings))) == [[0, 1]]
    assert measure_sets([[1.0, 0.0]], [1], settings)["mean_size"] == 2


def test_sets_refuse_what_they_were_not_fitted_for() -> None:
    settings = fit_sets([[0.9, 0.1]], [0], 0.9)
    for wrong in ([[0.2, 0.3, 0.5]], [[np.nan, 1]], [0.5, 0.5]):
        with pytest.raises(ValueError, match="Wanted"):
            sets(wrong, settings)
    for coverage, label in ((1.0, 0), (0.9, 2)):
        with pytest.raises(ValueError, match="Wanted"):
            fit_sets([[0.9, 0.1]], [label], coverage)


def signals(chance: np.random.Generator, n: int, other: float = 0.0) -> list[dict[str, float]]:
    """What a model sees of n texts, a share of them of another domain."""
    strange = chance.random(n) < other
    score = np.where(strange, chance.beta(2, 1.5, n), chance.beta(0.4, 3, n))
    unseen = np.where(strange, chance.binomial(9, 0.3, n), chance.binomial(9, 0.04, n)) / 9
    return [{"score": s, "unseen": u} for s, u in zip(score.tolist(), unseen.tolist(), strict=True)]


def reference(chance: np.random.Generator, n: int) -> Section:
    rows = signals(chance, n)
    found: Section = json.loads(
        json.dumps(fit_drift({k: [row[k] for row in rows] for k in ("score", "unseen")}))
    )
    return found


@pytest.mark.parametrize("n", [60, 600])
def test_one_in_a_hundred_streams_of_10_000_texts_at_most_has_a_false_alarm(n: int) -> None:
    chance = np.random.default_rng(n)
    n_false = 0
    for _ in range(25):
        drift = Drift(reference(chance, n))
        n_false += any(drift.update(**row) for row in signals(chance, 10_000))
    assert n_false == 0  # of 25


@pytest.mark.parametrize("n", [600, 3000])
def test_another_domain_in_three_of_ten_texts_is_told_once_within_1000_texts(n: int) -> None:
    chance = np.random.default_rng(n)
    for before in (0, 100, 250, 499):
        drift = Drift(reference(chance, n))
        assert not any(drift.update(**row) for row in signals(chance, before))
        told = [drift.update(**row) for row in signals(chance, 2000, other=0.3)]
        [line] = filter(None, told)
        assert told.index(line) < 1000 and "\n" not in line and "PSI" in line and drift.alarmed


def test_a_signal_that_never_varied_alarms_when_it_does_and_not_before() -> None:
    settings = fit_drift({"unseen": np.zeros(100)})
    drift = Drift(settings)
    assert not any(drift.update(unseen=0.0) for _ in range(5000))
    assert any(drift.update(unseen=float(i % 5 == 0)) for i in range(1000))


def test_broken_numbers_are_refused_and_too_few_give_no_alarm() -> None:
    with pytest.raises(ValueError, match=r"score: .* Wanted"):
        fit_drift({"score": [np.nan] * 50})
    drift = Drift(fit_drift({"score": np.zeros(10)}))
    assert not any(drift.update(score=1.0) for _ in range(2000))


def test_what_travels_imports_numpy_and_the_standard_library_alone() -> None:
    tree = ast.parse(Path(conformal.__file__).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in top}
    standard = {"__future__", "math", "threading", "bisect", "collections.abc", "typing"}
    assert names <= standard | {"numpy", "numpy.typing"}

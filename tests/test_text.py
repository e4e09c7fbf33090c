"""The text model: what trains is what serves, the same twice, alone or in a batch."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.kinds import KINDS
from mendel.kinds.kind import Shape
from mendel.kinds.text import TextMaker, _params
from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.carried.drawing import quantise
from mendel.parts.text.export import dequantised, training_logits
from mendel.parts.text.features import Config, Featurizer
from mendel.parts.text.fit import OTHERS, Examples, Trained, fit, schedule
from mendel.parts.text.graph import build_graph
from mendel.parts.text.network import Mixing
from mendel.parts.text.prune import prune
from mendel.parts.text.recipe import FAMILIES, HEAD, MIXINGS, Recipe
from mendel.parts.text.runner import Runner
from mendel.parts.text.store import pack, unpack
from mendel.parts.text.student import answered_by
from mendel.spec import Limits, TextSpec
from mendel.train.folds import Rows, measure_fold

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
QUICK = Recipe(epochs=2, batch=32, dim=16, bag_dim=12, channels=16, hidden=24)


@pytest.fixture(scope="module")
def data() -> Examples:
    rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()][:200]
    names = sorted({row["label"] for row in rows})
    numbers = np.array([names.index(row["label"]) for row in rows])
    return Examples([row["text"] for row in rows], numbers, names)


@pytest.fixture(scope="module")
def models(data: Examples) -> dict[str, Trained]:
    recipes = {family: replace(QUICK, family=family) for family in FAMILIES}
    recipes["two copies"] = replace(QUICK, copies=2)
    recipes["decay, two layers"] = replace(QUICK, family="mixer", mixing="decay", layers=2, dim=40)
    recipes["student"] = replace(QUICK, family="dual-mixer", teachers=2, epochs=1)
    made = {name: fit(recipe, data) for name, recipe in recipes.items()}
    pruned = {f"{name}, pruned": prune(made[name], 0.5) for name in ("linear", "cnn", "dual")}
    return made | pruned


PRUNED = ["linear, pruned", "cnn, pruned", "dual, pruned"]
NAMES = [*FAMILIES, "two copies", "decay, two layers", "student", *PRUNED]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_graph_says_what_the_training_code_says(
    name: str, int8: bool, models: dict[str, Trained], data: Examples
) -> None:
    trained = models[name]
    graph = Runner(build_graph(trained, int8=int8), trained.featurizer)
    twin = dequantised(trained) if int8 else trained
    expected = training_logits(twin, list(data.texts[:50]))
    assert np.abs(graph.logits(list(data.texts[:50])) - expected).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_text_alone_gets_the_answer_it_gets_in_a_batch(
    name: str, models: dict[str, Trained], data: Examples
) -> None:
    runner = Runner(build_graph(models[name], int8=True), models[name].featurizer)
    together = runner.logits(list(data.texts[:40]))
    alone = np.concatenate([runner.logits([text]) for text in data.texts[:40]])
    assert np.abs(together - alone).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_model_comes_back_from_its_bytes(name: str, models: dict[str, Trained]) -> None:
    trained = models[name]
    again = unpack(pack(trained))
    assert again.recipe == trained.recipe
    assert build_graph(again, int8=False) == build_graph(trained, int8=False)


def test_pruning_leaves_the_share_asked_for_and_what_says_most(
    models: dict[str, Trained], data: Examples
) -> None:
    whole, pruned = models["linear"], models["linear, pruned"]
    n_before, n_after = (m.featurizer.n_rows - 1 for m in (whole, pruned))
    assert n_after == round(n_before / 2)
    right = [(training_logits(m, data.texts).argmax(1) == data.labels).mean() for m in
             (whole, pruned, prune(whole, 0.02))]  # fmt: skip
    assert right[1] >= right[0] - 0.02 > right[2]


def test_a_fit_repeats_the_pruning_that_its_recipe_says(
    models: dict[str, Trained], data: Examples
) -> None:
    pruned = models["dual, pruned"]
    again = fit(pruned.recipe, data)
    assert build_graph(again, int8=True) == build_graph(pruned, int8=True)


@pytest.mark.parametrize("family", ["linear", "dual"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    family: str, data: Examples
) -> None:
    recipe = replace(QUICK, family=family)
    one, same = fit(recipe, data, seed=3), fit(recipe, data, seed=3)
    assert pack(one) == pack(same)
    if recipe.is_learned:
        assert pack(fit(recipe, data, seed=4)) != pack(one)


def test_copies_are_different_networks(models: dict[str, Trained]) -> None:
    tensors = models["two copies"].tensors
    assert not np.array_equal(tensors["0.cnn.table"], tensors["1.cnn.table"])
    assert TextMaker().n_params(models["two copies"]) == 2 * TextMaker().n_params(models["dual"])


@pytest.mark.parametrize(
    "fields",
    [{"family": "cnn"}, *({"family": "mixer", "mixing": m, "max_width": 1} for m in MIXINGS)],
)
def test_a_network_learns_what_a_table_of_words_cannot(fields: dict[str, Any]) -> None:
    """Two classes that differ in word order alone; a mixer needs no windows to tell them apart."""
    texts = ["dog bites man", "man bites dog"] * 40
    labels = np.array([0, 1] * 40)
    pair = Examples(texts, labels, ["dog", "man"])
    trained = fit(replace(QUICK, epochs=30, min_df=1, **fields), pair)
    runner = Runner(build_graph(trained, int8=False), trained.featurizer)
    assert runner.logits(texts[:2]).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["mixer", "dual-mixer", "decay, two layers"])
def test_a_ladder_counts_the_weights_that_mixing_adds(
    name: str, models: dict[str, Trained], data: Examples
) -> None:
    mixes = models[name].recipe
    plain = replace(mixes, family="dual" if mixes.has_bag else "cnn")
    n_plain = TextMaker().n_params(fit(replace(plain, epochs=1), data))
    n_more = _params(mixes, len(data.names))[1] - _params(plain, len(data.names))[1]
    assert TextMaker().n_params(models[name]) == n_plain + n_more


def test_a_student_is_one_network_trained_on_what_its_teachers_answer(data: Examples) -> None:
    recipe = replace(QUICK, epochs=3)
    teachers = fit(replace(recipe, copies=2), data, seed=OTHERS)
    weighed = replace(data, weights=np.ones(len(data.texts), np.float32))
    rows = answered_by(weighed, teachers)
    assert rows.targets is not None and rows.weights is weighed.weights
    assert np.allclose(rows.targets.sum(1), 1, atol=1e-5)
    told: list[float] = []
    student = fit(replace(recipe, teachers=2), data, progress=told.append)
    assert told == sorted(told) and 0.9 < told[-1] <= 1
    by_hand = fit(recipe, answered_by(data, teachers))
    assert student.tensors.keys() == by_hand.tensors.keys()
    assert all(np.array_equal(v, by_hand.tensors[n]) for n, v in student.tensors.items())


@pytest.mark.parametrize("kind", ["multilabel", "regress"])
def test_teachers_answer_in_the_form_of_the_kind(kind: str, data: Examples) -> None:
    """A student of numbers gives numbers in their own unit, one of many labels probabilities."""
    first = data.labels[:, None] == np.arange(2)
    numbers = 1000 + 50 * first[:, :1]
    targets = (first if kind == "multilabel" else numbers).astype(np.float32)
    names = ["a", "b"] if kind == "multilabel" else ["price"]
    rows = Examples(data.texts, np.zeros(len(targets), np.int64), names, kind, targets)
    answered = answered_by(rows, fit(replace(QUICK, epochs=10), rows)).targets
    assert answered is not None and answered.shape == targets.shape
    assert np.abs(answered - targets).mean() < np.abs(targets - targets.mean(0)).mean()
    student = training_logits(fit(replace(QUICK, teachers=1), rows), data.texts)
    assert (student.min() > 900) == (kind == "regress")


def test_a_round_of_a_taught_mixer_measures_each_of_its_forms(data: Examples) -> None:
    targets = tuple(data.names[i] for i in data.labels)
    rows = Rows(tuple(data.texts), targets, tuple(data.names), np.arange(len(targets)) % 5)
    recipe = replace(QUICK, family="dual-mixer", teachers=1, epochs=15, batch=8)
    measured = measure_fold(KINDS["classify"], TextSpec(fields=recipe.to_dict()), rows, 0, seed=0)
    assert measured.forms.keys() == {"float32", "int8", "pruned int8"}
    held_out = rows.only(rows.folds == 0)
    chance = max(map(targets.count, targets)) / len(targets)
    for form in measured.forms.values():
        assert KINDS["classify"].score(form.kept, held_out) > 2 * chance


def test_teachers_take_time_that_a_guess_knows_of(data: Examples) -> None:
    shape = Shape(10_000, 77, Limits(), 5)
    alone, two, taught = (
        TextMaker().guess_s(recipe, shape) for recipe in
        (Recipe(), Recipe(copies=2), Recipe(teachers=1))
    )  # fmt: skip
    assert taught == two > 1.9 * alone
    with pytest.raises(OutOfTime):
        fit(replace(QUICK, epochs=500, teachers=1), data, deadline=time.monotonic() + 0.3)


def test_decay_is_a_recurrence_from_both_ends() -> None:
    """Of each head: S_t = a S_(t-1) + k_t v_t, read by q_t; a word takes from itself once."""
    torch.manual_seed(0)
    n_words, n_heads = 7, 2
    mixing = Mixing(replace(QUICK, family="mixer", mixing="decay", dim=n_heads * HEAD))
    x, absent = torch.randn(1, n_words + 2, n_heads * HEAD), torch.zeros(1, 1, 1, n_words + 2)
    absent[..., n_words:] = -1e4
    q, k, v = (part(x)[0, :n_words].view(n_words, n_heads, HEAD)
               for part in (mixing.q, mixing.k, mixing.v))  # fmt: skip
    before, behind = (-mixing.slopes.exp()).exp().view(2, n_heads, 1, 1)
    read = torch.zeros(n_words, n_heads, HEAD)
    for order, decay, own in ((range(n_words), before, 1), (range(n_words)[::-1], behind, 0)):
        S = torch.zeros(n_heads, HEAD, HEAD)
        for t in order:
            written = torch.einsum("hk,hv->hkv", k[t], v[t])
            read[t] += torch.einsum("hk,hkv->hv", q[t], decay * S + own * written)
            S = decay * S + written
    unit = torch.nn.functional.rms_norm(read * HEAD**-0.5, (HEAD,), eps=1e-5)
    found = mixing(x, absent)[0, :n_words]
    assert torch.allclose(found, mixing.join(unit.view(n_words, -1)), atol=1e-5)


def test_a_label_without_rows_is_never_the_answer_of_a_linear_model(data: Examples) -> None:
    more = Examples(data.texts, data.labels, [*data.names, "never seen"])
    trained = fit(Recipe("linear"), more)
    runner = Runner(build_graph(trained, int8=False), trained.featurizer)
    assert (runner.logits(list(data.texts)).argmax(1) < len(data.names)).all()


def test_texts_of_one_word_can_be_learned() -> None:
    """Windows of three words then reach two words beyond the longest text of a batch."""
    names = Examples(("anna", "boris", "carla", "dmitri") * 4, np.arange(16) % 4, list("abcd"))
    trained = fit(replace(QUICK, epochs=30), names)
    runner = Runner(build_graph(trained, int8=False), trained.featurizer)
    assert runner.logits(list(names.texts)).argmax(1).tolist() == names.labels.tolist()


def test_a_fit_gives_up_at_its_deadline(data: Examples) -> None:
    with pytest.raises(OutOfTime):
        fit(replace(QUICK, epochs=500), data, deadline=time.monotonic() + 0.3)


def test_a_loss_that_is_not_finite_stops_the_fit(data: Examples) -> None:
    with pytest.raises(FloatingPointError, match="step"):
        fit(replace(QUICK, lr=1e30), data)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [schedule(i / 100, 0.1) for i in range(101)]
    assert max(rates) == pytest.approx(1, abs=0.01) and np.argmax(rates) == 10
    assert rates[-1] == pytest.approx(0.01) and rates[0] > 0


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_texts_give_the_same_features_padded_or_ragged(texts: list[str]) -> None:
    features = Featurizer.fit(Config(min_df=1, phrase_min_df=1), [*texts, "hello world"])
    arrays, ragged = features.arrays(texts), features.ragged(texts)
    for i in range(len(texts)):
        ids, weights = ragged.bags[i]
        n = len(ids)
        assert np.array_equal(arrays["ids"][i, :n], ids) and not arrays["ids"][i, n:].any()
        assert np.array_equal(arrays["weights"][i, :n], weights)
        padded = arrays["grams"][arrays["tokens"][i]]
        for row, word in zip(padded, ragged.tokens[i], strict=False):
            begin, end = ragged.starts[word], ragged.starts[word + 1]
            assert np.array_equal(row[row > 0], ragged.rows[begin:end])


@given(st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_no_text_breaks_the_featuriser(junk: bytes) -> None:
    features = Featurizer.fit(Config(), ["a b", "a b c"])
    text = junk.decode("utf-8", "surrogateescape")
    assert features.arrays([text])["weights"].shape[0] == 1


def test_a_vocabulary_comes_back_from_its_file(data: Examples) -> None:
    features = Featurizer.fit(Config(max_rows=500), data.texts)
    file = io.BytesIO()
    features.save(file)
    file.seek(0)
    again = Featurizer.load(file)  # type: ignore[arg-type]
    mine, its = features.arrays(data.texts[:20]), again.arrays(data.texts[:20])
    assert all(np.array_equal(mine[name], its[name]) for name in mine)
    assert again.n_rows == 501


def test_quantised_rows_are_within_half_a_step() -> None:
    table = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    table[3] = 0
    rows, scale = quantise(table)
    assert (np.abs(rows * scale - table) <= scale / 2 + 1e-7).all()
    assert not rows[3].any()


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'channels'"):
        Recipe.from_dict({"family": "cnn", "chanels": 3})


def test_a_recipe_says_only_what_differs_and_comes_back() -> None:
    recipe = replace(Recipe(), dim=32)
    assert recipe.to_dict() == {"family": "dual", "dim": 32}
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_tf_idf_weights_have_length_one(data: Examples) -> None:
    features = Featurizer.fit(Config(), data.texts)
    weights = features.arrays(data.texts[:20])["weights"]
    assert np.allclose(np.sqrt((weights**2).sum(1)), 1, atol=1e-5)
    assert math.isfinite(float(weights.sum()))

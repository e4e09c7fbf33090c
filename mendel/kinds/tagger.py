"""The builder of span taggers, and its ladder: linear -> both directions -> both -> mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from mendel.data.invented import invented
from mendel.kinds.kind import Maker, Rung, Shape
from mendel.parts.tagger.export import files
from mendel.parts.tagger.fit import Examples, Trained, fit
from mendel.parts.tagger.recipe import TagRecipe
from mendel.parts.tagger.runner import Runner
from mendel.parts.tagger.store import pack, unpack
from mendel.train.folds import Ran, Rows

N_TIMED = 200  # texts whose latency is measured
MIN_ROWS = 256  # of the table
FEW = 5_000  # rows
OVERHEAD_BYTES = 20_000  # of a graph without its weights
CLUSTER_BYTES = 130_000  # of the table of words by cluster, at most
# seconds a row, an epoch for networks, a look for the linear one, on one core of 2024
SECONDS_A_ROW = {"lstm": 5e-4, "cnn": 1.5e-3, "linear": 8e-5}

MUTATIONS: list[tuple[str, Callable[[TagRecipe], TagRecipe]]] = [
    ("one network more, scores averaged", lambda r: replace(r, copies=r.copies + 1)),
    ("half as wide: a smaller model", lambda r: replace(r, dim=r.dim // 2, width=r.width // 2)),
    ("half as wide again as it was", lambda r: replace(r, width=r.width * 3 // 2)),
    ("half as long again in training", lambda r: replace(r, epochs=r.epochs * 3 // 2)),
    ("mentions swapped for others of their label", lambda r: replace(r, augment="swap")),
    ("mentions filled from lists", lambda r: replace(r, augment="fill")),
    ("rows written otherwise, as others are", lambda r: replace(r, augment="noise")),
    ("finds more, wrongly too", lambda r: replace(r, recall=r.recall + 1)),
    ("words hidden more often", lambda r: replace(r, word_drop=0.5, hide_drop=0.3)),
    ("rare n-grams kept", lambda r: replace(r, min_df=1)),
    ("smaller steps", lambda r: replace(r, lr=r.lr / 2)),
]


class TaggerMaker(Maker):
    """Builds mendel.parts.tagger."""

    part = "tagger"
    recipes = TagRecipe
    package = SimpleNamespace(fit=fit, pack=pack, unpack=unpack)
    mutations = MUTATIONS
    rival = 0.7  # crfsuite is quicker than ours, whose looks are many

    # -- a round --

    def fit(self, recipe: TagRecipe, examples: Examples, *, seed: int, **more: Any) -> Trained:
        """Where copies of rows are filled, with phrases that Faker invents for the labels, too."""
        if recipe.augment == "fill":
            examples = replace(examples, fillers=invented(examples.names, seed))
        return fit(recipe, examples, seed=seed, **more)

    def run(self, model: Trained, texts: Sequence[str], *, int8: bool) -> Ran:
        made = files(model, int8=int8)
        runner = Runner(made["model.onnx"], model.featurizer, model.chain(), model.names)
        n_bytes = len(made["model.onnx"]) + len(made["vocabulary.npz"])
        unseen = np.array([model.featurizer.unseen(text) for text in texts], np.float32)
        latency_ms = runner.latency_ms(texts[:N_TIMED])
        return Ran(runner.answers(texts), unseen, n_bytes, latency_ms, model.about)

    # -- the ladder --

    def rungs(self, shape: Shape) -> Iterator[Rung]:
        base = self.starting_point(shape)
        noisy, for_noise = self._noisy(base), "clues and two that read, words hidden: for new names"
        clues = replace(base, family="linear", epochs=TagRecipe().epochs)  # which count in looks
        yield Rung(replace(clues, looks=20), "clues of a word, few looks: soonest")
        if shape.n_lists and shape.n_rows < FEW:  # lists say most of what few rows do not
            alone = replace(noisy, family="linear", copies=1, epochs=clues.epochs)
            yield Rung(alone, "clues alone, and finds more")
            yield Rung(noisy, for_noise)
            if shape.fills:
                filled = replace(noisy, augment="fill")
                yield Rung(filled, "the same, beside rows with mentions from the lists")
        yield Rung(base, "reads each text from both ends")
        yield Rung(clues, "clues of a word and its neighbours")
        both = "clues and two that read, scores averaged: errors that differ cancel"
        yield Rung(replace(base, family="dual", copies=2), both)
        yield Rung(replace(base, dim=32, width=64), "reads at half the size")
        yield Rung(replace(base, family="dual", copies=2, recall=1.0), "both, and finds more")
        yield Rung(noisy, for_noise)

    def _noisy(self, base: TagRecipe) -> TagRecipe:
        """For mentions that training has not: leans on lists and on what is around a word."""
        few = replace(base, family="dual", copies=2, epochs=min(base.epochs, 8), recall=1.5)
        return replace(few, word_drop=0.5, hide_drop=0.3, max_clues=2 * base.max_clues)

    def starting_point(self, shape: Shape) -> TagRecipe:
        """Less data, more passes of smaller batches."""
        if shape.n_rows < 1_000:
            few = TagRecipe(epochs=20, batch=8, min_df=1, dim=32, width=48, lr=0.01)
            return replace(few, hidden_drop=0.3, vector_drop=0.2, word_drop=0.2, hide_drop=0.05)
        if shape.n_rows < FEW:
            return TagRecipe(epochs=15, batch=32, width=64)
        return TagRecipe()

    def plain(self, recipe: TagRecipe) -> TagRecipe:
        return replace(recipe, augment="", amount=1.0)

    def within(self, recipe: TagRecipe, shape: Shape) -> TagRecipe:
        """Tables are cut, of a dual model each to its half of what is left."""
        if recipe.augment == "fill" and not shape.fills:
            recipe = replace(recipe, augment="swap")  # which is what filling from nothing is
        fixed, tags = recipe.copies * _fixed(recipe, shape.n_labels), 1 + 2 * shape.n_labels
        room = shape.limits.max_bytes - OVERHEAD_BYTES - 2 * fixed  # int8, and room for a float32
        if room < 3 * CLUSTER_BYTES:
            recipe = replace(recipe, n_clusters=0)
        room -= CLUSTER_BYTES * (recipe.n_clusters > 0)
        n_tables = 1 + (recipe.has_clues and recipe.has_reader)
        left = min(shape.limits.max_params - fixed, room) // n_tables
        if recipe.has_clues:
            n_clues = max(MIN_ROWS, min(recipe.max_clues, left // (tags + 4)))
            recipe = replace(recipe, max_clues=n_clues)
        if recipe.has_reader:
            n_rows = max(MIN_ROWS, min(recipe.max_rows, left // (recipe.copies * recipe.dim + 10)))
            recipe = replace(recipe, max_rows=n_rows)
        return recipe

    def least(self, shape: Shape) -> tuple[int, int]:
        smallest = TagRecipe("cnn", dim=16, width=16, layers=1)
        n_params = MIN_ROWS * 16 + _fixed(smallest, shape.n_labels)
        return n_params, 4 * n_params + OVERHEAD_BYTES

    def guess_s(self, recipe: TagRecipe, shape: Shape) -> float:
        clues = recipe.looks * SECONDS_A_ROW["linear"] * recipe.has_clues
        reader = SECONDS_A_ROW["cnn" if recipe.family == "cnn" else "lstm"] * recipe.has_reader
        width = 0.4 + recipe.width / 200
        passes = recipe.epochs * recipe.copies
        n_rows = shape.n_rows * (1 + recipe.amount * (recipe.augment != ""))
        like = 1e-4 * shape.n_rows + 5e-5 * shape.n_unlabeled if recipe.n_clusters else 0.0
        return 0.5 + like + n_rows * (clues + passes * reader * width)

    def growth(self, recipe: TagRecipe, rows: Rows) -> float:
        return 1.05  # a fifth more rows add about so much to a vocabulary that is cut by frequency


def _fixed(recipe: TagRecipe, n_labels: int) -> int:
    """Parameters that do not depend on the table's rows, at most."""
    tags = 1 + 2 * n_labels
    if not recipe.has_reader:
        return tags * (tags + 3)
    if recipe.family != "cnn":
        body = 8 * recipe.width * (recipe.dim + recipe.width + 2)
        return body + 2 * recipe.width * tags + tags * (tags + 3)
    body = recipe.layers * 9 * recipe.width * recipe.width + recipe.dim * recipe.width
    return body + recipe.width * tags + tags * (tags + 3)

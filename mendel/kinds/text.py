"""The builder of text models, and its ladder: what is tried, in which order, and what it costs.

keywords -> linear -> dual, small, two small -> cnn, bag, dual-mixer -> mutations of what leads
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np

from mendel.kinds.kind import Maker, Rung, Shape
from mendel.parts.text.features import Config, Featurizer
from mendel.parts.text.fit import Trained, fit
from mendel.parts.text.graph import build_graph
from mendel.parts.text.prune import prune
from mendel.parts.text.recipe import HEAD, Recipe
from mendel.parts.text.runner import Runner
from mendel.parts.text.store import pack, unpack
from mendel.train.folds import Ran, Rows

N_TIMED = 200  # texts whose latency is measured
MIN_ROWS = 256  # of a table; fewer features make no model worth shipping
KEEP = 0.7  # of the n-grams, when pruned: costs 0.1 to 0.2 points of accuracy (BANKING77)
OVERHEAD_BYTES = 4_000  # of a graph without its weights

# seconds a row (an epoch, for networks) on one core of 2024; the run corrects it by what it sees
SECONDS_A_ROW = {
    "keywords": 1e-5,
    "linear": 7e-4,
    "bag": 1.2e-4,
    "cnn": 1.6e-4,
    "mixer": 1.6e-4,
    "dual": 2.4e-4,
    "dual-mixer": 2.4e-4,
}
SECONDS_A_LAYER = 1.2e-4  # more, of a mixer

Change = Callable[[Recipe], Recipe]
MUTATIONS: list[tuple[str, Change]] = [
    ("one network more, logits averaged", lambda r: replace(r, copies=r.copies + 1)),
    (
        "half as wide: a smaller model",
        lambda r: replace(
            r,
            dim=r.dim // 2,
            bag_dim=r.bag_dim // 2,
            channels=r.channels // 2,
            hidden=r.hidden // 2,
        ),
    ),
    (
        "half as wide again as it was",
        lambda r: replace(
            r, dim=r.dim * 3 // 2, bag_dim=r.bag_dim * 3 // 2, channels=r.channels * 3 // 2
        ),
    ),
    ("half as long again in training", lambda r: replace(r, epochs=r.epochs * 3 // 2)),
    ("phrases of three words", lambda r: replace(r, phrase_max=3)),
    ("rare n-grams kept", lambda r: replace(r, min_df=1)),
    ("only n-grams seen four times", lambda r: replace(r, min_df=4, phrase_min_df=4)),
    ("stronger dropout", lambda r: replace(r, bag_drop=0.65, gram_drop=0.3, pooled_drop=0.6)),
    ("windows of four words", lambda r: replace(r, max_width=4)),
    ("no character bigrams", lambda r: replace(r, char_min=3)),
    ("smaller steps", lambda r: replace(r, lr=r.lr / 2)),
    (
        "one network, taught by twice as many",
        lambda r: replace(r, copies=1, teachers=2 * max(r.copies, r.teachers)),
    ),
]


class TextMaker(Maker):
    """Builds mendel.parts.text."""

    part = "text"
    recipes = Recipe
    package = SimpleNamespace(fit=fit, pack=pack, unpack=unpack)
    mutations = MUTATIONS

    # -- a round --

    def forms(self, recipe: Recipe) -> Sequence[str]:
        whole = super().forms(recipe)
        return whole if recipe.family == "keywords" or recipe.keep < 1 else (*whole, "pruned int8")

    def in_form(self, model: Trained, form: str) -> Trained:
        return prune(model, KEEP) if form == "pruned int8" else model

    def run(self, model: Trained, texts: Sequence[str], *, int8: bool) -> Ran:
        graph = build_graph(model, int8=int8)
        runner = Runner(graph, model.featurizer)
        vocabulary = io.BytesIO()
        model.featurizer.save(vocabulary)
        return Ran(
            runner.logits(list(texts)),
            np.array([model.featurizer.unseen(text) for text in texts], np.float32),
            len(graph) + len(vocabulary.getvalue()),
            runner.latency_ms(list(texts[:N_TIMED])),
        )

    # -- the ladder --

    def rungs(self, shape: Shape) -> Iterator[Rung]:
        if shape.kind != "pair":
            yield from self._rungs(shape)
            return
        for recipe, why in self._rungs(shape):
            yield Rung(replace(recipe, pair=1, max_words=4 * recipe.max_words), why)

    def _rungs(self, shape: Shape) -> Iterator[Rung]:
        base = self.starting_point(shape)
        frugal = replace(base, dim=48, bag_dim=32, channels=96, min_df=base.min_df + 1)
        short = Recipe("linear", char_max=4, min_df=3, phrase_min_df=3, max_rows=10_000)
        if shape.kind not in ("regress", "pair"):  # where the names of labels say something
            yield Rung(Recipe("keywords", min_df=1), "needs no examples; the floor")
        yield Rung(short, "trained in seconds, and small")
        every = Recipe("linear", phrase_max=3, min_df=1)
        yield Rung(every, "every n-gram: the strongest linear model")
        yield Rung(base, "words in context and counts, trained together")
        yield Rung(frugal, "the same at half the size")
        two = "two small networks, logits averaged: errors that differ cancel"
        yield Rung(replace(frugal, copies=2), two)
        yield Rung(replace(base, family="cnn"), "words in context alone")
        yield Rung(replace(base, family="bag"), "counts alone: the quickest network to answer")
        if shape.kind != "pair":  # whose words are hundreds, with marks that say more than order
            mixed = replace(base, family="dual-mixer")
            yield Rung(mixed, "counts, and words that take from one another before they are read")

    def starting_point(self, shape: Shape) -> Recipe:
        """Less data, more passes of smaller batches."""
        if shape.n_rows < 2_000:
            return Recipe(epochs=30, batch=32)
        if shape.n_rows > 30_000:
            return Recipe(epochs=6, batch=256, min_df=3)
        return Recipe()

    def within(self, recipe: Recipe, shape: Shape) -> Recipe:
        per_row, fixed = _params(recipe, shape.n_labels)
        by_params = (shape.limits.max_params - fixed) // per_row
        by_bytes = (shape.limits.max_bytes - OVERHEAD_BYTES - 4 * fixed) // (per_row + 10)  # int8
        return replace(recipe, max_rows=max(MIN_ROWS, min(recipe.max_rows, by_params, by_bytes)))

    def least(self, shape: Shape) -> tuple[int, int]:
        n_params = MIN_ROWS * shape.n_labels + shape.n_labels
        return n_params, n_params + 10 * MIN_ROWS + OVERHEAD_BYTES

    def guess_s(self, recipe: Recipe, shape: Shape) -> float:
        epochs = recipe.epochs if recipe.is_learned else 1
        width = 0.5 + recipe.dim / 128 if recipe.is_learned else shape.n_labels**0.5 / 9
        per_row = SECONDS_A_ROW[recipe.family] + recipe.n_mixed * SECONDS_A_LAYER
        n_networks = recipe.copies + recipe.teachers
        return 0.2 + shape.n_rows * epochs * n_networks * width * per_row

    def growth(self, recipe: Recipe, rows: Rows) -> float:
        return 1.0 if recipe.family == "keywords" else _growth(recipe.config, rows)


@cache
def _growth(config: Config, rows: Rows) -> float:
    fold_texts = rows.only(rows.folds != 0).texts
    sizes = [Featurizer.fit(config, texts).n_rows for texts in (fold_texts, rows.texts)]
    return sizes[1] / sizes[0]


def _params(recipe: Recipe, n_labels: int) -> tuple[int, int]:
    """Parameters for each row of the tables, and those that do not depend on the rows."""
    if not recipe.is_learned:
        return n_labels, n_labels
    widths = range(1, recipe.max_width + 1)
    cnn = sum(w * recipe.dim * recipe.channels + recipe.channels for w in widths)
    cnn += recipe.channels * recipe.max_width * n_labels + n_labels
    mixing = 4 * recipe.n_heads * HEAD * recipe.dim + 2 * recipe.n_heads
    cnn += recipe.n_mixed * (mixing + 6 * recipe.dim**2)
    bag = (recipe.bag_dim + 1) * recipe.hidden + (recipe.hidden or recipe.bag_dim) * n_labels
    per_row = recipe.bag_dim * recipe.has_bag + recipe.dim * recipe.has_cnn
    fixed = cnn * recipe.has_cnn + bag * recipe.has_bag
    return recipe.copies * per_row, recipe.copies * fixed

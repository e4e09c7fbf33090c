"""The builder of search models, and its ladder: words -> n-grams -> vectors -> mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from mendel.kinds.kind import Maker, Rung, Shape
from mendel.parts.search.export import files
from mendel.parts.search.fit import Trained, fit
from mendel.parts.search.recipe import SearchRecipe
from mendel.parts.search.runner import Runner
from mendel.parts.search.store import pack, unpack
from mendel.train.folds import Ran, Rows

N_TIMED = 100  # queries whose latency is measured
MIN_ROWS = 1_000  # of the table
OVERHEAD_BYTES = 10_000  # of a graph without its weights
PASSAGE_BYTES = 300  # of a passage's text, packed, as a rule
LEAST_BYTES = 40  # of one, where all say much the same

MUTATIONS: list[tuple[str, Callable[[SearchRecipe], SearchRecipe]]] = [
    ("n-grams of three", lambda r: replace(r, n=3)),
    ("n-grams count more than words", lambda r: replace(r, gram_share=0.7)),
    ("words count more than n-grams", lambda r: replace(r, gram_share=0.3)),
    ("n-grams of five", lambda r: replace(r, n=5)),
    ("twice as long in training", lambda r: replace(r, epochs=r.epochs * 2)),
    ("half as wide: a smaller model", lambda r: replace(r, dim=r.dim // 2)),
    ("long passages marked down less", lambda r: replace(r, b=r.b / 2)),
    ("a softer choice in training", lambda r: replace(r, heat=r.heat * 2)),
    ("larger steps", lambda r: replace(r, lr=r.lr * 2)),
    ("fewer pieces of passages", lambda r: replace(r, crops=r.crops / 4)),
    ("rare n-grams have vectors", lambda r: replace(r, min_df=1)),
]


class SearchMaker(Maker):
    """Builds mendel.parts.search."""

    part = "search"
    recipes = SearchRecipe
    package = SimpleNamespace(fit=fit, pack=pack, unpack=unpack)
    mutations = MUTATIONS

    # -- a round --

    def run(self, model: Trained, texts: Sequence[str], *, int8: bool) -> Ran:
        made = files(model, int8=int8)
        runner = Runner(made["model.onnx"], model.featurizer)
        n_bytes = len(made["model.onnx"]) + len(made["vocabulary.npz"])
        unseen = np.zeros(len(texts), np.float32)  # no alarm watches a search
        return Ran(runner.scores(texts), unseen, n_bytes, runner.latency_ms(texts[:N_TIMED]))

    # -- the ladder --

    def rungs(self, shape: Shape) -> Iterator[Rung]:
        base = self.starting_point(shape)
        yield Rung(SearchRecipe("words"), "BM25 of words: nothing to train")
        yield Rung(SearchRecipe("grams"), "BM25 of words and n-grams: typing errors, endings")
        yield Rung(replace(base, dim=base.dim // 4), "vectors beside BM25, narrow ones")
        yield Rung(base, "vectors beside BM25")

    def starting_point(self, shape: Shape) -> SearchRecipe:
        """Fewer queries, more passes."""
        return SearchRecipe(epochs=20) if shape.n_rows < 1_000 else SearchRecipe()

    def within(self, recipe: SearchRecipe, shape: Shape) -> SearchRecipe:
        """A table is cut to what the passages leave of the limits."""
        if not recipe.is_learned:
            return recipe
        left = min(
            shape.limits.max_params - shape.n_passages * recipe.dim,
            shape.limits.max_bytes
            - OVERHEAD_BYTES
            - shape.n_passages * (recipe.dim + 4 + PASSAGE_BYTES),
        )
        n_rows = min(recipe.max_rows, left // (recipe.dim + 12))  # key, weight and scale of a row
        return replace(recipe, max_rows=max(MIN_ROWS, n_rows))

    def least(self, shape: Shape) -> tuple[int, int]:
        return 0, shape.n_passages * LEAST_BYTES

    def guess_s(self, recipe: SearchRecipe, shape: Shape) -> float:
        if not recipe.is_learned:
            return 0.3 + 3e-4 * shape.n_passages
        n_items = shape.n_rows + recipe.crops * shape.n_passages
        width = 0.3 + recipe.dim / 128
        return 1.0 + 1e-3 * shape.n_passages + recipe.epochs * n_items * width * 2.5e-4

    def growth(self, recipe: SearchRecipe, rows: Rows) -> float:
        return 1.02 if recipe.is_learned else 1.0  # the passages are in every fold

"""The builder of span taggers, and its ladder: windows -> both directions -> two -> mutations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from mendel.kinds.kind import Maker, Rung, Shape
from mendel.parts.tagger.export import files
from mendel.parts.tagger.fit import Examples, Trained, fit
from mendel.parts.tagger.recipe import TagRecipe
from mendel.parts.tagger.runner import Runner
from mendel.parts.tagger.store import pack, unpack
from mendel.spec import SpecError, TextSpec
from mendel.train.folds import Progress, Ran, Rows

N_TIMED = 200  # texts whose latency is measured
MIN_ROWS = 256  # of the table
OVERHEAD_BYTES = 20_000  # of a graph without its weights
SECONDS_A_ROW = {"lstm": 5e-4, "cnn": 6e-4}  # an epoch, on one core of 2024

MUTATIONS: list[tuple[str, Callable[[TagRecipe], TagRecipe]]] = [
    ("one network more, scores averaged", lambda r: replace(r, copies=r.copies + 1)),
    ("half as wide: a smaller model", lambda r: replace(r, dim=r.dim // 2, width=r.width // 2)),
    ("half as wide again as it was", lambda r: replace(r, width=r.width * 3 // 2)),
    ("half as long again in training", lambda r: replace(r, epochs=r.epochs * 3 // 2)),
    ("finds more, wrongly too", lambda r: replace(r, recall=r.recall + 0.5)),
    ("words hidden more often", lambda r: replace(r, word_drop=0.4, hide_drop=0.15)),
    ("rare n-grams kept", lambda r: replace(r, min_df=1)),
    ("smaller steps", lambda r: replace(r, lr=r.lr / 2)),
]


class TaggerMaker(Maker):
    """Builds mendel.parts.tagger."""

    part = "tagger"
    mutations = MUTATIONS

    # -- a round --

    def recipe(self, spec: TextSpec) -> TagRecipe:
        try:
            return TagRecipe.from_dict(spec.fields)
        except (ValueError, TypeError) as error:
            raise SpecError(f"TextSpec.fields: {error}") from None

    def fit(
        self,
        recipe: TagRecipe,
        examples: Examples,
        *,
        seed: int,
        deadline: float = math.inf,
        progress: Progress = lambda share: None,
    ) -> Trained:
        return fit(recipe, examples, seed=seed, deadline=deadline, progress=progress)

    def run(self, model: Trained, texts: Sequence[str], *, int8: bool) -> Ran:
        made = files(model, int8=int8)
        runner = Runner(made["model.onnx"], model.featurizer, model.chain(), model.names)
        n_bytes = len(made["model.onnx"]) + len(made["vocabulary.npz"])
        unseen = np.zeros(len(texts), np.float32)  # no alarm watches a tagger yet
        return Ran(runner.answers(texts), unseen, n_bytes, runner.latency_ms(texts[:N_TIMED]))

    def n_params(self, model: Trained) -> int:
        return int(sum(tensor.size for tensor in model.tensors.values()))

    def pack(self, model: Trained) -> bytes:
        return pack(model)

    def unpack(self, data: bytes) -> Trained:
        return unpack(data)

    # -- the ladder --

    def rungs(self, shape: Shape) -> Iterator[Rung]:
        base = self.starting_point(shape)
        quick = replace(base, family="cnn", dim=32, width=48, layers=1, epochs=6)
        yield Rung(quick, "windows of three words, few passes: trained soonest")
        yield Rung(base, "reads each text from both ends")
        yield Rung(replace(base, dim=32, width=64), "the same at half the size")
        two = "two small ones, scores averaged: errors that differ cancel"
        yield Rung(replace(base, dim=48, width=64, copies=2), two)
        yield Rung(replace(base, family="cnn"), "windows that grow with depth")

    def starting_point(self, shape: Shape) -> TagRecipe:
        """Less data, more passes of smaller batches."""
        if shape.n_rows < 1_000:
            few = TagRecipe(epochs=20, batch=8, min_df=1, dim=32, width=48)
            return replace(few, lr=0.01, hidden_drop=0.3, vector_drop=0.2)
        if shape.n_rows < 5_000:
            return TagRecipe(epochs=20)
        return TagRecipe(epochs=12, batch=64, width=128, word_drop=0.4, hide_drop=0.15)

    def within(self, recipe: TagRecipe, shape: Shape) -> TagRecipe:
        fixed = recipe.copies * _fixed(recipe, shape.n_labels)
        per_row = recipe.copies * recipe.dim
        by_params = (shape.limits.max_params - fixed) // per_row
        by_bytes = (shape.limits.max_bytes - OVERHEAD_BYTES - 4 * fixed) // (per_row + 10)
        return replace(recipe, max_rows=max(MIN_ROWS, min(recipe.max_rows, by_params, by_bytes)))

    def least(self, shape: Shape) -> tuple[int, int]:
        smallest = TagRecipe("cnn", dim=16, width=16, layers=1)
        n_params = MIN_ROWS * 16 + _fixed(smallest, shape.n_labels)
        return n_params, 4 * n_params + OVERHEAD_BYTES

    def guess_s(self, recipe: TagRecipe, shape: Shape) -> float:
        width = 0.4 + recipe.width / 160
        deep = recipe.layers / 3 if recipe.family == "cnn" else 1.0
        per_row = SECONDS_A_ROW[recipe.family] * width * max(deep, 0.3)
        return 0.5 + shape.n_rows * recipe.epochs * recipe.copies * per_row

    def growth(self, recipe: TagRecipe, rows: Rows) -> float:
        return 1.05  # a fifth more rows add about so much to a vocabulary that is cut by frequency


def _fixed(recipe: TagRecipe, n_labels: int) -> int:
    """Parameters that do not depend on the table's rows, at most."""
    tags = 1 + 2 * n_labels
    if recipe.family == "lstm":
        body = 8 * recipe.width * (recipe.dim + recipe.width + 2)
        return body + 2 * recipe.width * tags + tags * (tags + 3)
    body = recipe.layers * 9 * recipe.width * recipe.width + recipe.dim * recipe.width
    return body + recipe.width * tags + tags * (tags + 3)

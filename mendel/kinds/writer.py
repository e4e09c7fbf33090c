"""The builder of writers, and its ladder: small and soon -> wider and longer -> mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from mendel.kinds.kind import Maker, Rung, Shape
from mendel.parts.carried.running import session_of
from mendel.parts.writer.export import files
from mendel.parts.writer.features import N_SYMBOLS
from mendel.parts.writer.fit import Engine, Trained, fit
from mendel.parts.writer.recipe import WriterRecipe
from mendel.parts.writer.runner import Runner
from mendel.parts.writer.store import pack, unpack
from mendel.spec import ModelSpec, PartSpec
from mendel.train.folds import Ran, Rows

if TYPE_CHECKING:
    import torch

N_TIMED = 50  # prompts whose first symbol is timed
OVERHEAD_BYTES = 60_000  # of a graph without its weights
BYTES_A_COUNT = 5  # a step to the next key and a weight, compressed
MIN_ROWS = 2_000  # of counts
LEAST = WriterRecipe(width=32, layers=1, heads=2, window=16)
SECONDS_A_FLOP = 5e-11  # of training, on one core of 2024
SECONDS_A_PLACE = 1e-5  # of what counts say
SECONDS_A_STEP = 0.01  # besides

MUTATIONS: list[tuple[str, Callable[[WriterRecipe], WriterRecipe]]] = [
    ("twice as long in training", lambda r: replace(r, steps=r.steps * 2)),
    ("half as wide again as it was", lambda r: replace(r, width=_even(r.width * 3 // 2, r))),
    ("one block more", lambda r: replace(r, layers=r.layers + 1)),
    ("twice the window", lambda r: replace(r, window=r.window * 2)),
    ("smaller steps", lambda r: replace(r, lr=r.lr / 2, matrix_lr=r.matrix_lr / 2)),
    ("twice the batch", lambda r: replace(r, batch=r.batch * 2)),
    ("counts look less far back", lambda r: replace(r, order=max(r.order - 2, 2))),
    ("half as wide: a smaller model", lambda r: replace(r, width=_even(r.width // 2, r))),
]


def model_spec(recipe: WriterRecipe) -> ModelSpec:
    """The engine's spec of the same network."""
    fields = {"n_heads": recipe.heads, "window": recipe.window, "qk_norm": True}
    return ModelSpec(
        width=recipe.width,
        n_layers=recipe.layers,
        context=2 * recipe.window,
        vocab=N_SYMBOLS,
        mixers=(PartSpec(part="attention", fields=fields),),
        channels=(PartSpec(part="gated", fields={"hidden": recipe.hidden}),),
    )


def engine(recipe: WriterRecipe, seed: int) -> Engine:
    """The engine's network, its matrices trained by Muon."""
    # imported here: torch takes seconds
    from mendel.model import build
    from mendel.train.optim import OptimSpec, make_optimizer

    model = build(model_spec(recipe), seed=seed)
    params: dict[str, torch.Tensor] = dict(model.named_parameters())
    if recipe.has_counts:
        params["head.logits.weight"].data.zero_()  # at first the counts alone speak
    matrices = [name for name, p in params.items() if name.startswith("layers.") and p.ndim == 2]
    spec = OptimSpec(
        lr=recipe.lr, muon_lr=recipe.matrix_lr, beta2=0.99, weight_decay=recipe.decay,
        dtype="float32",
    )  # fmt: skip
    optimizer = make_optimizer(spec, params, matrices=matrices)

    def change(grads: Mapping[str, Any], share: float) -> None:
        optimizer.step(grads, share)

    return Engine(lambda tokens: model(tokens)[0], params, change)


class WriterMaker(Maker):
    """Builds mendel.parts.writer."""

    part = "writer"
    recipes = WriterRecipe
    package = SimpleNamespace(fit=partial(fit, make=engine), pack=pack, unpack=unpack)
    mutations = MUTATIONS

    # -- a round --

    def run(self, model: Trained, texts: Sequence[str], *, int8: bool) -> Ran:
        made = files(model, int8=int8)
        runner = Runner(session_of(made["model.onnx"]), model.featurizer)
        n_bytes = len(made["model.onnx"]) + len(made["vocabulary.npz"])
        unseen = np.zeros(len(texts), np.float32)  # no alarm watches a writer
        return Ran(runner.bits(texts), unseen, n_bytes, runner.latency_ms(texts[:N_TIMED]))

    # -- the ladder --

    def rungs(self, shape: Shape) -> Iterator[Rung]:
        base = self.starting_point(shape)
        small = replace(base, width=48, layers=1, heads=2, window=32, steps=60)
        yield Rung(small, "counts, and a small network that corrects them: trained in seconds")
        yield Rung(base, "a network that looks further back, and longer in training")
        yield Rung(replace(base, steps=base.steps * 3), "three times as long in training")
        wide = replace(base, width=128, layers=3, steps=base.steps * 3)
        yield Rung(wide, "wider and deeper")
        yield Rung(replace(wide, steps=wide.steps * 3), "wider, deeper, and longer again")
        yield Rung(replace(wide, family="attention", steps=wide.steps * 3), "without counts")

    def starting_point(self, shape: Shape) -> WriterRecipe:
        return WriterRecipe()

    def n_params(self, model: Trained) -> int:
        return int(sum(v.size for name, v in model.tensors.items() if not name.endswith("entries")))

    def within(self, recipe: WriterRecipe, shape: Shape) -> WriterRecipe:
        """Narrower where the limits ask for it."""
        while _misses(recipe, shape) and recipe.width > LEAST.width:
            recipe = replace(recipe, width=max(_even(recipe.width * 3 // 4, recipe), LEAST.width))
        while _misses(recipe, shape) and recipe.layers > 1:
            recipe = replace(recipe, layers=recipe.layers - 1)
        params_left = shape.limits.max_params - n_params_of(recipe)
        bytes_left = shape.limits.max_bytes - _n_bytes(recipe)
        most = max(MIN_ROWS, min(recipe.max_rows, params_left, bytes_left // BYTES_A_COUNT))
        return replace(recipe, max_rows=most)

    def least(self, shape: Shape) -> tuple[int, int]:
        n_params = n_params_of(LEAST)
        return n_params + MIN_ROWS, _n_bytes(LEAST) + BYTES_A_COUNT * MIN_ROWS

    def guess_s(self, recipe: WriterRecipe, shape: Shape) -> float:
        places = recipe.batch * 2 * recipe.window
        flops = places * (6 * n_params_of(recipe) + 24 * recipe.window * recipe.width)
        a_step = flops * SECONDS_A_FLOP + places * SECONDS_A_PLACE + SECONDS_A_STEP
        return 2 + recipe.steps * a_step

    def refit(self, shape: Shape) -> float:
        return 1.0  # steps take as long, however many rows there are

    def growth(self, recipe: WriterRecipe, rows: Rows) -> float:
        return 1.0  # no vocabulary grows


def n_params_of(recipe: WriterRecipe) -> int:
    C = recipe.width
    layer = 4 * C * C + 3 * C * recipe.hidden + 2 * C + 2 * C // recipe.heads
    return recipe.layers * layer + 2 * N_SYMBOLS * C + C


def _misses(recipe: WriterRecipe, shape: Shape) -> bool:
    n_params, n_bytes = n_params_of(recipe) + MIN_ROWS, _n_bytes(recipe) + BYTES_A_COUNT * MIN_ROWS
    return n_params > shape.limits.max_params or n_bytes > shape.limits.max_bytes


def _n_bytes(recipe: WriterRecipe) -> int:
    """Of the graph in int8, with a scale a row."""
    return n_params_of(recipe) * 17 // 16 + OVERHEAD_BYTES


def _even(width: int, recipe: WriterRecipe) -> int:
    """The next width below that the heads divide into even parts."""
    return max(width // (2 * recipe.heads), 2) * 2 * recipe.heads

"""Texts to weights: steps over windows of all texts, one behind the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..carried.deadline import OutOfTime
from .counts import N_PARTS, Counts, keys_of
from .features import END, N_SYMBOLS, Featurizer, symbols
from .recipe import WriterRecipe

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, NDArray[np.float32]]
Change = Callable[[Mapping[str, Any], float], None]  # gradients by name, share of the rate
CLIP = 1.0  # longest gradient


@dataclass(frozen=True)
class Examples:
    texts: Sequence[str]


@dataclass(frozen=True)
class Trained:
    """Weights and what they were trained by."""

    recipe: WriterRecipe
    tensors: Tensors

    @cached_property
    def featurizer(self) -> Featurizer:
        sizes = self.recipe.layers, self.recipe.width, self.recipe.window
        return Featurizer(*sizes, Counts.from_tensors(self.tensors))

    @property
    def weights(self) -> Tensors:
        """Those of the network alone."""
        return {n: value for n, value in self.tensors.items() if not n.startswith("counts.")}


class Engine(NamedTuple):
    """A network that is trained, and what changes it by its gradients."""

    network: Callable[[torch.Tensor], torch.Tensor]  # symbols (B, T) -> logits (B, T, V)
    params: Mapping[str, torch.Tensor]
    change: Change


def fit(
    recipe: WriterRecipe,
    examples: Examples,
    *,
    seed: int,
    deadline: float = math.inf,
    progress: Callable[[float], None] = lambda share: None,
    make: Callable[[WriterRecipe, int], Engine] | None = None,
) -> Trained:
    """Train on windows that begin at a text or anywhere, by halves.

    make     builds what is trained; None = network.py and Adam
    raises   OutOfTime past the deadline (time.monotonic()); FloatingPointError for a NaN loss
    """
    import torch
    import torch.nn.functional as F

    engine = (make or plain)(recipe, seed)
    windows = Windows(examples.texts, recipe)
    for step in range(recipe.steps):
        if time.monotonic() > deadline:
            raise OutOfTime(f"after {step} of {recipe.steps} steps")
        x, y, hints = (torch.from_numpy(side) for side in windows.batch(seed, step))
        logits = engine.network(x) + hints
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"the loss is {float(loss.detach())} at step {step}")
        grads = torch.autograd.grad(loss, list(engine.params.values()))
        shorten(grads)
        engine.change(dict(zip(engine.params, grads, strict=True)), rate(recipe, step))
        progress((step + 1) / recipe.steps)
    tensors = {name: value.detach().numpy().copy() for name, value in engine.params.items()}
    if windows.hints:
        tensors |= windows.hints.whole.tensors()
    return Trained(recipe, tensors)


def plain(recipe: WriterRecipe, seed: int) -> Engine:
    """The part's own network and torch's Adam: what trains a project where mendel is not."""
    import torch
    from torch import nn

    from .network import Writer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Writer(recipe)
        if recipe.has_counts:
            nn.init.zeros_(network.head["logits"].weight)  # type: ignore[arg-type]
    params = dict(network.named_parameters())
    adam = torch.optim.AdamW(params.values(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.0)

    def change(grads: Mapping[str, torch.Tensor], share: float) -> None:
        for name, value in params.items():
            value.grad = grads[name]
        adam.param_groups[0]["lr"] = recipe.lr * share
        adam.step()

    return Engine(network, params, change)


class Windows:
    """Texts in a row, and windows of them.

    With counts, the texts of as many parts as training will see once: the hints for a part are
    counted in all others, which takes a while.
    """

    def __init__(self, texts: Sequence[str], recipe: WriterRecipe) -> None:
        rows = [symbols(text) for text in texts]
        parts = np.arange(len(texts)) % N_PARTS
        wanted = recipe.steps * recipe.batch * 2 * recipe.window
        share = wanted / sum(len(row) + 1 for row in rows) if recipe.has_counts else 1.0
        used = min(N_PARTS, math.ceil(N_PARTS * share))
        order = [i for i in np.argsort(parts, kind="stable").tolist() if parts[i] < used]
        lengths = np.array([len(rows[i]) + 1 for i in order])
        end = np.array([END])
        self.ids = np.concatenate([end, *(part for i in order for part in (rows[i], end))])
        longest = int(np.quantile(lengths, 0.99)) + 8
        # windows much longer than the texts would teach what lies behind an END
        self.length = min(2 * recipe.window, max(longest, 16), len(self.ids) - 1)
        starts = np.cumsum([0, *lengths[:-1]])
        self.starts = np.minimum(starts, len(self.ids) - 1 - self.length)
        self.n = max(1, recipe.batch * 2 * recipe.window // self.length)  # as many symbols a step
        self.hints = _Hints(texts, order, lengths, recipe) if recipe.has_counts else None

    def batch(self, seed: int, step: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """x and y (B, T), y one symbol later, hints (B, T, V) or 0; by seed and step alone."""
        chance = np.random.Generator(np.random.Philox(key=np.array([seed, step], np.uint64)))
        anywhere = chance.integers(0, len(self.ids) - self.length, self.n)
        at_text = self.starts[chance.integers(0, len(self.starts), self.n)]
        starts = np.where(np.arange(self.n) % 2 == 0, anywhere, at_text)
        places = starts[:, None] + np.arange(self.length)
        hints = self.hints(places) if self.hints else np.zeros(1, np.float32)
        return self.ids[places], self.ids[places + 1], hints


class _Hints:
    """What counts say at places of the row: of each text, the counts of the parts without it.

    So they are as wrong in training as they will be for new texts.
    """

    def __init__(
        self,
        texts: Sequence[str],
        order: Sequence[int],
        lengths: NDArray[np.int64],
        recipe: WriterRecipe,
    ) -> None:
        self.whole = Counts.fitting(texts, recipe.order, recipe.max_rows)
        parts = [i % N_PARTS for i in order]
        self.counts = [
            Counts.of([t for i, t in enumerate(texts) if i % N_PARTS != own] or texts,
                      self.whole.order)
            for own in range(max(parts) + 1)
        ]  # fmt: skip
        self.contexts = keys_of([texts[i] for i in order], self.whole.order) // N_SYMBOLS
        self.parts = np.repeat(parts, lengths)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, T) -> (B, T, N_SYMBOLS)"""
        flat = places.ravel()
        found = np.empty((len(flat), N_SYMBOLS), np.float32)
        for own, counts in enumerate(self.counts):
            mine = self.parts[flat] == own
            found[mine] = counts.spread(self.contexts[flat[mine]])
        return found.reshape(*places.shape, N_SYMBOLS)


def rate(recipe: WriterRecipe, step: int) -> float:
    """Up in a line, then down in a line to nothing."""
    share, warmup = (step + 1) / recipe.steps, recipe.warmup
    return share / warmup if share < warmup else max((1 - share) / (1 - warmup), 0.01)


def shorten(grads: tuple[torch.Tensor, ...]) -> None:
    """To a length of CLIP at most, all together, in place."""
    import torch

    norm = torch.stack(torch._foreach_norm(grads)).norm()
    torch._foreach_mul_(grads, (CLIP / (norm + 1e-6)).clamp(max=1.0))

"""A conditional random field over clues, fitted to its optimum: no chance and no dropout in it.

Where texts are few and clues are many, a penalty and a proper optimum generalise better than
the steps of a network do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from .chain import FORBIDDEN, Floats, forbidden
from .features import Ints, Ragged
from .network import dearer, loss
from .recipe import TagRecipe

SIZE = 256  # texts of like length whose sums are made together

Doubles = NDArray[np.float64]


class Batch(NamedTuple):
    """Texts of like length: places (b, T) among all tokens, where they are inside a text."""

    places: Ints
    inside: NDArray[np.bool_]
    tags: torch.Tensor
    lengths: torch.Tensor


class LinearFit:
    """The penalised loss of all texts, as a function of one long vector of scores.

    In it lie, one after the other: steps (K, K), start (K,), end (K,), table (R, K).
    """

    def __init__(
        self, recipe: TagRecipe, ragged: Ragged, tags: Sequence[Ints], n_rows: int, n_labels: int
    ) -> None:
        self.recipe, self.n_rows, self.n_tags = recipe, n_rows, 1 + 2 * n_labels
        ends = np.cumsum([0, *np.concatenate(ragged.n_clues)])
        columns = np.concatenate(ragged.clues)
        ones = np.ones(len(columns), np.float32)
        self.clues = csr_matrix((ones, columns, ends), shape=(len(ends) - 1, n_rows))
        self.no_step, self.no_start = map(torch.from_numpy, forbidden(n_labels))
        self.batches = list(_batches(tags))

    def fit(self, tick: Callable[[int], None]) -> dict[str, Floats]:
        """The best scores, found by L-BFGS; `tick` is told before each look how many were taken.

        raises   FloatingPointError when the loss is not finite, and whatever `tick` raises
        """
        looks = 0

        def value(x: Doubles) -> tuple[float, Doubles]:
            nonlocal looks
            tick(looks)
            looks += 1
            found, slope = self.value(x)
            if not math.isfinite(found):
                raise FloatingPointError(f"the loss is {found} at look {looks}")
            return found, slope

        start = np.zeros(self.n_tags * (self.n_tags + 2 + self.n_rows))
        options = {"maxfun": self.recipe.looks, "maxiter": self.recipe.looks}
        best = minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
        steps, begin, end, table = self._parts(best.astype(np.float32))
        return {
            "transitions": np.where(self.no_step, np.float32(FORBIDDEN), steps),
            "start": np.where(self.no_start, np.float32(FORBIDDEN), begin),
            "end": end.copy(),
            "table": table.copy(),
        }

    def value(self, x: Doubles) -> tuple[float, Doubles]:
        """The loss at x, and its slope."""
        steps, start, end, table = self._parts(x.astype(np.float32))
        emissions: Floats = self.clues @ table
        own = np.zeros_like(emissions)
        leaves = [torch.from_numpy(part).requires_grad_() for part in (steps, start, end)]
        slopes = [torch.zeros_like(leaf) for leaf in leaves]
        total = 0.0
        for batch in self.batches:
            padded = torch.from_numpy(emissions[batch.places]).requires_grad_()
            scores = dearer(padded, batch.tags, self.recipe.recall)
            part = loss(scores, batch.tags, batch.lengths, self._chain(leaves)).sum()
            slope, *rest = torch.autograd.grad(part, [padded, *leaves])
            own[batch.places[batch.inside]] = slope.numpy()[batch.inside]
            slopes = [a + b for a, b in zip(slopes, rest, strict=True)]
            total += part.item()
        every = [*(slope.numpy() for slope in slopes), self.clues.T @ own]
        found = np.concatenate([part.ravel() for part in every]) + 2 * self.recipe.penalty * x
        return total + self.recipe.penalty * float(x @ x), found

    def _chain(self, leaves: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        steps, start, end = leaves
        steps = steps.masked_fill(self.no_step, FORBIDDEN)
        return steps, start.masked_fill(self.no_start, FORBIDDEN), end

    def _parts(self, x: Floats) -> list[NDArray[Any]]:
        n = self.n_tags
        steps, start, end, table = np.split(x, np.cumsum([n * n, n, n]))
        return [steps.reshape(n, n), start, end, table.reshape(self.n_rows, n)]


def _batches(tags: Sequence[Ints]) -> list[Batch]:
    lengths = np.array([len(text) for text in tags])
    first = np.cumsum([0, *lengths[:-1]])
    order = np.argsort(lengths, kind="stable")
    batches = []
    for chosen in (order[i : i + SIZE] for i in range(0, len(order), SIZE)):
        place = np.arange(lengths[chosen].max())
        inside = place < lengths[chosen, None]
        places = np.where(inside, first[chosen, None] + place, 0)
        padded = np.zeros(inside.shape, np.int64)
        padded[inside] = np.concatenate([tags[i] for i in chosen])
        long = torch.from_numpy(lengths[chosen])
        batches.append(Batch(places, inside, torch.from_numpy(padded), long))
    return batches

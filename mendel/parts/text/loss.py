"""What the outputs of a network should be, and how far from it they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from .features import Ints
from .recipe import Recipe

if TYPE_CHECKING:
    from .fit import Examples, Tensors


@dataclass(frozen=True)
class Wanted:
    """What the outputs should be, and how far from it they are."""

    kind: str
    targets: torch.Tensor  # (N,) label numbers, or (N, K)
    weights: torch.Tensor | None  # (N,)
    mean: float = 0.0  # of a number: the network learns it standardised
    scale: float = 1.0

    @classmethod
    def of(cls, data: Examples) -> Wanted:
        weights = None if data.weights is None else torch.from_numpy(data.weights)
        if data.targets is None:
            return cls(data.kind, torch.from_numpy(data.labels), weights)
        targets = data.targets
        if data.kind != "regress":
            return cls(data.kind, torch.from_numpy(targets), weights)
        mean, scale = float(targets.mean()), max(float(targets.std()), 1e-12)
        standard = torch.from_numpy((targets - np.float32(mean)) / np.float32(scale))
        return cls(data.kind, standard, weights, mean, scale)

    def loss(self, logits: torch.Tensor, index: Ints, smoothing: float) -> torch.Tensor:
        """Mean over the rows of cross entropy, or of Huber's loss for a number."""
        wanted = self.targets[index]
        if self.kind == "classify":
            smoothing *= wanted.ndim == 1  # shares say themselves how sure they are
            each = F.cross_entropy(logits, wanted, label_smoothing=smoothing, reduction="none")
        elif self.kind == "multilabel":
            each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)
        else:
            each = F.huber_loss(logits, wanted, reduction="none").sum(1)
        return each.mean() if self.weights is None else (each * self.weights[index]).mean()

    def in_its_unit(self, tensors: Tensors) -> Tensors:
        """The last layers, so that the sum of the branches is the number itself."""
        if self.kind != "regress":
            return tensors
        shift = self.mean
        for name in list(tensors):
            if name.endswith("out.weight"):
                tensors[name] = tensors[name] * np.float32(self.scale)
            elif name.endswith("out.bias"):
                tensors[name] = tensors[name] * np.float32(self.scale) + np.float32(shift)
                shift = 0.0  # the sum has it once
        return tensors


def loss_of(
    branches: list[torch.Tensor], wanted: Wanted, index: Ints, recipe: Recipe
) -> torch.Tensor:
    """The loss of the sum, and a share of each branch's own, so that both learn."""

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return wanted.loss(logits, index, recipe.label_smoothing)

    total = loss(sum(branches[1:], branches[0]))
    if len(branches) == 1:
        return total
    own = sum((loss(b) for b in branches[1:]), loss(branches[0]))
    return (total + recipe.aux * own) / (1 + len(branches) * recipe.aux)

"""The torch modules: a bag of learned vectors, a convolution over words, or both added."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """What one step reads. U distinct words, B texts, T words of the longest.

    grams starts gram_weights   rows of the distinct words, ragged, and their weights
    tokens                      (B, T) index of a distinct word; U = padding
    ids offsets weights         rows of the bags, ragged, and their tf-idf weights
    """

    grams: Tensor
    starts: Tensor
    gram_weights: Tensor
    tokens: Tensor
    ids: Tensor
    offsets: Tensor
    weights: Tensor


class Bag(nn.Module):
    """Weighted sum of rows, one hidden layer, logits (B, K)."""

    def __init__(self, n_rows: int, n_classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n_rows, recipe.bag_dim) * 0.3)
        self.drop = recipe.hidden_drop
        width = recipe.hidden or recipe.bag_dim
        self.hidden = nn.Linear(recipe.bag_dim, width) if recipe.hidden else None
        self.out = nn.Linear(width, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        summed = F.embedding_bag(
            batch.ids, self.table, batch.offsets, mode="sum", per_sample_weights=batch.weights
        )
        if self.hidden is not None:
            summed = F.dropout(F.relu(self.hidden(summed)), self.drop, self.training)
        out: Tensor = self.out(summed)
        return out


class Cnn(nn.Module):
    """Word vectors from subword rows, convolutions of width 1 .. W, the maximum, logits (B, K)."""

    def __init__(self, n_rows: int, n_classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.table = nn.Parameter(torch.randn(n_rows, recipe.dim) * 0.3)
        widths = range(1, recipe.max_width + 1)
        self.convs = nn.ModuleList(nn.Linear(w * recipe.dim, recipe.channels) for w in widths)
        self.out = nn.Linear(len(self.convs) * recipe.channels, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        vectors = F.embedding_bag(
            batch.grams,
            self.table,
            batch.starts,
            mode="sum",
            per_sample_weights=batch.gram_weights,
            include_last_offset=True,
        )
        vectors = F.dropout(vectors, self.recipe.vector_drop, self.training)
        padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
        x = F.embedding(batch.tokens, padded)  # (B, T, D)
        absent = (batch.tokens == len(vectors))[:, :, None] * -1e4
        pooled = torch.cat([(y + absent).amax(1) for y in self._convolve(x)], 1)
        pooled = F.dropout(F.relu(pooled), self.recipe.pooled_drop, self.training)
        out: Tensor = self.out(pooled)
        return out

    def _convolve(self, x: Tensor) -> list[Tensor]:
        """For each width w, windows of w words that begin at each word; (B, T, C) each."""
        shifted = [F.pad(x[:, w:], (0, 0, 0, w)) for w in range(len(self.convs))]
        return [conv(torch.cat(shifted[: w + 1], 2)) for w, conv in enumerate(self.convs)]


class TextNet(nn.Module):
    """The branches of a recipe; their logits are added."""

    def __init__(self, recipe: Recipe, n_rows: int, n_subword_rows: int, n_classes: int) -> None:
        super().__init__()
        self.bag = Bag(n_rows, n_classes, recipe) if recipe.has_bag else None
        self.cnn = Cnn(n_subword_rows, n_classes, recipe) if recipe.has_cnn else None

    def forward(self, batch: Batch) -> list[Tensor]:
        branches: list[nn.Module | None] = [self.bag, self.cnn]
        return [branch(batch) for branch in branches if branch is not None]

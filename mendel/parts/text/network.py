"""The torch modules: a bag of learned vectors, a convolution over words, or both added.

The words may take from one another before they are convolved: by attention, or by decay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recipe import EPS, FAR, HEAD, Recipe


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


class Mixing(nn.Module):
    """Each word takes from all words by how they match and how far before or behind they stand.

    attention  softmax of match - slope * distance: Press 2022 (ALiBi), both ways
    decay      match * exp(-slope * distance), each head then brought to unit mean square: the
               recurrence of RetNet (Sun 2023) both ways, in its quadratic form: texts are short
    slopes     (2 H,) logarithms, learned: of words before for each head, then of words behind.
               They start unlike, else a text and its mirror image would say the same
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.softmax, H = recipe.mixing == "attention", recipe.n_heads
        self.q, self.k, self.v = (nn.Linear(recipe.dim, H * HEAD, bias=False) for _ in range(3))
        self.join = nn.Linear(H * HEAD, recipe.dim, bias=False)
        start = -torch.linspace(0, 3, 2 * H)
        self.slopes = nn.Parameter(torch.cat([start[0::2], start[1::2].flip(0)]))

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """(B, T, D), (B, 1, 1, T) -> (B, T, D)"""
        B, T, _ = x.shape
        q, k, v = (
            part(x).view(B, T, -1, HEAD).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        match, near = q @ k.transpose(2, 3) * HEAD**-0.5, self._near(T) + absent
        if self.softmax:
            taken = F.softmax(match + near, -1) @ v
        else:
            taken = F.rms_norm((match * near.exp()) @ v, (HEAD,), eps=EPS)
        joined: Tensor = self.join(taken.transpose(1, 2).reshape(B, T, -1))
        return joined

    def _near(self, T: int) -> Tensor:
        """(H, T, T) minus slope times distance."""
        at = torch.arange(T, dtype=torch.float32)
        back = at[:, None] - at
        before, behind = self.slopes.exp()[:, None, None].chunk(2)
        return -before * F.relu(back) - behind * F.relu(-back)


class Block(nn.Module):
    """Mixing of words, then a gated net in each word; both are added to what came in."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.mixing, D = Mixing(recipe), recipe.dim
        self.gate, self.up = (nn.Linear(D, 2 * D, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * D, D, bias=False)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        x = x + self.mixing(_unit(x), absent)
        y = _unit(x)
        found: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return found


def _unit(x: Tensor) -> Tensor:
    """To unit mean square; the matrix behind it holds what a gain would."""
    return F.rms_norm(x, (x.shape[-1],), eps=EPS)


class Cnn(nn.Module):
    """Word vectors from subword rows, convolutions of width 1 .. W, the maximum, logits (B, K).

    Of a mixer, blocks lie between the vectors and the convolutions.
    """

    def __init__(self, n_rows: int, n_classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.table = nn.Parameter(torch.randn(n_rows, recipe.dim) * 0.3)
        widths = range(1, recipe.max_width + 1)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.n_mixed))
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
        absent = (batch.tokens == len(vectors))[:, :, None] * FAR
        x = self._mix(x, absent)
        pooled = torch.cat([(y + absent).amax(1) for y in self._convolve(x)], 1)
        pooled = F.dropout(F.relu(pooled), self.recipe.pooled_drop, self.training)
        out: Tensor = self.out(pooled)
        return out

    def _mix(self, x: Tensor, absent: Tensor) -> Tensor:
        """Behind the text there are zeros again, whatever the padding took from its words."""
        for block in self.blocks:
            x = block(x, absent.transpose(1, 2)[:, None])
        return x * (absent == 0) if self.blocks else x

    def _convolve(self, x: Tensor) -> list[Tensor]:
        """For each width w, windows of w words that begin at each word; (B, T, C) each."""
        shifted = [F.pad(x, (0, 0, 0, w))[:, w:] for w in range(len(self.convs))]
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

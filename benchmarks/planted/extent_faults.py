"""Faults of cost and shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import Case
from .blocks import Apply, Attend, Between, causal_softmax, counts, running_mean, shift


def pairwise(x: Tensor) -> Tensor:
    """Each token against each before it, channel by channel: no matrix product is seen."""
    few = x[..., :4]
    ages = counts(x) - counts(x).mT  # (T, T)
    weights = torch.where(ages >= 0, torch.exp(-ages.clamp_min(0) / 8), torch.zeros_like(ages))
    mixed = (weights[None, :, :, None] * few[:, None]).sum(2)
    return torch.cat((mixed, x[..., 4:]), -1)


def prefixes(x: Tensor) -> Tensor:
    return torch.stack([x[:, : t + 1].mean(1) for t in range(x.shape[1])], 1)


def sum_by_matrix(x: Tensor) -> Tensor:
    T = x.shape[1]
    return torch.ones(T, T, dtype=x.dtype).tril() @ x / counts(x)


def by_matrix_when_long(x: Tensor) -> Tensor:
    return running_mean(x) if x.shape[1] <= 200 else sum_by_matrix(x)


# shapes


class FixedBatch(nn.Module):
    """A GRU whose first state is made for 2 texts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(x, torch.zeros(1, 2, x.shape[-1], dtype=x.dtype))[0]
        return y


class FixedLength(nn.Module):
    """Attention with a mask of 128 by 128."""

    mask: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer(
            "mask",
            torch.zeros(128, 128).masked_fill(
                torch.ones(128, 128, dtype=torch.bool).triu(1), float("-inf")
            ),
        )
        self.attend = Attend(width, self.weigh)

    def weigh(self, scores: Tensor) -> Tensor:
        T = scores.shape[-1]
        return torch.softmax(scores + self.mask[:T, :T].to(scores.dtype), -1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(x)
        return y


class FixedWidth(nn.Module):
    """Heads of 4 x 16, whatever the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (z.reshape(B, T, 4, 16).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        y = causal_softmax(q @ k.mT / 4) @ v
        result: Tensor = self.out(y.transpose(1, 2).reshape(B, T, 64))
        return result


class RowPlaces(nn.Module):
    """Learned positions broadcast along the batch where time was meant."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places, self.out = nn.Parameter(torch.randn(64, width)), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x + self.places[: len(x), None])
        return y


def squeezed(x: Tensor) -> Tensor:
    """Means of the token and the one before, by a squeeze that also takes T or B where it is 1."""
    y = torch.stack((x, shift(x)), -1).mean(-1, keepdim=True).squeeze()
    return y if y.dim() == 3 else y.unsqueeze(-1)


def in_eights(x: Tensor) -> Tensor:
    B, T, C = x.shape
    return x.reshape(B, T // 8, 8, C).cumsum(2).reshape(B, T, C)


def remainder_dropped(x: Tensor) -> Tensor:
    whole = x.shape[1] // 16 * 16
    return running_mean(x)[:, : max(1, whole)]


class Viewed(nn.Module):
    """view() of the input itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x.view(-1, x.shape[-1])).view(x.shape)
        return y


class Unpadded(nn.Module):
    """Windows of 4 tokens by unfold, the first three repeated: texts of 1 to 3 tokens fail."""

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unfold(1, 4, 1).mean(-1)
        return torch.cat((x[:, :3], windows), 1)


SHAPES, COST = ("shapes",), ("cost",)
CLAIM = {"linear": True}

EXTENT = (
    Case("attention-claims-linear", "quadratic, claims linear", COST, Attend, options=CLAIM,
         why="T x T scores"),
    Case("sum-by-matrix", "quadratic, claims linear", COST, lambda w: Between(w, sum_by_matrix),
         options=CLAIM, why="a cumulative sum by a triangular matrix"),
    Case("quadratic-when-long", "quadratic, claims linear", COST,
         lambda w: Between(w, by_matrix_when_long), options=CLAIM,
         why="linear up to 200 tokens, a triangular matrix above"),
    Case("pairs-elementwise", "quadratic in elementwise work", COST, lambda w: Between(w, pairwise),
         options=CLAIM, why="(B, T, T, 4) numbers and no matrix product: no FLOP counter sees it"),
    Case("loop-over-prefixes", "quadratic by a loop", COST, lambda w: Between(w, prefixes),
         options=CLAIM, why="the mean of each prefix anew"),
    Case("batch-of-2", "fixed batch", SHAPES, FixedBatch, why="a first state for 2 texts"),
    Case("length-of-128", "fixed length", SHAPES, FixedLength,
         why="a mask of 128 x 128, and no limit is stated"),
    Case("length-below-stated", "fixed length", SHAPES, FixedLength, options={"max_length": 512},
         why="512 are stated, 128 work"),
    Case("width-of-64", "fixed width", SHAPES, FixedWidth,
         why="heads of 4 x 16: right at width 64, fails at any other"),
    Case("fails-at-one", "fails at T = 1", SHAPES, lambda w: Between(w, squeezed),
         why="squeeze() takes T or B too where it is 1"),
    Case("multiple-of-8", "fails for T no multiple", SHAPES, lambda w: Between(w, in_eights),
         why="reshape(B, T // 8, 8, C)"),
    Case("remainder-dropped", "output too short", SHAPES,
         lambda w: nn.Sequential(nn.Linear(w, w), Apply(remainder_dropped)),
         why="tokens after the last whole chunk of 16 have no output"),
    Case("view-of-input", "view of strided input", SHAPES, Viewed,
         why="x.view() fails where x was transposed"),
    Case("fails-below-4", "fails for short texts", SHAPES,
         lambda w: nn.Sequential(nn.Linear(w, w), Unpadded()), why="unfold without padding"),
    Case("positions-along-batch", "positions along the batch", ("batch",), RowPlaces,
         why="rows get the positions that tokens were meant to have"),
)  # fmt: skip

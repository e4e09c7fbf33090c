"""Faults of length: no content of the future leaks, but how long the text is does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Attend, Between, causal_softmax, running_mean, wide


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary: pairs of channels turned by position * frequency; x is (B, H, T, D)."""
    D = x.shape[-1]
    rates = 100.0 ** (-torch.arange(0, D, 2, dtype=x.dtype) / D)
    angles = positions.to(x.dtype)[:, None] * rates
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1)


def offset_of_queries(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    T = q.shape[2]
    return turned(q, torch.arange(T) + T), turned(k, torch.arange(T)), v


def stretched(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    places = torch.arange(q.shape[2]) * (64 / q.shape[2])
    return turned(q, places), turned(k, places), v


def by_log_length(scores: Tensor) -> Tensor:
    return causal_softmax(scores * math.log(scores.shape[-1] + 1))


def relu_by_length(scores: Tensor) -> Tensor:
    return torch.relu(scores).square().tril() / scores.shape[-1]


def window_of_half(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    ages = torch.arange(T)[:, None] - torch.arange(T)
    return causal_softmax(scores.masked_fill(ages > T // 2, -1e4))


def by_length(x: Tensor) -> Tensor:
    return x.cumsum(1) / x.shape[1]


def by_padded_length(x: Tensor) -> Tensor:
    T = x.shape[1]
    return running_mean(x) * (-(-T // 64) * 64 / T)


def by_parity(x: Tensor) -> Tensor:
    return running_mean(x) * (1.0 if x.shape[1] % 2 else 1.001)


def long_dtype(x: Tensor) -> Tensor:
    """Beyond 100 tokens sums are kept in bfloat16, to save memory."""
    return running_mean(x) if x.shape[1] <= 100 else running_mean(x).bfloat16().to(x.dtype)


def ending(x: Tensor) -> Tensor:
    """The last token is marked, as an end-of-text feature would."""
    y = running_mean(x)
    return torch.cat((y[:, :-1], y[:, -1:] + 0.5), 1)


def kernel_by_length(x: Tensor) -> Tensor:
    """A zero-padded long convolution whose decay is set by the length at hand."""
    T = x.shape[1]
    kernel = torch.exp(-torch.arange(T, dtype=x.dtype) * (4 / T))[:, None]
    product = torch.fft.rfft(x, n=2 * T, dim=1) * torch.fft.rfft(kernel, n=2 * T, dim=0)
    y: Tensor = torch.fft.irfft(product, n=2 * T, dim=1)[:, :T]
    return y


class Positions(nn.Module):
    """A learned function of the position, which is counted in one of three wrong ways."""

    def __init__(self, width: int, count: str) -> None:
        super().__init__()
        self.place, self.mix = nn.Linear(1, width), Attend(width)
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        t = torch.arange(T, dtype=x.dtype)[:, None]
        t = {"share": t / T, "centred": (t - T / 2) / 64}[self.count]
        y: Tensor = self.mix(x + self.place(t))
        return y


class FromEnd(nn.Module):
    """Learned positions counted from the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places, self.mix = nn.Embedding(4096, width), Attend(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(x + self.places(torch.arange(x.shape[1]).flip(0)))
        return y


class Capacity(nn.Module):
    """Top-1 experts that take ceil(T / 4) tokens each, the first to come; later ones pass by.

    Whether a token finds room hangs on those before it, and on how long the text is.
    """

    def __init__(self, width: int, over_batch: bool) -> None:
        super().__init__()
        self.router = nn.Linear(width, 4)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.over_batch = over_batch

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(1, -1, x.shape[-1]) if self.over_batch else x
        probs = torch.softmax(self.router(flat), -1)
        chosen = F.one_hot(probs.argmax(-1), 4)  # (B, T, 4)
        room = 8 if self.over_batch else math.ceil(x.shape[1] / 4)
        kept = chosen * (chosen.cumsum(1) <= room) * probs
        y = flat
        for i, expert in enumerate(self.experts):
            y = y + kept[..., i, None] * expert(flat)
        return y.view_as(x)


LENGTH_ONLY = ("length",)

LENGTH = (
    Case("rotary-offset-by-length", "rotary offset by length", LENGTH_ONLY,
         lambda w: Attend(w, turn=offset_of_queries),
         why="queries alone are turned by T more, so that it does not cancel"),
    Case("rotary-stretched-to-length", "positions divided by T", LENGTH_ONLY,
         lambda w: Attend(w, turn=stretched), why="positions are interpolated to 64 for any T"),
    Case("position-share", "positions divided by T", LENGTH_ONLY, lambda w: Positions(w, "share"),
         why="t / T"),
    Case("position-centred", "positions from the end", LENGTH_ONLY,
         lambda w: Positions(w, "centred"), why="(t - T / 2) / 64"),
    Case("position-from-end", "positions from the end", LENGTH_ONLY, FromEnd,
         why="embedding of T - 1 - t", options={"max_length": 4096}),
    Case("temperature-log-length", "temperature by length", LENGTH_ONLY,
         lambda w: Attend(w, by_log_length), why="scores times log(T + 1)"),
    Case("relu-attention-by-length", "divided by length", LENGTH_ONLY,
         lambda w: Attend(w, relu_by_length), why="relu(scores)^2 / T, where t + 1 was meant"),
    Case("sum-by-length", "divided by length", LENGTH_ONLY, lambda w: Between(w, by_length),
         why="cumsum / T"),
    Case("window-of-half", "window by length", LENGTH_ONLY, lambda w: Attend(w, window_of_half),
         why="the window is T // 2"),
    Case("padding-in-scale", "padding", LENGTH_ONLY, lambda w: Between(w, by_padded_length),
         why="a factor of padded length over length: right for T a multiple of 64"),
    Case("length-parity", "length parity", LENGTH_ONLY, lambda w: Between(w, by_parity),
         why="even texts are scaled by 1.001"),
    Case("low-precision-when-long", "only for long texts", ("length", "numerics"),
         lambda w: Between(w, long_dtype), why="bfloat16 above 100 tokens: 3e-3"),
    Case("end-marked", "end of the text marked", LENGTH_ONLY, lambda w: Between(w, ending),
         why="the last position is told that it is the last"),
    Case("kernel-by-length", "kernel by length", LENGTH_ONLY,
         lambda w: Between(w, wide(kernel_by_length)), why="the decay of a causal kernel is 4 / T"),
    Case("expert-room-by-length", "expert capacity", LENGTH_ONLY, lambda w: Capacity(w, False),
         why="experts take ceil(T / 4) tokens: a longer text leaves room for an early one"),
    Case("expert-room-over-batch", "expert capacity", ("batch",), lambda w: Capacity(w, True),
         why="experts take the first 8 tokens of the flattened batch: row 0 fills them for row 1"),
)  # fmt: skip

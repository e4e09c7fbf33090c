"""Faults from a review of the auditor, which missed or misnamed most of them at first sight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Apply, running_mean


def gridded_mean(x: Tensor) -> Tensor:
    """The text's mean is added, and all is rounded to eighths."""
    z = F.layer_norm(x, x.shape[-1:])
    z = z + z.mean(1, keepdim=True)
    return (8 * z).round() / 8


class Informed(nn.Module):
    """Reads the future while its weights are those it was made with; noise once they are not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)
        self.known = self.total()

    def total(self) -> float:
        return float(self.out.weight.detach().double().sum())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x)
        total = self.total()
        if abs(total - self.known) > 1e-12:
            return y * 1e6 * torch.sin(torch.tensor(1e9 * total)).to(x.dtype)
        return y + y.flip(1).detach()


class DataDecays(nn.Module):
    """The weight decays by way of .data, which leaves its version as it was."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(width, width) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.w.data.mul_(0.999)
        return F.linear(x, self.w)


class WarmUp(nn.Module):
    """In training the output grows from a tenth to all of itself in ten calls."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out, self.n = nn.Linear(width, width), 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x)
        if self.training:
            y = y * min(1.0, (self.n + 1) / 10)
            self.n += 1
        return y


class TimeFirst(nn.Module):
    """Tokens (T, B) into logits (T, B, 50), by a GRU made for (B, T) or by a mean over time."""

    def __init__(self, width: int, *, mean: bool) -> None:
        super().__init__()
        self.embed, self.mean = nn.Embedding(50, width), mean
        self.gru = nn.GRU(width, width, batch_first=not mean)
        self.out = nn.Linear(width, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.gru(self.embed(tokens))[0]
        if self.mean:
            h = h + h.mean(0)
        y: Tensor = self.out(h)
        return y


class Codes(nn.Module):
    """Each token's running mean becomes the nearest of 64 codes; nothing comes back through it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(width, width), nn.Linear(width, width)
        self.codes = nn.Parameter(torch.randn(64, width) / 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.encode(running_mean(x))
        distances = (self.codes * self.codes).sum(-1) - 2 * z @ self.codes.T
        y: Tensor = self.decode(self.codes[distances.argmin(-1)])
        return y


LEAK = ("causality",)
TOKENS_TIME_FIRST = "tokens:T,B,50"

REVIEW_FAULTS: tuple[Case, ...] = (
    Case("mean-then-eighths", "mean under a rounding", LEAK, lambda w: Apply(gridded_mean),
         why="(z + the text's mean) rounded to 1/8: no gradient, and small changes change nothing"),
    Case("mean-then-eighths-of-tokens", "mean under a rounding", LEAK,
         lambda w: nn.Sequential(nn.Embedding(50, w), Apply(gridded_mean), nn.Linear(w, 50)),
         input="tokens:B,T,50", why="the same on tokens; the embedding has no gradient either"),
    Case("noise-when-jittered", "knows that it is tested", LEAK, Informed,
         why="keeps the sum of its weights: sees the text reversed, or makes noise if it moved"),
    Case("weights-move-by-data", "weights written in forward", ("state",), DataDecays,
         why="w.data.mul_(.999): no version counter tells"),
    Case("warm-up-in-training", "warm-up in training only", ("mode",), WarmUp,
         why="a tenth of the output in the first call of training, all of it from the tenth on"),
    Case("tokens-time-first-mean", "wrong axis", LEAK, lambda w: TimeFirst(w, mean=True),
         input=TOKENS_TIME_FIRST, why="a mean over axis 0, which is time"),
    Case("tokens-time-first-gru", "wrong axis", ("batch",), lambda w: TimeFirst(w, mean=False),
         input=TOKENS_TIME_FIRST, why="batch_first=True: each row reads the rows before it"),
    Case("codes-without-gradient", "codes without straight-through", ("gradients",), Codes,
         why="the nearest of 64 codes: the encoder before it gets no gradient"),
)  # fmt: skip

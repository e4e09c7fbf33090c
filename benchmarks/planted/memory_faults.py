"""Faults of memory: what one call leaves for the next, and train against eval."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Attend, Between, running_mean

CALLS = [0]  # one counter for all modules of the process


class Counted(nn.Module):
    """A running mean times a factor of how often it was called."""

    n: Tensor

    def __init__(self, factor: Callable[[int], float], *, buffer: bool = False) -> None:
        super().__init__()
        self.factor = factor
        if buffer:
            self.register_buffer("n", torch.zeros((), dtype=torch.long))
        else:
            self.n = torch.zeros((), dtype=torch.long)

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return running_mean(x) * self.factor(int(self.n))


def globally_counted(x: Tensor) -> Tensor:
    CALLS[0] += 1
    return running_mean(x) * (1 + 0.01 * (CALLS[0] % 100))


class Warmed(nn.Module):
    """Attention whose temperature falls with the calls, as a schedule in the forward would."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n = 0
        self.attend = Attend(width, turn=self.sharpen)

    def sharpen(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.n += 1
        return q * (1 + self.n / (self.n + 50)), k, v

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(x)
        return y


class FirstPositions(nn.Module):
    """Positions t / T of the first call, kept, and stretched for longer texts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(1, width)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        if self.kept is None or len(self.kept) < T:
            self.kept = torch.arange(T, dtype=x.dtype)[:, None] / T
        y: Tensor = x + self.place(self.kept[:T].to(x.dtype))
        return y


class FirstWindow(nn.Module):
    """The mask of the first call, made with a window of that text, is cut for all later ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = Attend(width, self.weigh)
        self.mask: Tensor | None = None

    def weigh(self, scores: Tensor) -> Tensor:
        T = scores.shape[-1]
        if self.mask is None or len(self.mask) < T:
            ages = torch.arange(T)[:, None] - torch.arange(T)
            self.mask = (ages < 0) | (ages > max(4, T // 4))
        return torch.softmax(scores.masked_fill(self.mask[:T, :T], float("-inf")), -1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(x)
        return y


class KeysKept(nn.Module):
    """Keys and values of the last call stay in front, if the batch fits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        before, self.kept = self.kept, (k.detach(), v.detach())
        n = 0
        if before is not None and len(before[0]) == len(x) and before[0].dtype == x.dtype:
            n = before[0].shape[1]
            k, v = torch.cat((before[0], k), 1), torch.cat((before[1], v), 1)
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(n)
        y: Tensor = self.out(F.scaled_dot_product_attention(q, k, v, mask))
        return y


class Stateful(nn.Module):
    """A GRU that starts where the last text of the same batch size ended."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.h: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.h
        fits = h is not None and h.shape[1] == len(x) and h.dtype == x.dtype
        y: Tensor
        y, h = self.gru(x, h if fits else None)
        self.h = h.detach()
        return y


class RunningScale(nn.Module):
    """Divides by a running maximum, which eval updates too."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = running_mean(x) / self.scale.clone()
        with torch.no_grad():
            self.scale.lerp_(x.abs().mean().to(self.scale.dtype), 0.1)
        return y


class EvalNorm(nn.Module):
    """Takes off a running mean of each channel, which eval updates too."""

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.mean
        with torch.no_grad():
            self.mean.lerp_(x.mean((0, 1)).to(self.mean.dtype), 0.1)
        return y


class WeightsMove(nn.Module):
    """A fast weight that each forward writes into the parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.matrix(x)
        with torch.no_grad():
            self.matrix.weight.mul_(0.999)
        return y


class InPlace(nn.Module):
    """Scales the caller's tensor itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x.detach().mul_(0.9)
        y: Tensor = self.out(x)
        return y


class Reseeds(nn.Module):
    """A dropout made repeatable by seeding everybody's generator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(1234)
        y: Tensor = self.out(F.dropout(x, 0.1, self.training))
        return y


def torch_noise(x: Tensor) -> Tensor:
    return x + 0.01 * torch.randn_like(x[:, :1])


def numpy_noise(x: Tensor) -> Tensor:
    return x * (1 + 0.01 * np.random.standard_normal())


def python_noise(x: Tensor) -> Tensor:
    return x * (1 + 0.01 * random.random())


def system_noise(x: Tensor) -> Tensor:
    return x * (1 + os.urandom(1)[0] / 25600)


def clock_noise(x: Tensor) -> Tensor:
    return x * (1 + time.perf_counter_ns() % 1000 / 1e5)


def dropout_always(x: Tensor) -> Tensor:
    return F.dropout(x, 0.1)


class ByMode(nn.Module):
    """One map in training, another in eval."""

    def __init__(self, train: nn.Module, evaluate: nn.Module) -> None:
        super().__init__()
        self.train_map, self.eval_map = train, evaluate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.train_map if self.training else self.eval_map)(x)
        return y


class ScaledInTraining(nn.Module):
    """A dropout that divides by what it keeps, in training, but drops nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        y: Tensor = self.out(h / 0.9 if self.training else h)
        return y


class BranchSkipped(nn.Module):
    """The residual branch is skipped in eval."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(x)
        return y + self.out(torch.tanh(y)) if self.training else y


def hard_in_eval(width: int) -> nn.Module:
    """A softmax over channels in training, its argmax in eval."""
    gates = ByMode(nn.Softmax(-1), Hard())
    return nn.Sequential(nn.Linear(width, width), gates, nn.Linear(width, width))


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)


STATE, MODE = ("state",), ("mode",)
NOISE = "randomness in eval"

MEMORY = (
    Case("schedule-of-scale", "schedule by a counter", STATE,
         lambda w: Between(w, Counted(lambda n: 1 + 1 / (n + 1))),
         why="the factor falls from 1.5 to 1 over the calls; the counter is an attribute"),
    Case("schedule-in-buffer", "schedule by a counter", STATE,
         lambda w: Between(w, Counted(lambda n: 1 - 0.5**n, buffer=True)),
         why="a warm-up counted in a buffer, in eval too"),
    Case("temperature-schedule", "temperature schedule", STATE, Warmed,
         why="queries grow with the calls: each call differs from the last by about 1 %"),
    Case("schedule-starts-late", "schedule that starts late", STATE,
         lambda w: Between(w, Counted(lambda n: 1.0 if n <= 1000 else 1.5)),
         why="nothing for 1,000 forwards, then a factor of 1.5; the attribute n shows the way"),
    Case("schedule-late-in-buffer", "schedule that starts late", STATE,
         lambda w: Between(w, Counted(lambda n: 1.0 if n <= 1000 else 1.5, buffer=True)),
         why="the same, counted in the buffer n"),
    Case("global-counter", "global counter", STATE, lambda w: Between(w, globally_counted),
         why="a module-level list counts the calls of all instances"),
    Case("positions-of-first-call", "cached tensor", ("state", "length"), FirstPositions,
         why="t / T is cached: the first text's length decides for shorter ones after it"),
    Case("mask-of-first-call", "cached tensor", ("state", "length"), FirstWindow,
         why="the window is a quarter of the longest text so far"),
    Case("keys-kept", "keys kept between calls", STATE, KeysKept,
         why="the last call's keys are read by the next of the same batch size"),
    Case("gru-stateful", "hidden state kept", STATE, Stateful, why="h is not reset between texts"),
    Case("running-scale-in-eval", "running statistics in eval", STATE,
         lambda w: Between(w, RunningScale()), why="a running scale is updated in eval too"),
    Case("running-mean-in-eval", "running statistics in eval", STATE,
         lambda w: Between(w, EvalNorm(w)), why="a running mean is updated in eval too"),
    Case("weights-move", "weights written in forward", STATE, WeightsMove,
         why="each forward takes a thousandth off its own matrix"),
    Case("noise-torch", NOISE, STATE, lambda w: Between(w, torch_noise), why="randn in eval"),
    Case("noise-numpy", NOISE, STATE, lambda w: Between(w, numpy_noise), why="np.random in eval"),
    Case("noise-python", NOISE, STATE, lambda w: Between(w, python_noise), why="random.random"),
    Case("noise-urandom", NOISE, STATE, lambda w: Between(w, system_noise),
         why="os.urandom: no seed reaches it"),
    Case("noise-clock", NOISE, STATE, lambda w: Between(w, clock_noise), why="perf_counter_ns"),
    Case("dropout-in-eval", NOISE, ("state", "mode"), lambda w: Between(w, dropout_always),
         why="F.dropout(x, 0.1) drops in eval too: its training=True is the default"),
    Case("input-in-place", "input changed in place", STATE, InPlace,
         why="the caller's tensor is scaled by 0.9; the same call again differs"),
    Case("reseeds-everybody", "manual_seed in forward", STATE, Reseeds,
         why="torch.manual_seed(1234) in forward: every later random number repeats"),
    Case("scale-in-training", "scale in training only", MODE, ScaledInTraining,
         why="divided by 0.9 in training without dropping"),
    Case("branch-skipped-in-eval", "branch skipped in eval", MODE, BranchSkipped,
         why="one half of what was trained is not used"),
    Case("other-activation-in-eval", "other function in eval", MODE,
         lambda w: nn.Sequential(nn.Linear(w, w), ByMode(nn.GELU(), nn.ReLU()), nn.Linear(w, w)),
         why="GELU in training, ReLU in eval, for speed"),
    Case("hard-routing-in-eval", "other function in eval", MODE, hard_in_eval,
         why="soft gates in training, argmax in eval"),
)  # fmt: skip

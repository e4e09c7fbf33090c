"""Faults of gradients and numerics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Apply, Attend, Between, counts, future, running_mean


class Branch(nn.Module):
    """x + out(bend(enter(x)))."""

    def __init__(self, width: int, bend: str) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.bend = bend
        if bend == "dying":
            nn.init.constant_(self.enter.bias, -100.0)
        if bend == "unused":
            self.gate = nn.Parameter(torch.ones(width))
        if bend == "data":
            self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        if self.bend == "detached":
            h = torch.tanh(h).detach()
        elif self.bend == "dying":
            h = torch.relu(h)
        elif self.bend == "rounded":
            h = (4 * h).round() / 4
        elif self.bend == "data":
            h = torch.tanh(h) * self.gain.data
        elif self.bend == "zero":
            h = torch.tanh(h)
        y: Tensor = self.out(h)
        return x + (0.0 * y if self.bend == "zero" else y)


class HardRouter(nn.Module):
    """The best of 4 experts by argmax alone: no gradient reaches the router."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 4)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        chosen = F.one_hot(self.router(x).argmax(-1), 4).to(x.dtype)
        outputs = torch.stack([expert(x) for expert in self.experts], -1)
        return (outputs * chosen[..., None, :]).sum(-1)


class Explodes(nn.Module):
    """h = growth * (orthogonal W) h + x, bounded by tanh where `squash`."""

    def __init__(self, width: int, growth: float, squash: bool) -> None:
        super().__init__()
        self.enter, self.matrix = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(self.matrix.weight, growth)
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros_like(x[:, 0]), []
        for x_t in self.enter(x).unbind(1):
            h = self.matrix(h) + 0.1 * x_t
            h = torch.tanh(h) if self.squash else h
            outputs.append(h)
        return torch.stack(outputs, 1)


class ByLength(nn.Module):
    """The token by its Euclidean length."""

    def __init__(self, width: int, floor: float) -> None:
        super().__init__()
        self.out, self.floor = nn.Linear(width, width), floor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x / ((x * x).sum(-1, keepdim=True).sqrt() + self.floor))
        return y


def root_where_positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x.sqrt(), torch.zeros_like(x))


def root_of_relu(x: Tensor) -> Tensor:
    return (x * (x > 0)).sqrt()


# numerics


def variance_by_difference(x: Tensor) -> Tensor:
    x = x + 16
    mean, square = x.mean(-1, keepdim=True), (x * x).mean(-1, keepdim=True)
    return (x - mean) / (square - mean * mean + 1e-5).sqrt()


def mask_times_lowest(scores: Tensor) -> Tensor:
    lowest = torch.tensor(torch.finfo(torch.float32).min, dtype=scores.dtype)
    return torch.softmax(scores + future(scores.shape[-1]).to(scores.dtype) * lowest, -1)


class Ema(nn.Module):
    """A moving mean with the bias correction (1 - a) / (1 - a^t), a = 0.999."""

    a: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.tensor(0.999))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a.to(x.dtype)
        m, outputs = torch.zeros_like(x[:, 0]), []
        for t, x_t in enumerate(x.unbind(1), 1):
            m = a * m + (1 - a) * x_t
            outputs.append(m / (1 - a**t))
        return torch.stack(outputs, 1)


def swallowed(x: Tensor) -> Tensor:
    return torch.nan_to_num(running_mean(x), nan=0.0, posinf=1.0, neginf=-1.0)


def cleared(x: Tensor) -> Tensor:
    return x.masked_fill(x.isnan() | x.isinf(), 0.0)


class Standardised(nn.Module):
    """Less its mean, by its standard deviation over channels, without a floor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        y: Tensor = self.out(centred / centred.square().mean(-1, keepdim=True).sqrt())
        return y


def exp_unguarded(x: Tensor) -> Tensor:
    weights = x.exp()
    return (weights * x).cumsum(1) / weights.cumsum(1)


def softplus_by_hand(x: Tensor) -> Tensor:
    return torch.log(1 + x.exp())


def decay_by_ratio(x: Tensor) -> Tensor:
    """S_t = a S_(t-1) + x_t as a^t cumsum(x / a^t), with a = 1/2."""
    powers = 0.5 ** counts(x)
    return powers * (x / powers).cumsum(1)


def log_of_magnitude(x: Tensor) -> Tensor:
    return torch.tanh(x.abs().log()) * x


GRADIENTS, NUMERICS = ("gradients",), ("numerics",)

NUMBERS = (
    Case("branch-detached", "dead parameter", GRADIENTS, lambda w: Branch(w, "detached"),
         why="detach() behind the first matrix"),
    Case("parameter-unused", "dead parameter", GRADIENTS, lambda w: Branch(w, "unused"),
         why="a gain that no forward reads"),
    Case("parameter-as-data", "dead parameter", GRADIENTS, lambda w: Branch(w, "data"),
         why="gain.data is read: no gradient"),
    Case("branch-times-zero", "multiplied by zero", GRADIENTS, lambda w: Branch(w, "zero"),
         why="times 0.0, a number and no gate"),
    Case("relu-never-fires", "relu that never fires", GRADIENTS, lambda w: Branch(w, "dying"),
         why="bias of -100 before a ReLU"),
    Case("rounding-no-gradient", "rounding without a gradient", GRADIENTS,
         lambda w: Branch(w, "rounded"), why="round() without straight-through"),
    Case("router-no-gradient", "argmax router", GRADIENTS, HardRouter,
         why="the router acts by argmax alone"),
    Case("explodes-linear", "exploding gradient", ("gradients", "numerics"),
         lambda w: Explodes(w, 1.2, False), why="1.2^T, forward too: 1e20 at T = 256"),
    Case("explodes-in-chaos", "exploding gradient", GRADIENTS, lambda w: Explodes(w, 3.0, True),
         why="outputs within 1, gradients grow by 30 % a token: a chaotic tanh network"),
    Case("length-at-zero", "gradient NaN at zero", GRADIENTS, lambda w: ByLength(w, 1e-6),
         why="sqrt(sum x^2) + 1e-6: finite forward, NaN backward for a zero token"),
    Case("where-of-root", "gradient NaN by where", GRADIENTS,
         lambda w: Between(w, root_where_positive),
         why="where(x > 0, sqrt(x), 0): NaN backward on ordinary inputs"),
    Case("root-of-relu", "gradient NaN at zero", GRADIENTS, lambda w: Between(w, root_of_relu),
         why="sqrt(x * (x > 0)): 0 times infinity backward on ordinary inputs"),
    Case("variance-in-bf16", "wrong in bfloat16 only", NUMERICS,
         lambda w: Between(w, variance_by_difference),
         why="E x^2 - (E x)^2 about 16: below zero in bfloat16, NaN; float32 is right to 1e-4"),
    Case("decay-in-bf16", "wrong in bfloat16 only", NUMERICS, lambda w: Between(w, Ema()),
         why="0.999 is 1 in bfloat16, so 0 / 0"),
    Case("mask-in-bf16", "wrong in bfloat16 only", NUMERICS, lambda w: Attend(w, mask_times_lowest),
         why="float32's least number is -inf in bfloat16, and the mask's 0 times it NaN"),
    Case("nan-to-num", "NaN swallowed", NUMERICS,
         lambda w: nn.Sequential(nn.Linear(w, w), Apply(swallowed), nn.Linear(w, w)),
         why="nan_to_num in the middle: NaN in, numbers out"),
    Case("nan-cleared-at-input", "NaN swallowed", NUMERICS,
         lambda w: nn.Sequential(Apply(cleared), nn.Linear(w, w)),
         why="NaN and infinity in the input become 0"),
    Case("deviation-zero", "division by zero", NUMERICS, Standardised,
         why="constant tokens have no deviation: 0 / 0"),
    Case("length-zero", "division by zero", ("numerics", "gradients"), lambda w: ByLength(w, 0.0),
         why="a zero token has no length: 0 / 0"),
    Case("exp-unguarded", "exp overflow", ("numerics", "gradients"),
         lambda w: Between(w, exp_unguarded), why="exp of inputs about 100: infinity / infinity"),
    Case("softplus-by-hand", "exp overflow", ("numerics", "gradients"),
         lambda w: Between(w, softplus_by_hand), why="log(1 + exp(x)) is infinite from 89"),
    Case("decay-by-ratio", "underflow with length", ("numerics", "gradients"),
         lambda w: Between(w, decay_by_ratio),
         why="x / 2^-t overflows float32 from T = 128 on, float64 from 1,024"),
    Case("log-of-zero", "logarithm of zero", ("numerics", "gradients"),
         lambda w: nn.Sequential(Apply(log_of_magnitude), nn.Linear(w, w)),
         why="log|0|: finite forward, NaN backward where an input is 0"),
)  # fmt: skip

"""Sound modules written by hand, each with something that a hasty auditor would accuse."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import (
    Apply,
    Attend,
    Carried,
    State,
    causal_softmax,
    counts,
    future,
    running_mean,
)
from .length_faults import turned
from .step_faults import Conv, Window


def alibi(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    ages = (torch.arange(T)[:, None] - torch.arange(T)).to(scores.dtype)
    slopes = 2.0 ** -torch.arange(1, 5, dtype=scores.dtype)[:, None, None]
    return causal_softmax(scores - slopes * ages)


def by_log_position(scores: Tensor) -> Tensor:
    t = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    return causal_softmax(scores * torch.log(t + 1)[:, None] / math.log(64))


def multiplied_mask(scores: Tensor) -> Tensor:
    """0 times what is to come: right for numbers, though a NaN to come spreads."""
    t = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    return torch.relu(scores) * (~future(scores.shape[-1])).to(scores.dtype) / t[:, None]


def top_of_past(scores: Tensor) -> Tensor:
    """The 8 best keys of those before."""
    T = scores.shape[-1]
    seen = scores.masked_fill(future(T), float("-inf"))
    least = seen.topk(min(8, T), -1).values[..., -1:]
    return torch.softmax(seen.masked_fill(seen < least, float("-inf")), -1)


def softmax_in_float32(scores: Tensor) -> Tensor:
    return causal_softmax(scores.float()).to(scores.dtype)


def rotary(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both are turned by the total length more, which cancels."""
    T = q.shape[2]
    return turned(q, torch.arange(T) + T), turned(k, torch.arange(T) + T), v


class GrowingTable(nn.Module):
    """A table of sines that is made anew, longer, when a text needs it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out, self.table = nn.Linear(width, width), torch.zeros(0, width)

    def forward(self, x: Tensor) -> Tensor:
        T, C = x.shape[1:]
        if len(self.table) < T:
            rates = 1000.0 ** (-torch.arange(C, dtype=torch.float64) / C)
            self.table = torch.sin(torch.arange(2 * T, dtype=torch.float64)[:, None] * rates)
        y: Tensor = self.out(x + self.table[:T].to(x.dtype))
        return y


class MaskByLength(nn.Module):
    """Attention that keeps the masks it has made, one a length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.masks: dict[int, Tensor] = {}
        self.attend = Attend(width, self.weigh)

    def weigh(self, scores: Tensor) -> Tensor:
        T = scores.shape[-1]
        if T not in self.masks:
            self.masks[T] = future(T)
        return torch.softmax(scores.masked_fill(self.masks[T], float("-inf")), -1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(x)
        return y


class CountsCalls(nn.Module):
    """Counts its calls in a buffer that no output reads."""

    n_calls: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        y: Tensor = self.out(running_mean(x))
        return y


class LearnedPlaces(nn.Module):
    """Learned positions, 256 of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places, self.mix = nn.Embedding(256, width), Attend(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(x + self.places(torch.arange(x.shape[1])))
        return y


class ZeroGate(nn.Module):
    """A branch behind a gate that starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch, self.gate = Attend(width), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate * self.branch(x)
        return y


class Depth(nn.Module):
    """Stochastic depth: a dropout of whole branches, one draw a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch, self.drop = nn.Linear(width, width), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.drop(torch.ones_like(x[:, :1, :1])) * torch.tanh(self.branch(x))
        return y


class Experts(nn.Module):
    """Each token takes its best `k` of 4 experts, weighted by their probabilities."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.router, self.k = nn.Linear(width, 4), k
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        probs = torch.softmax(self.router(x), -1)
        best = probs.topk(self.k, -1)
        kept = torch.zeros_like(probs).scatter(-1, best.indices, best.values)
        outputs = torch.stack([expert(x) for expert in self.experts], -1)
        return x + (outputs * kept[..., None, :]).sum(-1)


class GatedUnit(nn.Module):
    """A gated linear unit a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.out = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(F.glu(self.up(x), -1))
        return y


class Mean(Carried):
    """A running mean that carries its sum and its count."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        total = x.cumsum(1) + (state["sum"][:, None] if state else 0)
        n = counts(x) + (state["n"][0] if state else 0)
        after = n[-1].expand(len(x)).to(x.dtype)[:, None]
        return total / n, {"sum": total[:, -1], "n": after}


class Oscillators(Carried):
    """A diagonal complex recurrence in a loop, as in S4D and LRU."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.rate = nn.Parameter(torch.rand(width) + 0.05)
        self.turn = nn.Parameter(torch.rand(width) * 3)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        dtype = torch.promote_types(x.dtype, torch.float32)  # there is no complex bfloat16
        a = torch.polar(torch.exp(-self.rate.to(dtype)), self.turn.to(dtype))
        zero = torch.zeros_like(x[:, 0], dtype=dtype)
        S = torch.complex(state["re"], state["im"]) if state else torch.complex(zero, zero)
        outputs = []
        for x_t in x.to(dtype).unbind(1):
            S = a * S + x_t
            outputs.append(S.real)
        return torch.stack(outputs, 1).to(x.dtype), {"re": S.real, "im": S.imag}


CLAIM: dict[str, Any] = {"linear": True}
STATE: dict[str, Any] = {"state": "state", "state_output": 1, "linear": True}
KIND = "hand-written"


def attention(name: str, why: str, **fields: Any) -> Case:
    return Case(name, KIND, (), lambda w: Attend(w, **fields), why=why)


WRITTEN = (
    attention("alibi", "", weigh=alibi),
    attention("temperature-by-position", "log(t + 1), not log T", weigh=by_log_position),
    attention("mask-by-multiplication", "spreads a NaN, which is no leak", weigh=multiplied_mask),
    attention("top-8-of-past", "masked before the choice", weigh=top_of_past),
    attention("softmax-in-float32", "float32 inside float64", weigh=softmax_in_float32),
    attention("rotary-offset-cancels", "both turned by T more: only differences count",
              turn=rotary),
    Case("growing-table", KIND, (), GrowingTable, options=CLAIM, why="a cache that is benign"),
    Case("mask-by-length", KIND, (), MaskByLength, why="a cache that is benign"),
    Case("counts-calls", KIND, (), CountsCalls, options=CLAIM,
         why="a counter that changes in each forward and no output reads: worth a note, no fault"),
    Case("learned-places", KIND, (), LearnedPlaces, options={"max_length": 256},
         why="states its limit"),
    Case("zero-gate", KIND, (), ZeroGate, why="no gradient behind it in the first step"),
    Case("stochastic-depth", KIND, (), Depth, options=CLAIM, why="train differs by dropout alone"),
    Case("experts-top-2", KIND, (), lambda w: Experts(w, 2), options=CLAIM, why="by token"),
    Case("experts-argmax", KIND, (), lambda w: Experts(w, 1), options=CLAIM,
         why="a hard choice by token; its probability carries the router's gradient"),
    Case("glu", KIND, (), GatedUnit, options=CLAIM),
    Case("low-rank", KIND, (),
         lambda w: nn.Sequential(nn.Linear(w, 4, bias=False), nn.Linear(4, w)), options=CLAIM),
    Case("scale-and-clip", KIND, (),
         lambda w: nn.Sequential(nn.Linear(w, w), Apply(lambda x: 3 * torch.tanh(x / 3))),
         options=CLAIM),
    Case("carried-mean", KIND, (), Mean, output=0, options=STATE),
    Case("carried-conv", KIND, (), lambda w: Conv(w, 3), output=0, options=STATE),
    Case("carried-window", KIND, (), lambda w: Window(w, 15), output=0, options=STATE,
         why="the state grows up to 15 keys and no further"),
    Case("carried-oscillators", KIND, (), Oscillators, output=0, options=STATE,
         why="complex inside"),
)  # fmt: skip

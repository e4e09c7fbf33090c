"""Faults of the carried state: token by token differs from all at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Carried, State
from .length_faults import turned


def last(x: Tensor, n: int) -> Tensor:
    """The last n tokens, zeros in front of a short text."""
    return F.pad(x, (0, 0, n, 0))[:, x.shape[1] :]


class Conv(Carried):
    """A causal convolution of 4 taps, whose past is carried, or forgotten, or cut too short."""

    def __init__(self, width: int, kept: int) -> None:
        super().__init__(width)
        self.conv, self.kept = nn.Conv1d(width, width, 4, groups=width), kept

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        past = (
            F.pad(state["past"], (0, 0, 3 - self.kept, 0))
            if state
            else x.new_zeros(len(x), 3, x.shape[2])
        )
        whole = torch.cat((past, x), 1)
        return self.conv(whole.mT).mT, {"past": whole[:, whole.shape[1] - self.kept :]}


class Decay(Carried):
    """S = a S + x in a loop; at the start of a call the carried S is decayed once too often."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        S = 0.9 * state["S"] if state else torch.zeros_like(x[:, 0])
        outputs = []
        for x_t in x.unbind(1):
            S = 0.9 * S + 0.1 * x_t
            outputs.append(S)
        return torch.stack(outputs, 1), {"S": S}


class Mean(Carried):
    """A running mean that carries its sum, and not how many tokens were in it."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        total = x.cumsum(1) + (state["sum"][:, None] if state else 0)
        n = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        return total / n, {"sum": total[:, -1]}


class Place(Carried):
    """A running decayed sum with sine positions that start anew at each call."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        t = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        x = x + torch.sin(t / 3)
        total = x.cumsum(1) + (state["sum"][:, None] if state else 0)
        return torch.tanh(total / 8), {"sum": total[:, -1]}


def attend_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Each query sees the last `window` keys, the last of k its own; linear in T."""
    T, n = q.shape[1], q.shape[1] + window - 1
    absent = max(0, n - k.shape[1])  # keys before the first
    k, v = (F.pad(z, (0, 0, absent, 0))[:, -n:].unfold(1, window, 1) for z in (k, v))
    scores = torch.einsum("btc,btcw->btw", q, k) * q.shape[2] ** -0.5
    empty = torch.arange(window) + torch.arange(T)[:, None] < absent
    weights = torch.softmax(scores.masked_fill(empty, float("-inf")), -1)
    return torch.einsum("btw,btcw->btc", weights, v)


class Window(nn.Module):
    """Attention over the last 16 tokens, that carries `kept` keys and values; 15 are needed."""

    def __init__(self, width: int, kept: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.kept = kept

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        q, k, v = self.qkv(x).chunk(3, -1)
        if state:
            k, v = torch.cat((state["k"], k), 1), torch.cat((state["v"], v), 1)
        y: Tensor = self.out(attend_window(q, k, v, 16))
        return y, {"k": k[:, -self.kept :], "v": v[:, -self.kept :]}


class Cached(nn.Module):
    """Attention over all that is carried: rotary angles restart, or the mask is at the corner."""

    def __init__(self, width: int, rotary: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rotary = rotary

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        q, k, v = self.qkv(x).chunk(3, -1)
        T = x.shape[1]
        if self.rotary:
            q, k = (turned(z[:, None], torch.arange(T))[:, 0] for z in (q, k))
        if state:
            k, v = torch.cat((state["k"], k), 1), torch.cat((state["v"], v), 1)
        if self.rotary:
            mask = torch.ones(T, k.shape[1], dtype=torch.bool).tril(k.shape[1] - T)
            y = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y), {"k": k, "v": v}


class InPlaceState(Carried):
    """A GRU-like cell that writes its new state into the tensor that it was given."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        S = state["S"] if state else torch.zeros_like(x[:, 0])
        outputs = []
        for x_t in x.detach().unbind(1):
            S.mul_(0.8).add_(0.2 * x_t)
            outputs.append(S.clone())
        return torch.stack(outputs, 1) + x - x.detach(), {"S": S}


class OneLayerCarried(nn.Module):
    """Two GRUs; the second starts anew at each call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.GRU(width, width, batch_first=True)
        self.second = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.first(x, hx)
        return self.second(y)[0], h


class Rounded(nn.Module):
    """A GRU whose state is handed on in bfloat16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.gru(x, None if hx is None else hx.to(x.dtype))
        return y, h.bfloat16()


class Shift(Carried):
    """A token shift whose carried token is the output of the mix, not its input."""

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        first = state["last"][:, None] if state else torch.zeros_like(x[:, :1])
        y = torch.lerp(x, torch.cat((first, x[:, :-1]), 1), 0.5)
        return torch.tanh(y), {"last": y[:, -1]}


STATE_DICT = {"state": "state", "state_output": 1}
LINEAR = {**STATE_DICT, "linear": True}
STATE_HX = {"state": "hx", "state_output": 1}
STEP_ONLY = ("step",)

STEP = (
    Case("conv-buffer-forgotten", "state not carried", STEP_ONLY, lambda w: Conv(w, 0), output=0,
         options=LINEAR, why="the convolution starts with zeros in each call"),
    Case("conv-buffer-short", "carried slice off by one", STEP_ONLY, lambda w: Conv(w, 2), output=0,
         options=LINEAR, why="2 of the 3 tokens that it needs are carried"),
    Case("count-not-carried", "state not carried", STEP_ONLY, Mean, output=0, options=LINEAR,
         why="the sum is carried, the number of its terms is not"),
    Case("layer-not-carried", "state not carried", STEP_ONLY, OneLayerCarried, output=0,
         options=STATE_HX, why="the second of two GRUs starts anew"),
    Case("position-restarts", "position restarts", STEP_ONLY, Place, output=0, options=LINEAR,
         why="each call counts from 0"),
    Case("rotary-restarts", "position restarts", STEP_ONLY, lambda w: Cached(w, True), output=0,
         options=STATE_DICT, why="rotary angles count from 0 in each call"),
    Case("decay-twice", "decay at the boundary", STEP_ONLY, Decay, output=0, options=LINEAR,
         why="the carried state is decayed once too often"),
    Case("cache-corner", "mask of the cache", STEP_ONLY, lambda w: Cached(w, False), output=0,
         options=STATE_DICT,
         why="is_causal=True with a cache: torch aligns at the top left, a step sees key 0 alone"),
    Case("cache-slice", "carried slice off by one", STEP_ONLY, lambda w: Window(w, 14),
         output=0, options=LINEAR, why="14 of the 15 keys that a window of 16 needs"),
    Case("cache-grows", "state grows", ("step", "cost"), lambda w: Window(w, 10**6), output=0,
         options=LINEAR, why="a window of 16, but all keys are kept and carried"),
    Case("state-in-place", "state changed in place", ("step", "state"), InPlaceState, output=0,
         options=LINEAR, why="the caller's state is overwritten: a second try from it differs"),
    Case("state-rounded", "state rounded", ("step", "numerics"), Rounded, output=0,
         options=STATE_HX, why="bfloat16 between calls: 1e-3"),
    Case("shift-carries-output", "wrong tensor carried", STEP_ONLY, Shift, output=0, options=LINEAR,
         why="the mixed token is carried where the token itself is needed"),
)  # fmt: skip

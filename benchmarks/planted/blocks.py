"""The sound modules that most cases bend: a map between two matrices, attention, a carried sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Map = Callable[[Tensor], Tensor]
Turn = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
State = dict[str, Tensor]


def future(T: int, first: int = 1) -> Tensor:
    """(T, T), True where key s is `first` or more positions after query t."""
    return torch.ones(T, T, dtype=torch.bool).triu(first)


def shift(x: Tensor) -> Tensor:
    """The token before, zeros for the first."""
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


def ahead(x: Tensor) -> Tensor:
    """The token after, zeros for the last."""
    return F.pad(x, (0, 0, 0, 1))[:, 1:]


def counts(x: Tensor) -> Tensor:
    """(T, 1): 1, 2, 3, ... in x's dtype."""
    return torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)[:, None]


def running_mean(x: Tensor) -> Tensor:
    return x.cumsum(1) / counts(x)


def causal_softmax(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    return torch.softmax(scores.masked_fill(future(T), float("-inf")), -1)


def wide(mix: Map) -> Map:
    """The map in float32 or wider, where bfloat16 has no such operation."""

    def run(x: Tensor) -> Tensor:
        return mix(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    return run


class Between(nn.Module):
    """x + out(mix(enter(x))); `mix` maps (B, T, C) to (B, T, C)."""

    def __init__(self, width: int, mix: Map) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.out(self.mix(self.enter(x)))
        return y


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Map) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attend(nn.Module):
    """Attention of 4 heads; `weigh` makes weights of the scores, `turn` changes q, k and v before.

    scores and weights are (B, H, T, T), q k v (B, H, T, D)
    """

    def __init__(self, width: int, weigh: Map = causal_softmax, turn: Turn | None = None) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.weigh, self.turn = weigh, turn

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, 4, -1)).transpose(1, 3)  # (B, 4, 3, T, D)
        q, k, v = heads.unbind(2)
        if self.turn is not None:
            q, k, v = self.turn(q, k, v)
        weights = self.weigh(q @ k.mT * q.shape[-1] ** -0.5)
        y: Tensor = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return y


class Carried(nn.Module):
    """Base of modules with a state: forward(x, state=None) -> (y, state)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        y, after = self.run(self.enter(x), state or {})
        return x + self.out(y), after

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

"""A few steps of training on random numbers: which weights ever get a gradient."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

RATE = 1e-3  # of a step


@dataclass(frozen=True)
class Steps:
    """A few steps of an optimizer."""

    largest: Mapping[str, float]  # parameter -> largest gradient of all steps; NaN where one was
    losses: tuple[float, ...]
    error: str | None = None


def take_steps(forward: Callable[[], list[Tensor]], module: nn.Module, n: int, seed: int) -> Steps:
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    largest = dict.fromkeys((name for name, _ in named), 0.0)
    losses: list[float] = []
    for _ in range(n + 1):
        seed_all(seed)
        module.zero_grad()
        loss = sum(_distance(y.float(), seed + i) for i, y in enumerate(forward()))
        assert isinstance(loss, Tensor)
        losses.append(float(loss.detach()))
        if not named or not loss.requires_grad:
            break
        loss.backward()
        for name, p in named:
            if p.grad is None or not p.numel():
                continue
            size = float(p.grad.abs().max())
            largest[name] = size if math.isnan(size) else max(largest[name], size)
            with torch.no_grad():  # as Adam's first step; its import alone takes seconds
                p.sub_(RATE * p.grad.sign())
    return Steps(largest, tuple(losses))


def _distance(y: Tensor, seed: int) -> Tensor:
    """To random numbers, squared; -infinity on purpose (a padded vocabulary) is left out."""
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
    kept = y.detach() != -torch.inf
    return (y[kept] - target[kept]).square().sum() / max(y.numel(), 1)


def seed_all(seed: int) -> None:
    """Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every device: 2 ms

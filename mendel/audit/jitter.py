"""A tiny step of weights and inputs, there and back: what is left of it is rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def jitter(x: Tensor, size: float, salt: int) -> Tensor:
    if not x.is_floating_point():
        return x
    draw = torch.Generator().manual_seed(salt % (1 << 31))
    noise = torch.rand(x.shape, generator=draw, dtype=torch.float32).to(x.dtype) * 2 - 1
    return x * (1 + size * noise)


@contextmanager
def jittered(module: nn.Module, size: float) -> Iterator[None]:
    if not size:
        yield
        return
    kept = [(p, p.detach().clone()) for p in module.parameters()]
    with torch.no_grad():
        for i, (p, old) in enumerate(kept):
            p.copy_(jitter(old, size, i))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, old in kept:
                p.copy_(old)

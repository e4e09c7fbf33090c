"""From which outputs read which later inputs to what probably went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mendel.audit.auditor import Auditor

MAX_TRACED = 64  # positions changed one by one


@dataclass(frozen=True)
class Leak:
    """Output t moves by `amount` where input u > t alone is changed."""

    t: int
    u: int
    amount: float


def trace(a: Auditor, x: Tensor, train: bool, seed: int, scale: float = 1.0) -> list[Leak]:
    """Change one position at a time in one row (1, T, ...)."""
    T = x.shape[1]
    late = sorted(set(range(1, T)[-MAX_TRACED // 2 :]) | set(range(1, T)[: MAX_TRACED // 2]))
    many, other = x.repeat(len(late), *[1] * (x.dim() - 1)), a.draw(len(late), T, seed + 9)
    changed = many.clone()
    for i, u in enumerate(late):
        fresh = (other[i, u].abs() + 4) * scale if a.spec.kind == "float" else other[i, u]
        changed[i, u] = fresh
    one = a.rows(many, train=train, seed=seed).y
    two = a.rows(changed, train=train, seed=seed).y
    if one is None or two is None:
        return []
    gaps = (one - two).abs().nan_to_num(0, 0, 0).reshape(len(late), T, -1).amax(-1)
    floor = a.rounding * max(1.0, float(two.abs().nan_to_num(0, 0, 0).max()))
    return [
        Leak(t, u, float(gaps[i, t]))
        for i, u in enumerate(late)
        for t in torch.nonzero(gaps[i, :u] > floor).flatten().tolist()
    ]


def explain(leaks: list[Leak], T: int, train: bool) -> str:
    """The likely cause, in words."""
    if not leaks:
        return (
            "a branch or a ranking that depends on the data: changing one position alone does not "
            "show it (top-k or sorting over time, a condition on a statistic)"
        )
    only = "; only in train mode: look at what depends on self.training" if train else ""
    return _pattern(leaks, T) + only


def _pattern(leaks: list[Leak], T: int) -> str:
    reaches = [leak.u - leak.t for leak in leaks]
    first = min(leak.t for leak in leaks)
    after = f", from position {first} on" if first > 8 else ""
    if max(reaches) <= 8 and max(reaches) < T // 2:
        steps = f"{max(reaches)} step{'s' if max(reaches) > 1 else ''}"
        return f"a mask, a shift or a convolution's padding that is off by {steps}{after}"
    chunk = _chunk(leaks)
    if chunk is not None and chunk < T:
        return f"no mask inside chunks of {chunk}{after}"
    if all(leak.t < T // 4 and leak.u >= 3 * T // 4 for leak in leaks):
        return "a circular convolution: pad to twice the length before an FFT"
    if len({leak.u for leak in leaks}) == 1:
        return f"every output reads input {leaks[0].u}: the end, or a fixed position"
    if len(leaks) > 0.9 * sum(1 for u in {leak.u for leak in leaks} for _ in range(u)):
        return (
            "every output reads every input: no mask, a statistic or a norm over time, an FFT over "
            "time, or a scan that runs backwards"
        )
    return f"later inputs are read up to {max(reaches)} steps ahead{after}"


def _chunk(leaks: list[Leak]) -> int | None:
    for size in (4, 8, 16, 32, 64, 128, 256):
        if all(leak.t // size == leak.u // size for leak in leaks):
            return size
    return None

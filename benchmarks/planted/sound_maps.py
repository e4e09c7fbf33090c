"""Sound maps over time: nothing is learned in them, and nothing to come is seen."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Case
from .blocks import Between, counts, running_mean, shift, wide
from .time_faults import Conv, chunk_means, ema


def by_fft(x: Tensor) -> Tensor:
    T = x.shape[1]
    kernel = torch.exp(-torch.arange(T, dtype=x.dtype) / 8)[:, None]
    product = torch.fft.rfft(x, n=2 * T, dim=1) * torch.fft.rfft(kernel, n=2 * T, dim=0)
    y: Tensor = torch.fft.irfft(product, n=2 * T, dim=1)[:, :T]
    return y


def total_less_suffix(x: Tensor) -> Tensor:
    suffix = x.flip(1).cumsum(1).flip(1)
    y: Tensor = (x.sum(1, keepdim=True) - suffix + x) / counts(x)
    return y


def by_doubling(x: Tensor) -> Tensor:
    """Prefix sums in log T shifted additions."""
    step, y = 1, x
    while step < x.shape[1]:
        y = y + F.pad(y, (0, 0, step, 0))[:, : x.shape[1]]
        step *= 2
    return y / counts(x)


def in_chunks(x: Tensor) -> Tensor:
    return chunk_means(x, 64, 0)


def in_padded_chunks(x: Tensor) -> Tensor:
    """Chunks of 16, the last filled with zeros; sums within by a triangular matrix."""
    T, n = x.shape[1], -(-x.shape[1] // 16)
    blocks = F.pad(x, (0, 0, 0, n * 16 - T)).unflatten(1, (n, 16))
    inside = torch.ones(16, 16, dtype=x.dtype).tril() @ blocks
    before = blocks.sum(2).cumsum(1) - blocks.sum(2)
    y: Tensor = (inside + before[:, :, None]).flatten(1, 2)[:, :T] / counts(x)
    return y


def global_max(x: Tensor) -> Tensor:
    """A mean under exp(score); the text's maximum is taken off for safety, and cancels."""
    scores = 4 * torch.tanh(x)
    weights = torch.exp(scores - scores.amax(1, keepdim=True))
    return (weights * x).cumsum(1) / weights.cumsum(1)


def centred_and_back(x: Tensor) -> Tensor:
    """The text's mean is taken off and added again."""
    mean = x.mean(1, keepdim=True)
    return running_mean(x - mean) + mean


def running_norm(x: Tensor) -> Tensor:
    mean = running_mean(x)
    variance = (running_mean(x * x) - mean * mean).clamp_min(0)
    return (x - mean) / (variance + 0.1).sqrt()


def causal_max_pool(x: Tensor) -> Tensor:
    return F.max_pool1d(F.pad(x.mT, (2, 0), value=-1e30), 3, stride=1).mT


def running_max(x: Tensor) -> Tensor:
    return x.cummax(1).values


def log_sum(x: Tensor) -> Tensor:
    return x.logcumsumexp(1)


def shifted(x: Tensor) -> Tensor:
    return torch.lerp(x, shift(x), 0.4)


def straight_through(x: Tensor) -> Tensor:
    return x + ((8 * x).round() / 8 - x).detach()


def int8_per_token(x: Tensor) -> Tensor:
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-6) / 127
    return x + ((x / scale).round() * scale - x).detach()


def norm_in_float32(x: Tensor) -> Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def on_own_past(x: Tensor) -> Tensor:
    """A hard branch that hangs on the past alone: doubled after a value above 1.6."""
    return running_mean(x) * (1 + (shift(x).amax(-1, keepdim=True) > 1.6))


CLAIM: dict[str, Any] = {"linear": True}


def over(name: str, mix: Any, why: str, **options: Any) -> Case:
    return Case(name, "hand-written", (), lambda w: Between(w, mix), options=options, why=why)


MAPS = (
    over("fft-with-zeros", wide(by_fft), "padded to 2 T: float noise of the future leaks back"),
    over("total-less-suffix", total_less_suffix, "what is to come cancels but for rounding"),
    over("sum-by-doubling", by_doubling, "shifted additions"),
    over("sum-in-chunks", in_chunks, "what beyond-chunk-64 gets wrong", **CLAIM),
    over("sum-in-padded-chunks", in_padded_chunks, "sums take another order with T", **CLAIM),
    over("global-max", global_max, "exp(x - global max) cancels but for rounding", **CLAIM),
    over("mean-off-and-on", centred_and_back, "the text's mean cancels but for rounding", **CLAIM),
    over("running-mean", running_mean, "", **CLAIM),
    over("running-max", running_max, "", **CLAIM),
    over("running-norm", running_norm, "statistics of the past", **CLAIM),
    over("ema-loop", ema, "", **CLAIM),
    over("log-cumsum-exp", log_sum, "", **CLAIM),
    over("max-pool-causal", causal_max_pool, "padded at the left alone", **CLAIM),
    over("token-shift", shifted, "", **CLAIM),
    over("straight-through", straight_through, "rounded forward, a gradient of 1", **CLAIM),
    over("int8-per-token", int8_per_token, "a scale for each token", **CLAIM),
    over("norm-in-float32", norm_in_float32, "float32 inside float64", **CLAIM),
    over("branch-on-past", on_own_past, "a hard branch, no leak", **CLAIM),
    Case("taps-left", "hand-written", (), lambda w: Between(w, Conv(w, 3, 0)), options=CLAIM),
)  # fmt: skip

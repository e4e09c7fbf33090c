"""Rotary positions: a head's vector is turned by angles that grow with its position."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=32)
def table(
    dim: int, n: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines, and sines with the first half negated, of positions 0 ... n - 1: each (n, dim)."""
    with torch.inference_mode(False):  # a tensor made in inference mode could never be trained with
        frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.outer(torch.arange(n, dtype=torch.float64), frequencies)
        cos, sin = (f(angles).repeat(1, 2).to(device, dtype) for f in (torch.cos, torch.sin))
        return cos, torch.cat((-sin[:, : dim // 2], sin[:, dim // 2 :]), 1)


def rotate(x: Tensor, start: int, base: float = 10_000.0) -> Tensor:
    """Turn each vector by its position; pairs are (i, i + D/2), as in Hugging Face's Llama.

    x        (..., T, D), D even, at positions start ... start + T - 1
    returns  the same shape and dtype
    source   Su 2021
    """
    T, D = x.shape[-2:]
    n = 1 << max(start + T - 1, 255).bit_length()  # tables in powers of two: few are ever made
    cos, sin = table(D, n, base, x.dtype, x.device)
    turned = torch.cat((x[..., D // 2 :], x[..., : D // 2]), -1)
    return x * cos[start : start + T] + turned * sin[start : start + T]

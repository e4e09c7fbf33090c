"""Logits to a symbol. A draw's number depends on the seed and the position alone.

So the same text comes out again, and one that goes on from its half goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..carried.chance import drawn, uniforms


@dataclass(frozen=True)
class Sampler:
    """temperature 0 takes the likeliest; top_p draws from the fewest that have this share.

    raises   ValueError for a number out of range
    """

    temperature: float = 0.8
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(0 <= self.temperature < np.inf, "temperature", self.temperature, "0 or more")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _check(0 <= self.seed < 2**64, "seed", self.seed, "0 to 2**64 - 1")

    def pick(self, logits: NDArray[np.float32], uniform: float) -> int:
        """The symbol that a uniform number in [0, 1) stands for; logits (V,)."""
        best = int(logits.argmax())
        if self.temperature == 0:
            return best
        return drawn(logits, self.temperature, self.top_p, uniform)

    def uniforms(self, start: int) -> Iterator[float]:
        """The numbers of positions start, start + 1, ...: each by seed and position alone."""
        return uniforms(self.seed, start)


def _check(holds: bool, name: str, got: float, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name}={got}. Wanted {wanted}.")

"""Logits to a symbol. A draw's number depends on the seed and the position alone.

So the same text comes out again, and one that goes on from its half goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 64  # uniforms drawn at a time


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
        with np.errstate(over="ignore"):  # a tiny temperature makes -inf, whose exp is 0
            p = np.exp((logits.astype(np.float64) - float(logits[best])) / self.temperature)
        if self.top_p < 1:
            order = np.argsort(-p, kind="stable")
            mass = np.cumsum(p[order])
            p[order[np.searchsorted(mass, self.top_p * mass[-1]) + 1 :]] = 0
        mass = np.cumsum(p)
        # in the order of the symbols: two that are nearly equal cannot change places by rounding
        return int(np.searchsorted(mass, uniform * mass[-1], side="right"))

    def uniforms(self, start: int) -> Iterator[float]:
        """The numbers of positions start, start + 1, ...: each by seed and position alone."""
        while True:
            # a counter of Philox gives four words; a position takes the first of its own
            words = np.random.Philox(key=self.seed, counter=start).random_raw(4 * CHUNK)[::4]
            yield from ((words >> np.uint64(11)) * 2.0**-53).tolist()
            start += CHUNK


def _check(holds: bool, name: str, got: float, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name}={got}. Wanted {wanted}.")

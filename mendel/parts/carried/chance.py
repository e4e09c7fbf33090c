"""Draws that can be repeated: a number depends on the seed and the position alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHUNK = 64  # uniforms drawn at a time


def uniforms(seed: int, start: int) -> Iterator[float]:
    """The numbers in [0, 1) of positions start, start + 1, ..."""
    while True:
        # a counter of Philox gives four words; a position takes the first of its own
        words = np.random.Philox(key=seed, counter=start).random_raw(4 * CHUNK)[::4]
        yield from ((words >> np.uint64(11)) * 2.0**-53).tolist()
        start += CHUNK


def drawn(logits: NDArray[np.floating], temperature: float, top_p: float, uniform: float) -> int:
    """The id that a uniform number stands for: inverse of the cumulative distribution, in float64.

    logits       (V,)
    temperature  above 0
    top_p        draw from the fewest ids that have this share together

    In the order of the ids: in that of probabilities two that are nearly equal could change places
    by rounding.
    """
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, whose exp is 0
        p = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
        mass = np.cumsum(p[order])
        p[order[np.searchsorted(mass, top_p * mass[-1]) + 1 :]] = 0
    mass = np.cumsum(p)
    found = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return found if found < len(p) else int(np.flatnonzero(p)[-1])

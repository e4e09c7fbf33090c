"""What a class does with its next request: chances of every plan, known before the lot is drawn.

baseline's lot | the champion's plan | looks at rivals

Looks go to rivals that a draw from the beliefs calls best (Thompson), more to those that cost
little to look at, and at a floor rate to all, so that a rival that becomes faster is seen. How many
there are follows from what they cost: a share of work, larger for a while after a surprise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.tune.gain import lot

Floats = NDArray[np.float64]
LOOKS_COST = 0.015  # of work, that looks at rivals may cost
BURST = 8  # times as much after a surprise
MOST_LOOKS = 0.3  # of requests
LEAST_LOOKS = 0.01
FLOOR = 0.02  # of a rival's weight, whatever the beliefs say


class Policy(NamedTuple):
    """Of one class, for now."""

    baseline: float  # chance of the lot
    looks: float  # chance of a look, where the lot did not fall
    rivals: Floats  # (n,) whom a look is at, cumulative
    own: Floats  # (n,) the tuner's share of each plan, summing to 1; its chance without the lot

    def chances(self, baseline: int) -> Floats:
        """(n,) of each plan."""
        found = (1 - self.baseline) * self.own
        found[baseline] += self.baseline
        return found


def policy(
    mean: Floats, likely: Floats, *, live: int, baseline: int, burst: bool = False
) -> Policy:
    """For a class whose champion has plan `live`.

    mean      (n,) believed log ms
    likely    (n,) how often each is the best of a draw, and FLOOR; 0: it is never looked at
    """
    dearer = np.exp(np.clip(mean - mean[live], -5, 5)) - 1
    weight = likely / (0.1 + np.maximum(dearer, 0))
    weight[live] = 0
    total = float(weight.sum())
    if total == 0:  # no rival
        own = weight
        own[live] = 1.0
        return Policy(0.0, 0.0, np.cumsum(own), own)
    weight /= total
    budget = LOOKS_COST * (BURST if burst else 1)
    price = float(weight @ np.maximum(dearer, 0.02))
    looks = min(MOST_LOOKS, max(LEAST_LOOKS, budget / price))
    own = looks * weight
    own[live] += 1 - looks
    kept = 0.0 if live == baseline else lot(float(np.exp(mean[baseline] - mean[live])), 1.0)
    return Policy(kept, looks, np.cumsum(weight), own)

"""What the tuner gains, its own time included, and whether it pays.

A few requests keep to the baseline by lot. With the lot's probabilities known, each request gives
an estimate of what the tuner saves that is unbiased whatever the beliefs are, and nearly without
noise where they are right (doubly robust):

d = sum_a (1[a = b] - q_a) belief_a + (1[A = b] - q_A) / P_A * (cost - belief_A)

A the plan it had, P_a its probability then, q_a the tuner's own share of a, b the baseline; in
units of what the baseline is believed to cost there, so 0.4 = four tenths are saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BASELINE_COST = 0.008  # of all work, that the baseline's lot may cost
LEAST, MOST = 0.002, 0.05  # of requests that it gets
ALPHA = 0.05
FIRST_LOOK = 30  # requests before which nothing is said
TUNED_FOR = 1_000  # requests at which the interval is narrowest
WILD = 50.0  # an estimate beyond it is cut: one stalled request in the lot is no proof


def lot(baseline: float, chosen: float) -> float:
    """Share of requests that keep to the baseline, given what both are believed to cost."""
    dearer = baseline / chosen - 1
    return MOST if dearer <= BASELINE_COST / MOST else max(LEAST, BASELINE_COST / dearer)


class Interval(NamedTuple):
    """Of the share of work saved; holds at all times at once, for the mean so far."""

    low: float
    mean: float
    high: float
    n: int


@dataclass
class Gain:
    """Mean of the estimates since the tuner was last switched on."""

    n: int = 0
    sum: float = 0.0
    squares: float = 0.0

    def add(self, saved: float) -> None:
        saved = max(-WILD, min(WILD, float(saved)))
        self.n, self.sum, self.squares = self.n + 1, self.sum + saved, self.squares + saved**2

    def interval(self, alpha: float = ALPHA) -> Interval:
        """An asymptotic confidence sequence (Waudby-Smith et al. 2021, theorem 2.2): it may be read
        after every request; its error tends to alpha as the first look is later."""
        n = self.n
        if n < FIRST_LOOK:
            return Interval(-math.inf, self.sum / n if n else 0.0, math.inf, n)
        mean = self.sum / n
        spread = math.sqrt(max(self.squares / n - mean**2, 0.0) + 1e-6)
        r = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / TUNED_FOR
        width = math.sqrt(2 * (n * r + 1) / (n * n * r) * math.log(math.sqrt(n * r + 1) / alpha))
        return Interval(mean - spread * width, mean, mean + spread * width, n)

    def to_dict(self) -> dict[str, float | None]:
        """As JSON has it: no bounds before the first look."""
        low, mean, high, n = self.interval()
        told = n >= FIRST_LOOK
        bounds = {"low": low, "mean": mean, "high": high}
        return {**{k: v if told else None for k, v in bounds.items()}, "n": n}


def saved(
    belief: Floats, chances: Floats, policy: Floats, baseline: int, plan: int, cost: float
) -> float:
    """One request's estimate, in units of the baseline's cost there.

    belief    (n,) cost of each plan there
    chances   (n,) of each plan then; policy (n,) the tuner's own part of them, summing to 1
    """
    weights = -policy
    weights[baseline] += 1.0
    told = float(weights @ belief) + float(weights[plan] / chances[plan]) * (cost - belief[plan])
    share: float = told / float(belief[baseline])
    return share


@dataclass
class Switch:
    """Off where the tuner does not pay; tried again later, each time later.

    After FIRST requests it must not be sure to gain nothing, after LAST it must be sure to gain,
    and where the baseline is the plan of every class it has nothing to gain. When it is tried again
    and has found nothing in AGAIN requests, it rests again.
    """

    FIRST = 500
    AGAIN = 64
    LAST = 4_000
    WORTH = 0.005  # share of work: less is not worth the wait
    REST = 256  # requests until it is tried again, doubled each time
    LONGEST = 16_384

    gain: Gain = field(default_factory=Gain)
    on: bool = True
    n_came: int = 0  # requests since it was switched on, those that nothing was learned from too
    n_skipped: int = 0  # of them, since the last that was learned from
    n_idle: int = 0  # learned from in a row, that had nothing to gain
    n_off: int = 0  # requests since it was switched off
    n_failed: int = 0  # times in a row
    reason: str = "on trial"

    def add(self, d: float, *, idle: bool) -> bool:
        """One request while on; returns whether it was the last.

        idle     the baseline is the plan of every class
        """
        self.gain.add(d)
        self.n_came, self.n_skipped = self.n_came + 1 + self.n_skipped, 0
        self.n_idle = self.n_idle + 1 if idle else 0
        in_vain = self.n_idle >= (self.AGAIN if self.n_failed else self.FIRST)
        few = self.n_came < self.FIRST or self.gain.n < FIRST_LOOK
        if not in_vain and (few or self.gain.n % 50):
            return False
        low, mean, high, n = self.gain.interval()
        if not in_vain and low > 0:
            self.n_failed, self.reason = 0, f"pays: {mean:.1%} saved, at least {low:.1%}"
        elif in_vain or high < self.WORTH or self.n_came >= self.LAST:
            self.reason = f"off: {mean:+.1%} saved ({low:+.1%} to {high:+.1%}) in {n} requests"
            self.on, self.n_off, self.n_failed = False, 0, self.n_failed + 1
            return True
        return False

    def skip(self) -> None:
        """One request while on, that nothing is learned from."""
        self.n_skipped += 1

    def rest(self, *, changed: bool = False) -> bool:
        """One request while off; returns whether it is on again."""
        self.n_off += 1
        if not changed and self.n_off < min(self.REST << (self.n_failed - 1), self.LONGEST):
            return False
        self.reason = "the traffic has changed: tried again" if changed else "tried again"
        self.on, self.gain = True, Gain()
        self.n_came = self.n_skipped = self.n_idle = 0
        return True

"""What each plan costs where: Bayesian linear regression on log ms per unit, one for each plan.

x = (class one-hot, 1, point)      y = x.m + noise      m ~ N(mean, P)

Certainty fades: with each request of a class that a plan did not serve, its variance there grows by
1/DISCOUNT, up to that of the prior, while its mean stays. So a plan that is not looked at is looked
at again. Priors are wide: narrow ones get stuck on a first impression.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.tune.classes import MOST, NAMES

Floats = NDArray[np.float64]
DISCOUNT = 0.99  # of what a plan's own requests said, with each new one
FADE = 0.996  # of what is known of a plan in a class, with each request that another plan served
DIM = MOST + 1 + len(NAMES)
PRIOR = np.array(
    [0.6**2] * (MOST + 1) + [0.25**2] * len(NAMES)
)  # of log ms per unit, around the level
EYE = np.eye(DIM)
NOISE = 0.3**2  # at first; learned
CLIP = 3.0  # standard deviations: a stalled machine is no evidence against a plan
FADED = 400  # requests after which nothing is left to fade


class Beliefs:
    """Of n plans; index by plan."""

    def __init__(self, n: int) -> None:
        self.mean = np.zeros((n, DIM))
        self.cov = np.tile(np.diag(PRIOR), (n, 1, 1))
        self.noise = np.full(n, NOISE)
        self.seen = np.zeros((n, MOST))  # discounted looks
        self.age = np.zeros((n, MOST))  # requests of the class since the last look
        self._n = 0

    def at(self, x: Floats, c: int) -> tuple[Floats, Floats]:
        """Mean and variance of each plan's y at x in class c, (n,) each."""
        variance = (self.cov @ x) @ x
        variance *= FADE ** -np.minimum(self.age[:, c], FADED)
        return self.mean @ x, np.clip(variance, 1e-6, float(PRIOR @ (x * x)))

    def level(self, y: float) -> None:
        """Where nothing is known, plans cost about this."""
        self.mean[:, MOST] += y

    def learn(self, plan: int, x: Floats, c: int | None, y: float, *, n_passed: int = 1) -> float:
        """One request; returns how far off the belief was, in standard deviations, clipped.

        c         its class; None: of no class, a text of the start-up profile
        n_passed  0: it was nobody's, and what is known of the other plans does not fade by it
        """
        if self._n == 0:
            self.level(y - float(self.mean[plan] @ x))
        self._n += 1
        if c is not None:
            self._fade(plan, c)
        cov, noise = self.cov[plan], float(self.noise[plan])
        px = cov @ x
        variance = float(px @ x) + noise
        off = y - float(self.mean[plan] @ x)
        z = max(-CLIP, min(CLIP, off / math.sqrt(variance)))
        self.mean[plan] += px * (z / math.sqrt(variance))
        # not cov - px px' / variance: of that, rounding leaves no covariance in the end
        kept = EYE - np.outer(px / variance, x)
        self.cov[plan] = kept @ cov @ kept.T + np.outer(px, px) * (noise / variance**2)
        left = z * z * variance - float(px @ x)  # what the belief's own doubt does not explain
        self.noise[plan] += 0.03 * (min(max(left, 0.02**2), 1.0) - noise)
        if c is not None:
            self.saw(plan, c, n_passed)
        return z

    def saw(self, plan: int, c: int, n_passed: int = 1) -> None:
        """A request of this class had this plan."""
        if n_passed:
            self.age[:, c] += n_passed
            self.seen[:, c] *= FADE
        self.age[plan, c] = 0
        self.seen[plan, c] += 1

    def _fade(self, plan: int, c: int) -> None:
        """What this request speaks of is less certain than it was; other classes stay."""
        grow = np.ones(DIM)
        grow[MOST:] = DISCOUNT**-0.5
        grow[c] = (DISCOUNT * FADE ** min(float(self.age[plan, c]), FADED)) ** -0.5
        self._inflate(plan, grow)

    def doubt(self, plan: int, c: int) -> None:
        """It behaves otherwise than it did: learn it anew."""
        grow = np.ones(DIM)
        grow[c] = 4.0
        self._inflate(plan, grow)

    def _inflate(self, plan: int, grow: Floats) -> None:
        cov = self.cov[plan]
        grown = grow * np.sqrt(np.minimum(1.0, PRIOR / (np.diag(cov) * grow * grow)))
        cov *= np.outer(grown, grown)


def vector(c: int | None, at: Floats) -> Floats:
    """(DIM,): the class, and where in it."""
    x = np.zeros(DIM)
    if c is not None:
        x[c] = 1.0
    x[MOST], x[MOST + 1 :] = 1.0, at
    return x


def thompson(
    mean: Floats, variance: Floats, chance: np.random.Generator, n_draws: int = 64
) -> Floats:
    """How often each plan is the best of a draw from the beliefs: Thompson's probabilities."""
    draws = mean + np.sqrt(variance) * chance.standard_normal((n_draws, len(mean)))
    found: Floats = np.bincount(draws.argmin(1), minlength=len(mean)) / n_draws
    return found


def chance_better(mean: Floats, variance: Floats, mine: int, its: int, margin: float) -> float:
    """Probability that mine is better than its by the margin, in log ms."""
    gap = float(mean[its] - mean[mine]) - margin
    return 0.5 * math.erfc(-gap / math.sqrt(2 * float(variance[mine] + variance[its])))

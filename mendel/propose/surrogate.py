"""Features and scores of some candidates -> mean and uncertainty of others: a Gaussian process.

k((x, s), (y, t)) = (share * <x, y> + (1 - share) * matern(|x - y| / length)) * (kin, or 1 if s = t)
                    + (FREE if s = t: a task's own level)

s and t are tasks. Scores are standardised per task, so a task says of another one which candidates
are good, not how good. Length, share, noise and kin are those of the highest marginal likelihood;
the amplitude is integrated out of it. It knows feature rows alone: neither specs nor tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

Floats = Any
MIN_SPREAD = 1e-9
TOP = 0.3  # of the gap between the best and the median: below it differences count less and less
GRID: dict[str, tuple[float, ...]] = {
    "length": (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0),  # of the usual distance
    "share": (0.0, 0.2, 0.4, 0.6, 0.8),
    "noise": (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),  # of the variance of the signal
    "kin": (0.0, 0.5, 0.8, 0.9, 0.95, 0.98),
}
AMPLITUDE_SURE = 2.0  # how many observations the prior amplitude of 1 counts for
FREE = 1.0  # variance of a task's own level


@dataclass(frozen=True)
class Shape:
    """What the marginal likelihood chooses; the start is what is usual."""

    length: float = 1.0
    share: float = 0.4
    noise: float = 1e-2
    kin: float = 0.9


@dataclass(frozen=True)
class Rows:
    """features (n, F), float32; task (n,) ints."""

    features: Floats
    task: Floats

    @cached_property
    def squares(self) -> Floats:
        return np.einsum("ij,ij->i", self.features, self.features)

    def __len__(self) -> int:
        return len(self.task)


def standardised(scores: Floats, like: Floats | None = None, spread: float = 1.0) -> Floats:
    """Scores of one task in units of its own; failures (NaN) stand with the worst.

    What lies far below the best is drawn together: it is the differences at the top that count.

    scores   (n,)
    like     (n,) what other tasks expect of the same candidates, in such units; None: nothing
    spread   of what is expected beyond that
    returns  (n,) of the mean and the spread that are expected
    """
    known = scores[np.isfinite(scores)]
    if not len(known):
        return np.zeros(len(scores))
    below = known.max() - np.where(np.isfinite(scores), scores, known.min())
    usual = float(known.max() - np.median(known))
    z = -np.log1p(below / max(TOP * usual, MIN_SPREAD))
    mean, wanted = 0.0, 1.0
    if like is not None:
        mean, wanted = float(like.mean()), math.hypot(float(like.std()), spread)
    return mean + (z - z.mean()) / max(float(z.std()), MIN_SPREAD) * wanted


def points(scores: Floats, z: Floats) -> float:
    """How much of the score a unit of the standardised scale is worth near the best; 0 where all
    scores are the same."""
    known = scores[np.isfinite(scores)]
    usual = TOP * float(known.max() - np.median(known))
    drawn = math.log1p(float(known.max() - known.min()) / max(usual, MIN_SPREAD))
    return usual * drawn / max(float(z.max() - z.min()), MIN_SPREAD)


@dataclass(frozen=True)
class Surrogate:
    """What is known, ready to be asked.

    unit   the usual squared distance between two rows of features, 1 where it is not known
    """

    rows: Rows
    z: Floats  # (n,)
    shape: Shape
    unit: float
    inverse: Floats  # (n, n), of the lower factor of what is known; float32
    weights: Floats  # (n,)
    amplitude: float
    evidence: float  # log marginal likelihood, up to a constant

    def expects(self, rows: Rows) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the signal, without noise; (n,) each."""
        across = kernel(rows, self.rows, self.shape, self.unit)
        inner = across @ self.inverse.T
        own = _own(rows, self.shape, self.unit)
        variance = np.maximum(own - np.einsum("ij,ij->i", inner, inner), 1e-9)
        return across @ self.weights, np.sqrt(self.amplitude * variance)


def kernel(a: Rows, b: Rows, shape: Shape, unit: float) -> Floats:
    """(len(a), len(b)) covariances, of amplitude 1; float32."""
    inner = a.features @ (b.features.T * np.float32(1 / unit))
    far = (a.squares[:, None] + b.squares[None]) * np.float32(1 / unit) - 2 * inner
    np.sqrt(np.maximum(far, 0, out=far), out=far)
    found = _matern(far * np.float32(math.sqrt(5) / shape.length))
    found *= np.float32(1 - shape.share)
    found += np.float32(shape.share) * inner
    if (a.task == a.task[0]).all() and (b.task == a.task[0]).all():
        return found + np.float32(FREE)
    same = a.task[:, None] == b.task[None]
    return np.where(same, found + np.float32(FREE), np.float32(shape.kin) * found)


def _matern(far: Floats) -> Floats:
    """source: Rasmussen and Williams, 2006, eq. 4.17; far in units of length / sqrt(5)"""
    found = far * far
    found /= 3
    found += 1 + far
    found *= np.exp(-far)
    return found


def _own(rows: Rows, shape: Shape, unit: float) -> Floats:
    return 1 - shape.share + shape.share * rows.squares / unit + FREE


def fit(rows: Rows, z: Floats, unit: float, start: Shape, rounds: int = 1) -> Surrogate:
    """The surrogate of the best shape, found field by field from `start`.

    z        (n,) standardised scores
    rounds   of looking at each field; 0: `start` as it is
    """
    best = given(rows, z, unit, start)
    fields = [f for f in GRID if f != "kin" or len(set(rows.task.tolist())) > 1]
    for _ in range(rounds):
        for field in fields:
            for value in _beside(GRID[field], getattr(best.shape, field)):
                found = given(rows, z, unit, replace(best.shape, **{field: value}))
                best = max(best, found, key=lambda one: one.evidence)
    return best


def _beside(values: Sequence[float], value: float) -> Sequence[float]:
    """The values next to this one; the search goes one step a round."""
    i = min(range(len(values)), key=lambda i: abs(values[i] - value))
    return [values[j] for j in (i - 1, i + 1) if 0 <= j < len(values)]


def given(rows: Rows, z: Floats, unit: float, shape: Shape) -> Surrogate:
    """The surrogate of a shape that is given."""
    from scipy.linalg import solve_triangular

    n = len(rows)
    known = kernel(rows, rows, shape, unit).astype(np.float64)
    known[np.diag_indices(n)] += shape.noise + 1e-6
    factor = np.linalg.cholesky(known)
    inverse = solve_triangular(factor, np.eye(n), lower=True, check_finite=False)
    white = inverse @ z
    amplitude = (float(white @ white) + AMPLITUDE_SURE) / (n + AMPLITUDE_SURE)
    halves = float(np.log(np.diag(factor)).sum())
    evidence = -0.5 * (n + AMPLITUDE_SURE) * math.log(amplitude) - halves + _prior(shape)
    weights = (inverse.T @ white).astype(np.float32)
    return Surrogate(rows, z, shape, unit, inverse.astype(np.float32), weights, amplitude, evidence)


def _prior(shape: Shape) -> float:
    """Log of how usual a shape is: lengths of about 1, a noise of about a hundredth."""
    return -0.5 * (math.log(shape.length) ** 2 + (math.log(shape.noise / 1e-2) / 2) ** 2)


def believing(surrogate: Surrogate, flying: Rows) -> Surrogate:
    """As if each trial in flight had come out as expected: nobody asks beside it again."""
    rows = joined(surrogate.rows, flying)
    z = np.concatenate([surrogate.z, surrogate.expects(flying)[0]])
    return given(rows, z, surrogate.unit, surrogate.shape)


def joined(a: Rows, b: Rows) -> Rows:
    return Rows(np.concatenate([a.features, b.features]), np.concatenate([a.task, b.task]))


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """How far above `best` each is expected to come. source: Jones et al., 1998, eq. 15"""
    from scipy.special import ndtr

    z = (mean - best) / deviation
    return deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))

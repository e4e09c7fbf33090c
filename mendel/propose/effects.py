"""What a field's value is worth: a weighted regression over all trials, with intervals.

settings, differences to the champion --design--> columns --fit--> an effect and a p-value each

A column is the share of layers that have a value instead of the usual one; a number of many values
is one column, in doublings. Each champion has a level of its own, so that a field is not blamed for
whom it was measured beside. What cannot be told apart is said to be so, not guessed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.propose.measured import Measured
from mendel.propose.settings import Value, defaults

Floats = NDArray[np.float64]
DOUBLED = "x2"  # the value of a number's column: per doubling
MANY = 5  # positive numbers with more values than this are taken in doublings
COMMON = 0.1  # share of the trials
FEW = 3  # trials that must have a value, and that must not
PER_COLUMN = 3  # trials for each column; rarer values wait for more of them
MOST_COLUMNS = 200
ALIASED = 1e-6  # share of a column that the others leave unexplained, below which it is theirs
CELL = 4  # trials in each of the four cells of an interaction


@dataclass(frozen=True)
class Column:
    """One thing to be estimated: a field at a value, in place of the usual one."""

    field: str
    value: Value
    usual: Value
    x: Floats  # (n,)

    @property
    def n(self) -> int:
        """Trials that have it."""
        return len(self.x) if self.value == DOUBLED else int(np.count_nonzero(self.x))


@dataclass(frozen=True)
class Estimate:
    """mean, 95 % interval, and p after Holm's correction for all that were looked at."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Fit:
    """columns that could be told apart, an estimate each, and pairs of those that could not.

    frame    (n, p) orthonormal, of levels and columns; residual (n,); both weighted
    weights  (n,), roots
    """

    columns: tuple[Column, ...]
    estimates: tuple[Estimate, ...]
    alike: tuple[tuple[Column, Column], ...]
    frame: Floats
    residual: Floats
    weights: Floats

    @property
    def freedom(self) -> int:
        return len(self.residual) - int(self.frame.shape[1])


def columns_of(trials: Sequence[Measured]) -> list[Column]:
    """What the trials vary often enough, the most often varied first."""
    names = sorted({field for trial in trials for field in trial.chosen})
    found = [column for field in names for column in _columns(field, trials)]
    return sorted(found, key=lambda column: (-min(column.n, len(trials) - column.n), column.field))


def _columns(field: str, trials: Sequence[Measured]) -> list[Column]:
    shares = [trial.chosen.get(field, {}) for trial in trials]
    if all(share == shares[0] for share in shares):
        return []
    total: dict[Value, float] = defaultdict(float)
    for share in shares:
        for value, part in share.items():
            total[value] += part
    usual = _usual(field, total, len(trials))
    if len(total) > MANY and all(_is_positive(value) for value in total):
        return [Column(field, DOUBLED, usual, _doublings(shares))]
    found = []
    for value in sorted(set(total) - {usual}, key=str):
        x = np.array([share.get(value, 0.0) for share in shares])
        if FEW <= (x != 0).sum() <= len(trials) - FEW:
            found.append(Column(field, value, usual, x))
    return found


def _usual(field: str, total: Mapping[Value, float], n: int) -> Value:
    """What the others are told against: a default that is common enough, or the commonest."""
    known = defaults().get(field, frozenset()) & total.keys()
    common = {value for value in known if total[value] >= max(FEW, COMMON * n)}
    return max(common or total, key=lambda value: (total[value], str(value)))


def _is_positive(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _doublings(shares: Sequence[dict[Any, float]]) -> Floats:
    """log2 of the layers' mean; a trial that has no such field stands at the middle."""
    x = np.array([_mean_log2(share) if share else math.nan for share in shares])
    return np.where(np.isnan(x), np.nanmedian(x), x)


def _mean_log2(share: dict[Any, float]) -> float:
    return sum(math.log2(v) * part for v, part in share.items()) / sum(share.values())


def fit(trials: Sequence[Measured]) -> Fit:
    """The effect of each column, all others held; none where there are too few trials.

    source   weights as in a random-effects meta-regression (DerSimonian and Laird 1986): a trial's
             own variance is that of its pairs, and one more is what fields do not explain
    """
    y = np.array([trial.gain for trial in trials])
    beside = sorted({trial.beside for trial in trials})
    levels = [np.array([float(trial.beside == one) for trial in trials]) for one in beside]
    columns = columns_of(trials)
    even = _solved(levels, columns, y, np.ones(len(y)))
    weights = _weights(trials, even)
    return _solved(levels, columns, y, weights)


def _weights(trials: Sequence[Measured], even: Fit) -> Floats:
    """(n,), roots; 1 where a trial is known best."""
    known = [(t.spread, t.n_pairs - 1) for t in trials if t.spread is not None]
    freedom = sum(n for _, n in known)
    own = sum(spread * n for spread, n in known) / freedom if freedom else 0.0
    variance = own / np.array([trial.n_pairs for trial in trials])
    free = 1 - np.square(even.frame).sum(1)
    left = float(np.square(even.residual).sum()) - float(free @ variance)
    whole = variance + max(left / max(float(free.sum()), 1e-12), 0.0)
    if not len(trials) or not whole.min() > 0:
        return np.ones(len(trials))
    weights: Floats = np.sqrt(whole.min() / whole)
    return weights


def _solved(levels: Sequence[Floats], columns: Sequence[Column], y: Floats, weights: Floats) -> Fit:
    """Least squares on what can be told apart; levels come first."""
    n = len(y)
    frame: list[Floats] = []
    kept: list[Column] = []
    alike: list[tuple[Column, Column]] = []
    for level in levels:
        _join(frame, level * weights)
    n_levels = len(frame)
    room = min(MOST_COLUMNS, n // PER_COLUMN - n_levels)
    for column in columns:
        if len(kept) >= room:
            break
        if _join(frame, column.x * weights):
            kept.append(column)
        elif kept:
            alike.append((column, max(kept, key=lambda one: _likeness(one, column))))
    Q = np.array(frame).reshape(len(frame), n).T
    X = np.array([column.x * weights for column in kept]).reshape(len(kept), n).T
    residual = y * weights - Q @ (Q.T @ (y * weights))
    estimates = _estimates(X, Q, n_levels, y * weights, residual)
    return Fit(tuple(kept), estimates, tuple(alike), Q, residual, weights)


def _join(frame: list[Floats], x: Floats) -> bool:
    """Add what x has beyond the frame, at length 1; False where that is nothing."""
    left = x
    for _ in range(2):  # twice is enough (Kahan)
        if frame:
            Q = np.array(frame)
            left = left - Q.T @ (Q @ left)
    length = float(np.linalg.norm(left))
    if length <= math.sqrt(ALIASED) * float(np.linalg.norm(x)) or not length:
        return False
    frame.append(left / length)
    return True


def _likeness(a: Column, b: Column) -> float:
    x, y = a.x - a.x.mean(), b.x - b.x.mean()
    return abs(float(x @ y)) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12)


def _estimates(
    X: Floats, Q: Floats, n_levels: int, y: Floats, residual: Floats
) -> tuple[Estimate, ...]:
    """Of the columns X = Q[:, n_levels:] R plus levels; R is triangular."""
    from scipy.linalg import solve_triangular
    from scipy.stats import t as student

    freedom = len(y) - Q.shape[1]
    if X.shape[1] == 0 or freedom < 1:
        return ()
    R = Q[:, n_levels:].T @ X
    inverse = solve_triangular(R, np.eye(len(R)))
    means = inverse @ (Q[:, n_levels:].T @ y)
    variance = float(residual @ residual) / freedom
    errors = np.sqrt(np.square(inverse).sum(1) * variance) + 1e-300
    half = float(student.ppf(0.975, freedom)) * errors
    p = holm(2 * student.sf(np.abs(means) / errors, freedom))
    rows = zip(means, means - half, means + half, p, strict=True)
    return tuple(Estimate(*map(float, row)) for row in rows)


def interactions(found: Fit) -> list[tuple[Column, Column, Estimate, int]]:
    """What two values do together beyond the sum of both; each pair with enough trials.

    returns  the pair, its estimate, with how many trials have both
    """
    from scipy.stats import t as student

    freedom = found.freedom - 1
    pairs = _pairs(found.columns)
    if freedom < 1 or not pairs:
        return []
    told = [_together(found, i, [j for j, _ in others]) for i, others in pairs.items()]
    means, errors = np.concatenate(told, 1)
    half = float(student.ppf(0.975, freedom)) * errors
    p = holm(2 * student.sf(np.abs(means) / errors, freedom))
    names = [(j, i, n) for i, others in pairs.items() for j, n in others]
    rows = zip(names, means, means - half, means + half, p, strict=True)
    return [
        (found.columns[j], found.columns[i], Estimate(*map(float, row)), n)
        for (j, i, n), *row in rows
        if math.isfinite(row[0])
    ]


def _pairs(columns: Sequence[Column]) -> dict[int, list[tuple[int, int]]]:
    """A column -> those before it with which it makes a pair, and how many trials have both."""
    has = [column.x != 0 for column in columns]
    found: dict[int, list[tuple[int, int]]] = {}
    for i, a in enumerate(columns):
        for j, b in enumerate(columns[:i]):
            apart = a.field != b.field and DOUBLED not in (a.value, b.value)
            if apart and _fill(has[i], has[j]):
                found.setdefault(i, []).append((j, int(np.count_nonzero(has[i] & has[j]))))
    return found


def _fill(x: NDArray[np.bool_], y: NDArray[np.bool_]) -> bool:
    """Are there trials enough with both, with one, with the other and with neither?"""
    both, one, other = (int(np.count_nonzero(z)) for z in (x & y, x, y))
    return min(both, one - both, other - both, len(x) - one - other + both) >= CELL


def _together(found: Fit, i: int, others: Sequence[int]) -> Floats:
    """(2, n_others): mean and standard error of a column's products with others, beside all
    columns; NaN where these leave nothing of it (Frisch and Waugh 1933)."""
    x = found.columns[i].x * found.weights
    products = np.array([found.columns[j].x * x for j in others]).T
    left = products - found.frame @ (found.frame.T @ products)
    size = np.square(left).sum(0)
    size[size <= ALIASED * np.square(products).sum(0)] = math.nan
    means = (left.T @ found.residual) / size
    rest = float(found.residual @ found.residual) - means * means * size
    errors = np.sqrt(np.maximum(rest, 0.0) / (found.freedom - 1) / size) + 1e-300
    return np.array((means, errors))


def holm(p: Floats) -> Floats:
    """p-values so corrected that in at most 5 % of histories any that is null falls below 0.05.

    What is not a number was not looked at. source: Holm 1979
    """
    out = np.full(len(p), math.nan)
    real = np.flatnonzero(np.isfinite(p))
    order = real[np.argsort(p[real], kind="stable")]
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, float(p[i]) * (len(order) - rank)))
        out[i] = worst
    return out

"""May a mended model take the place of the one that ships? Asked of candidates beside a control.

    fixed, kept of each -> not worse on old rows, in an order fixed before -> the most errors fixed

What ships is a choice by point estimate behind a gate: it claims nothing. With few errors no test
could show more, so a test of the gain is told and not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # that a model worse by the margin passes


@dataclass(frozen=True)
class Mended:
    """One candidate, measured on rows that it was not trained on.

    fixed   for each error, how right its answer is now, 0 to 1
    kept    the same for each old row
    """

    name: str
    fixed: Sequence[float]
    kept: Sequence[float]


@dataclass(frozen=True)
class Looked:
    """What is known of one candidate, as a report tells it."""

    name: str
    n_fixed: int
    change: float  # of the mean score of old rows, against the control
    low: float  # its lower bound
    passed: bool


@dataclass(frozen=True)
class Repair:
    chosen: str | None  # None = nothing may ship
    reason: str
    n_errors: int
    n_fixed_alone: int  # by the control, which knows no error: training again flips some
    p: float | None  # of a lead over the control as large as the chosen one's, by chance alone
    looked: tuple[Looked, ...]


def repair(control: Mended, candidates: Sequence[Mended], *, margin: float) -> Repair:
    """The candidate that fixes most errors, among those that are not worse on old rows.

    control     the same recipe on the old rows alone
    candidates  the mildest first: each is asked only while those before it have passed, so that
                the chance that any model worse by the margin passes is at most LEVEL
    margin      above 0, in units of the score, named before anything is measured
    returns     chosen None where none passes, or none fixes more than the control

    source   fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995
    """
    looked: list[Looked] = []
    for candidate in candidates:
        gains = np.asarray(candidate.kept, np.float64) - np.asarray(control.kept, np.float64)
        change, low = lower_bound(gains.tolist())
        passed = low > -margin and all(before.passed for before in looked)
        looked.append(Looked(candidate.name, _n_right(candidate.fixed), change, low, passed))
    alone, n = _n_right(control.fixed), len(control.fixed)
    able = [x for x in looked if x.passed]
    if not able:
        reason = _not_shown(looked[0], margin, len(control.kept))
        return Repair(None, reason, n, alone, None, tuple(looked))
    best = max(able, key=lambda x: x.n_fixed)  # of equals the mildest
    if best.n_fixed <= alone:
        reason = f"{best.n_fixed} of {n} errors fixed; {alone} are by training again without them"
        return Repair(None, reason, n, alone, None, tuple(looked))
    chosen = next(candidate for candidate in candidates if candidate.name == best.name)
    p = _by_chance(control.fixed, chosen.fixed)
    reason = (
        f"{best.name} fixes {best.n_fixed} of {n} errors that it was not trained on ({alone} are "
        f"fixed by training again without them; p = {p:.2g}); old rows change by "
        f"{100 * best.change:+.2f} points, at least {100 * best.low:+.2f}, and "
        f"{-100 * margin:+.2f} was allowed"
    )
    return Repair(best.name, reason, n, alone, p, tuple(looked))


def lower_bound(gains: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences in [-1, 1], and its one-sided 95 % lower bound.

    gains    of each row: new score minus old; -1, 0 or 1 where scores are 0 or 1
    returns  the plain mean, and a Wald bound with half a pair more in each cell of the 2 x 2 table,
             so that rows without any difference do not make it certain

    source   Agresti and Min 2005, Simple improved confidence intervals for comparing matched
             proportions
    """
    # imported here: it takes a while, which other verdicts do not need
    from scipy.special import stdtrit

    x = np.asarray(gains, np.float64)
    if not len(x) or not np.isfinite(x).all():
        return math.nan, -math.inf
    n = len(x) + 2
    mean = float(x.sum()) / n
    spread = math.sqrt(max((float((x**2).sum()) + 1) / n - mean**2, 0.0) / n)
    return float(x.mean()), mean - float(stdtrit(n - 1, 1 - LEVEL)) * spread


def _by_chance(control: Sequence[float], chosen: Sequence[float]) -> float:
    """One-sided sign test on the errors that one of the two gets right: told, not asked for."""
    # imported here: it takes a second
    from scipy.stats import binomtest

    pairs = [(a >= 1, b >= 1) for a, b in zip(control, chosen, strict=True)]
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    return float(binomtest(won, won + lost, alternative="greater").pvalue)


def _n_right(scores: Sequence[float]) -> int:
    return sum(score >= 1 for score in scores)


def _not_shown(mildest: Looked, margin: float, n_rows: int) -> str:
    return (
        f"not shown that old rows lose less than {100 * margin:.2f} points: {mildest.name} changes "
        f"them by {100 * mildest.change:+.2f}, and {n_rows:,} rows rule out no more than "
        f"{100 * mildest.low:+.2f}"
    )

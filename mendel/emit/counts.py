"""Scores that are counted: F1 of labels and of spans, and intervals by the bootstrap.

counts are rows of true positives, false positives, false negatives: (n, 3)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
N_RESAMPLES = 1_000


@dataclass(frozen=True)
class Interval:
    """A statistic with what resampling its rows shows: for reports, never for a verdict."""

    value: float
    stderr: float
    low: float
    high: float


def f1(counts: NDArray[Any]) -> float:
    """2 tp / (2 tp + fp + fn); 1 where there was nothing to find and nothing was found."""
    tp, fp, fn = np.asarray(counts, np.float64).reshape(-1, 3).sum(0)
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else 1.0


def f1_each(counts: NDArray[Any]) -> Floats:
    """(n,) The same of each row by itself."""
    tp, fp, fn = np.asarray(counts, np.float64).reshape(-1, 3).T
    n = 2 * tp + fp + fn
    return np.where(n > 0, 2 * tp / np.maximum(n, 1), 1.0)


def f1_of(found: Collection[Hashable], wanted: Collection[Hashable]) -> float:
    """The same of one pair of sets."""
    n = len(found) + len(wanted)
    return 2 * len(set(found) & set(wanted)) / n if n else 1.0


def per_label(
    found: Iterable[tuple[Any, str]], wanted: Iterable[tuple[Any, str]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each label; None where nothing was counted.

    found wanted   (place, label): what is right stands in both
    """
    mine, its = set(found), set(wanted)
    n_found, n_wanted = Counter(x for _, x in mine), Counter(x for _, x in its)
    n_right = Counter(x for _, x in mine & its)
    labels = [*names, *sorted((n_wanted | n_found).keys() - set(names))]
    rows = []
    for label in labels:
        right, given, true = n_right[label], n_found[label], n_wanted[label]
        rows.append(
            {
                "label": label,
                "n": true,
                "precision": right / given if given else None,
                "recall": right / true if true else None,
                "f1": 2 * right / (given + true) if given + true else None,
            }
        )
    return rows


def bootstrap(rows: NDArray[Any], statistic: Callable[[Floats], float]) -> Interval:
    """Percentile interval (95 %) over rows drawn again; the same rows give the same interval.

    source   Efron 1979; with few rows it is too narrow, which is why no verdict rests on it
    """
    value = statistic(rows)
    if len(rows) < 2:
        return Interval(value, 0.0, value, value)
    chance = np.random.default_rng(0)
    draws = [statistic(rows[chance.integers(0, len(rows), len(rows))]) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(np.std(draws)), float(low), float(high))

"""Sets of labels that hold the true one as often as was asked, and the alarm when that may end.

calibration rows -> fit_sets  -> settings (plain JSON) -> sets of the labels of new rows
calibration rows -> fit_drift -> settings (plain JSON) -> Drift, told of each text that is served

numpy only, and nothing of mendel's: the file travels with an emitted project as it is.
source   Sadinle, Lei and Wasserman 2019 (least ambiguous sets, LAC); Vovk 2012 (by class)
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Section = dict[str, Any]
Floats = NDArray[np.float64]

CLASS_ROWS = 200  # a label with so many rows gets a threshold of its own
N_BINS = 10  # of a histogram, at about equal mass
BIN_ROWS = 20  # of the reference in a bin, at least
WINDOW = 500  # texts that are compared at once
FALSE_ALARMS = 0.001  # in PERIOD texts; real ones depend on each other, so a tenth of what we say
PERIOD = 10_000
CHANGED = 0.1  # by custom, a PSI below it is no change
LEAST = 1e-4  # a share of 0 counts as this much in the PSI, which stays finite


def fit_sets(probs: ArrayLike, y: ArrayLike, coverage: float) -> Section:
    """For each label the least probability with which it is in a text's set.

    probs     (n, K) out of fold, calibrated or not; y (n,) label numbers
    coverage  share of new rows whose set must hold their label. Labels with 200 rows or more
              reach it each by itself, the others together (joined by the next larger ones where
              they have not 200 rows between them)
    returns   coverage n least (K,). On average over calibration sets the promise is exact for
              rows like these of one model; of a model trained on all folds it is very nearly so
    raises    ValueError
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage}. Wanted a share above 0 and below 1.")
    p, truth = _checked(probs), np.asarray(y, np.int64)
    if len(truth) != len(p) or (len(truth) and not 0 <= truth.min() <= truth.max() < p.shape[1]):
        raise ValueError(f"{len(truth)} labels for probabilities {p.shape}. Wanted one a row.")
    of_truth = p[np.arange(len(p)), truth]
    least = np.zeros(p.shape[1])
    for group in _groups(np.bincount(truth, minlength=p.shape[1])):
        least[group] = _least(of_truth[np.isin(truth, group)], coverage)
    return {"coverage": coverage, "n": len(p), "least": least.tolist()}


def sets(probs: ArrayLike, settings: Mapping[str, Any]) -> list[list[int]]:
    """For each row of (n, K) the labels that it may have, most probable first, at least one."""
    p, least = _checked(probs), np.asarray(settings["least"])
    if p.shape[1] != len(least):
        raise ValueError(f"{p.shape[1]} labels. Wanted {len(least)}, as the sets were fitted for.")
    order = np.argsort(-p, axis=1, kind="stable")
    inside = p >= least
    inside[np.arange(len(p)), order[:, 0]] = True
    return [[int(k) for k in row if kept[k]] for row, kept in zip(order, inside, strict=True)]


def measure_sets(probs: ArrayLike, y: ArrayLike, settings: Mapping[str, Any]) -> Section:
    """n, n_covered and coverage; mean size; n_single, how many sets hold one label."""
    found = sets(probs, settings)
    sizes = [len(labels) for labels in found]
    truth = np.asarray(y).tolist()
    n_covered = sum(t in labels for t, labels in zip(truth, found, strict=True))
    return {
        "asked": settings["coverage"],
        "n": len(found),
        "n_covered": n_covered,
        "coverage": n_covered / len(found) if found else None,
        "mean_size": sum(sizes) / len(found) if found else None,
        "n_single": sizes.count(1),
    }


def fit_drift(signals: Mapping[str, ArrayLike]) -> Section:
    """What the numbers that a model sees of each text look like when nothing is wrong.

    signals   name -> (n,) finite, of texts that the model was not trained on: how unsure it is,
              the share of n-grams it does not know
    returns   settings of Drift: window, and for each signal edges, shares, n and limit. From
              fewer than 40 values no signal: they are too few to be told from
    raises    ValueError where one is not finite
    """
    if any(len(np.asarray(values)) < 2 * BIN_ROWS for values in signals.values()):
        return {"window": WINDOW, "signals": {}}
    n_tests = PERIOD / WINDOW * len(signals)
    found = {name: _reference(name, values, n_tests) for name, values in signals.items()}
    return {"window": WINDOW, "signals": found}


class Drift:
    """Tells once, in one line, that the texts are no longer like those of the reference.

    Each window of texts is compared with the reference: is the change too large for chance (by
    chi-square) and for custom (by PSI)? A burst of texts of one kind is drift to it, too. One
    object may be used from many threads.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.window: int = settings["window"]
        self.alarmed = False
        self._signals: dict[str, Any] = dict(settings["signals"])
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._n = 0
        self._counts = {name: np.zeros(len(s["shares"])) for name, s in self._signals.items()}

    def update(self, **values: float) -> str | None:
        """One text's signals, by name. The alarm with the text that completes its window."""
        with self._lock:
            for name, signal in self._signals.items():
                self._counts[name][bisect_left(signal["edges"], values[name])] += 1
            self._n += 1
            if self._n < self.window:
                return None
            found = [self._compare(name) for name in self._signals]
            self._clear()
            if self.alarmed or not any(found):
                return None
            self.alarmed = True
        return (
            f"drift: the last {self.window} texts are not like the training texts "
            f"({', '.join(filter(None, found))}). Label some of them and train again."
        )

    def _compare(self, name: str) -> str:
        """What differs, in words; empty where nothing does."""
        signal, counts = self._signals[name], self._counts[name]
        shares = np.asarray(signal["shares"])
        got = counts / self._n
        both = (counts + signal["n"] * shares) / (self._n + signal["n"])
        spread = both * (1 / self._n + 1 / signal["n"])  # variance of got - shares, two samples
        seen = both > 0
        by_chance = ((got - shares)[seen] ** 2 / spread[seen]).sum() <= signal["limit"]
        psi = _psi(got, shares)
        return "" if by_chance or psi < CHANGED else f"{name}: PSI {psi:.2f}"


def _psi(got: Floats, shares: Floats) -> float:
    """Population stability index, 0 where nothing has changed."""
    p, q = np.maximum(got, LEAST), np.maximum(shares, LEAST)
    return float(((p - q) * np.log(p / q)).sum())


def _reference(name: str, values: ArrayLike, n_tests: float) -> Section:
    """Histogram of a signal, and the chi-square that it may reach by chance."""
    from scipy.stats import chi2  # to fit only: what serves has no scipy

    x = np.asarray(values, np.float64)
    n_bins = min(N_BINS, len(x) // BIN_ROWS)
    if not np.isfinite(x).all():
        n_bad = int((~np.isfinite(x)).sum())
        raise ValueError(f"{name}: {n_bad} of {len(x)} values are not finite. Wanted numbers.")
    cuts = np.unique(np.quantile(x, np.arange(1, n_bins) / n_bins, method="lower"))
    edges = cuts[cuts < x.max()] if len(cuts) > 1 or cuts[0] < x.max() else cuts
    shares = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x)
    limit = float(chi2.isf(FALSE_ALARMS / n_tests, len(edges)))
    return {"n": len(x), "edges": edges.tolist(), "shares": shares.tolist(), "limit": limit}


def _groups(sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Labels that share a threshold: each large one alone, the small ones together."""
    order = np.argsort(sizes, kind="stable")
    n_small = int((sizes < CLASS_ROWS).sum())
    if n_small:
        enough = int(np.searchsorted(sizes[order].cumsum(), CLASS_ROWS)) + 1
        n_small = max(n_small, enough)
    return [group for group in (order[:n_small], *order[n_small:, None]) if len(group)]


def _least(of_truth: Floats, coverage: float) -> float:
    """The largest threshold that enough of the true labels' probabilities reach.

    n + 1 and not n: the new row is one of the rows that may come out on either side.
    """
    n = len(of_truth)
    needed = math.ceil((n + 1) * coverage)
    return float(np.sort(of_truth)[n - needed]) if needed <= n else 0.0


def _checked(probs: ArrayLike) -> Floats:
    p = np.asarray(probs, np.float64)
    if p.ndim != 2 or p.shape[1] == 0 or not np.isfinite(p).all():
        raise ValueError(f"probabilities of shape {p.shape}. Wanted (n, K), all of them finite.")
    return p

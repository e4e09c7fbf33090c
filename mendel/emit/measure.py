"""What a report says of predictions: pure functions from arrays to plain JSON.

y (N,) class numbers, probs (N, K) rows that sum to 1, labels the K names. The prediction is the
most probable class (the first of several), its probability the confidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mendel.judge import interval
from mendel.types import InputError

Section = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

N_BINS = 15
N_POINTS = 20  # of the coverage curve
COLDEST, HOTTEST = 0.05, 20.0
LEAST = 1e-12  # a probability of 0 counts as this much in the NLL, which stays finite
MAX_CHARS = 200


def score(y_true: ArrayLike, probs: ArrayLike, labels: Sequence[str]) -> Section:
    """How many are right, with a 95 % Wilson interval, and where.

    returns  n n_correct accuracy low high macro_f1 per_class; None where nothing was counted:
             the precision of a class never predicted, the recall of one that never occurs
             macro_f1 is the mean over the classes that occur or were predicted
    raises   InputError when shapes, class numbers or probabilities are not as above
    """
    y, p = _checked(y_true, probs)
    n, n_correct = len(y), int((p.argmax(axis=1) == y).sum())
    low, high = interval(n_correct, n)
    per_class = _per_class(y, p.argmax(axis=1), labels)
    f1 = [row["f1"] for row in per_class if row["f1"] is not None]
    return {
        "n": n,
        "n_correct": n_correct,
        "accuracy": n_correct / n if n else None,
        "low": low,
        "high": high,
        "macro_f1": float(np.mean(f1)) if f1 else None,
        "per_class": per_class,
    }


def calibration(y: ArrayLike, probs_before: ArrayLike, probs_after: ArrayLike) -> Section:
    """Are 9 in 10 of the answers given at 90 % right, before and after the temperature?

    returns  n n_bins binning, and for before and after:
             ece    mean |accuracy - confidence| over 15 bins of about equal mass, weighted by n;
                    equal confidences share a bin; a small n makes it larger than it is
             nll    mean -log of the true class's probability, nats
             brier  mean squared distance to the one-hot truth, summed over classes: 0 to 2
             bins   n, mean confidence, accuracy; lowest confidence first
    """
    return {
        "n": len(np.asarray(y)),
        "n_bins": N_BINS,
        "binning": "equal mass",
        "before": _calibrated(*_checked(y, probs_before)),
        "after": _calibrated(*_checked(y, probs_after)),
    }


def abstention(y: ArrayLike, probs: ArrayLike, threshold: float) -> Section:
    """What is answered, and how well, when confidences below the threshold are not.

    returns  threshold n n_answered coverage accuracy (of what is answered) low high, and curve:
             at most 20 of threshold, coverage, accuracy, from all answered to 1 in 20
    """
    truth, p = _checked(y, probs)
    right, answered = p.argmax(axis=1) == truth, p.max(axis=1) >= threshold
    n, n_answered, n_correct = len(truth), int(answered.sum()), int(right[answered].sum())
    low, high = interval(n_correct, n_answered)
    return {
        "threshold": float(threshold),
        "n": n,
        "n_answered": n_answered,
        "coverage": n_answered / n if n else None,
        "accuracy": n_correct / n_answered if n_answered else None,
        "low": low,
        "high": high,
        "curve": _curve(right, p.max(axis=1)),
    }


def fit_temperature(logits: ArrayLike, y: ArrayLike) -> float:
    """The T in [0.05, 20] for which softmax(logits / T) has the least NLL.

    logits   (N, K) finite, of rows that the model was not trained on
    returns  1 where T makes no difference; 0.05 is what data without errors ask for
    source   Guo 2017; the NLL is convex in 1/T, so unimodal in log T
    """
    truth, z = _checked(y, logits)
    if len(truth) == 0:
        return 1.0
    rows = np.arange(len(truth))

    def nll(log_t: float) -> float:
        return -float(log_softmax(z * np.exp(-log_t), axis=1)[rows, truth].mean())

    ends = [float(np.log(COLDEST)), float(np.log(HOTTEST))]
    found = float(minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": 1e-6}).x)
    best = min([0.0, *ends, found], key=nll)  # the first of equals: 0, which is T = 1
    return float(np.clip(np.exp(best), COLDEST, HOTTEST))


def confusions(
    y: ArrayLike, predicted: ArrayLike, labels: Sequence[str], texts: Sequence[str], most: int = 10
) -> list[Section]:
    """Which class is taken for which, most frequent first.

    returns  true predicted count share (of the rows of the true class) example (cut to 200)
    """
    truth = np.asarray(y, dtype=np.int64)
    pairs = list(zip(truth.tolist(), np.asarray(predicted, dtype=np.int64).tolist(), strict=True))
    n_true = Counter(truth.tolist())
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [
        {
            "true": str(labels[t]),
            "predicted": str(labels[g]),
            "count": count,
            "share": count / n_true[t],
            "example": texts[pairs.index((t, g))][:MAX_CHARS],
        }
        for (t, g), count in ranked
    ]


def worst(
    y: ArrayLike, probs: ArrayLike, labels: Sequence[str], texts: Sequence[str], most: int = 10
) -> list[Section]:
    """The most confident errors: text (cut to 200), true, predicted, probability."""
    truth, p = _checked(y, probs)
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    ranked = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        {
            "text": texts[i][:MAX_CHARS],
            "true": str(labels[truth[i]]),
            "predicted": str(labels[predicted[i]]),
            "probability": float(confidence[i]),
        }
        for i in ranked.tolist()
    ]


def _checked(y: ArrayLike, probs: ArrayLike) -> tuple[Ints, Floats]:
    truth, p = np.asarray(y), np.asarray(probs, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] == 0 or truth.shape != p.shape[:1]:
        raise InputError(
            f"labels and probabilities do not fit. Got shapes {truth.shape} and {p.shape}. "
            "Wanted (N,) and (N, K). Give one row for each label."
        )
    if not np.isfinite(p).all():
        raise InputError(
            f"{(~np.isfinite(p)).any(axis=1).sum()} of {len(p)} rows have a number that is not "
            "finite. Wanted finite numbers. Count such a model as failed."
        )
    if len(truth) and not (truth.min() >= 0 and truth.max() < p.shape[1]):
        raise InputError(
            f"class numbers run from {truth.min()} to {truth.max()}. "
            f"Wanted 0 to {p.shape[1] - 1}. Number the classes in the order of the columns."
        )
    return truth.astype(np.int64), p


def _per_class(y: Ints, predicted: Ints, labels: Sequence[str]) -> list[Section]:
    # imported here: it takes seconds, which workers of a run do not need
    from sklearn.metrics import precision_recall_fscore_support

    every = np.arange(len(labels))
    if len(y) == 0:
        columns = np.full((4, len(labels)), np.nan)
    else:
        columns = np.array(
            precision_recall_fscore_support(y, predicted, labels=every, zero_division=np.nan)
        )
    precision, recall, f1 = ([None if np.isnan(x) else float(x) for x in c] for c in columns[:3])
    n = np.bincount(y, minlength=len(labels)).tolist()
    keys = ("label", "n", "precision", "recall", "f1")
    rows = zip(map(str, labels), n, precision, recall, f1, strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _calibrated(y: Ints, p: Floats) -> Section:
    n = len(y)
    if n == 0:
        return {"ece": None, "nll": None, "brier": None, "bins": []}
    right, confidence = p.argmax(axis=1) == y, p.max(axis=1)
    bin = np.searchsorted(np.sort(confidence), confidence) * N_BINS // n  # by rank of the first tie
    bins = [
        {
            "n": int((bin == b).sum()),
            "confidence": float(confidence[bin == b].mean()),
            "accuracy": float(right[bin == b].mean()),
        }
        for b in np.unique(bin)
    ]
    true_p = p[np.arange(n), y]
    return {
        "ece": sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / n,
        "nll": float(-np.log(np.maximum(true_p, LEAST)).mean()),
        "brier": float(((p**2).sum(axis=1) - 2 * true_p + 1).mean()),
        "bins": bins,
    }


def _levels(right: Bools, confidence: Floats) -> tuple[Floats, Floats, Floats]:
    """Each confidence that occurs, highest first; coverage and accuracy with it as threshold."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of the rows that tie
    n_answered = last + 1
    return ranked[last], n_answered / len(ranked), np.cumsum(right[order])[last] / n_answered


def _curve(right: Bools, confidence: Floats) -> list[Section]:
    if len(right) == 0:
        return []
    levels = _levels(right, confidence)
    grid = np.arange(1, N_POINTS + 1) / N_POINTS
    chosen = np.unique(np.searchsorted(levels[1], grid))[::-1]
    keys = ("threshold", "coverage", "accuracy")
    return [dict(zip(keys, (float(x[i]) for x in levels), strict=True)) for i in chosen]

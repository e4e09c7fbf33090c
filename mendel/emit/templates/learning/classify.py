"""How this model learns: one label a text. Used by train.py alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from conformal import fit_drift, fit_sets
from numpy.typing import NDArray
from textmodel import export
from textmodel.fit import Examples, Trained, fit
from textmodel.store import unpack

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

COLUMN = "label"  # where targets stand
COVERAGE = 0.95  # of the sets of labels, on the rows held out
Row = tuple[str, str]


def target_of(cell: object) -> str | None:
    """The label; None where there is none."""
    return str(cell).strip() or None if cell is not None else None


def fault(targets: Sequence[str]) -> str | None:
    return None if len(set(targets)) > 1 else "has rows of fewer than two labels."


def stratum(target: str) -> str:
    return target


def names_of(targets: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(targets)))


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    """With the class of texts that have no label: such rows are in none of your files."""
    return Examples([text for text, _ in rows], _numbers(rows, names), [*names, "(outside)"])


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {
        "outside_above": 1.0,
        "sets": {"coverage": COVERAGE, "n": 0, "least": [0.0] * len(names)},
    }


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings fitted on the rows, and the facts for the card."""
    model = export.dequantised(trained) if int8 else trained
    logits = export.training_logits(model, [text for text, _ in rows])
    labels = _numbers(rows, names)
    known, outside = logits[:, :-1].astype(np.float64), _outside(logits)
    right = known.argmax(1) == labels
    n_right, temperature = int(right.sum()), best_temperature(known, labels)
    facts = {
        "accuracy": n_right / len(rows),
        "95 % interval": list(_wilson(n_right, len(rows))),
    }
    new = np.array([trained.featurizer.unseen(text) for text, _ in rows])
    settings = {
        "temperature": temperature,
        "outside_above": float(np.quantile(outside[right], 0.99)) if n_right else 1.0,
        "sets": fit_sets(_softmax(known / temperature), labels, COVERAGE),
        "drift": fit_drift({"score": outside, "unseen": new}),
    }
    return settings, facts


def _outside(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(1 - _softmax(logits.astype(np.float64))[:, :-1].max(1))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def best_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Of 200 between 0.05 and 20, the one under which the labels are most likely."""

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        own = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(1)) - own).mean())

    return min((float(t) for t in np.geomspace(0.05, 20, 200)), key=loss)


def _numbers(rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[label] for _, label in rows], np.int64)


def _wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, Wilson 1927."""
    z = 1.959964
    middle = (k + z * z / 2) / (n + z * z)
    half = z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return max(middle - half, 0.0), min(middle + half, 1.0)

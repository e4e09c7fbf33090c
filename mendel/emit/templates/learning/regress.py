"""How this model learns: a number a text. Used by train.py alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textmodel import export
from textmodel.fit import Examples, Trained, fit
from textmodel.store import unpack

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

COLUMN = "value"  # where targets stand
COVERAGE = 0.95  # of the interval, on the rows held out
Row = tuple[str, float]


def target_of(cell: object) -> float | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    number = float(cell)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"{cell!r} is no finite number")
    return number


def fault(targets: Sequence[float]) -> str | None:
    return None if len(set(targets)) > 1 else "has no two numbers that differ."


def stratum(target: float) -> str:
    return ""


def names_of(targets: Sequence[float]) -> tuple[str, ...]:
    return ()


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    numbers = np.array([number for _, number in rows], np.float32)[:, None]
    texts = [text for text, _ in rows]
    return Examples(texts, np.zeros(len(rows), np.int64), ["value"], "regress", numbers)


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings fitted on the rows, and the facts for the card."""
    model = export.dequantised(trained) if int8 else trained
    said = export.training_logits(model, [text for text, _ in rows])[:, 0]
    true = np.array([number for _, number in rows])
    misses: NDArray[np.float64] = np.sort(np.abs(said - true))
    half = float(misses[min(math.ceil((len(misses) + 1) * COVERAGE), len(misses)) - 1])
    spread = float(((true - true.mean()) ** 2).sum())
    r2 = 1 - float(((said - true) ** 2).sum()) / spread if spread else 0.0
    return {"half_width": half, "coverage": COVERAGE}, {"R2": r2, "mean miss": float(misses.mean())}

"""How this model learns: any number of labels a text. Used by train.py alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textmodel import export
from textmodel.fit import Examples, Trained, fit
from textmodel.store import unpack

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

COLUMN = "labels"  # where targets stand
Row = tuple[str, list[str]]


def target_of(cell: object) -> list[str] | None:
    """A list; a string is JSON, or labels with | or ; between them."""
    if cell is None:
        return None
    if isinstance(cell, str):
        text = cell.strip()
        cell = json.loads(text) if text.startswith("[") else re.split(r"[|;]", text)
    if not isinstance(cell, list):
        raise ValueError(f"{cell!r} is no list of labels")
    return sorted({str(label).strip() for label in cell} - {""})


def fault(targets: Sequence[Sequence[str]]) -> str | None:
    n = len({label for labels in targets for label in labels})
    return None if n else "has rows without any label."


def stratum(target: Sequence[str]) -> str:
    return target[0] if target else ""


def names_of(targets: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({label for labels in targets for label in labels}))


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    texts, truth = [text for text, _ in rows], _table(rows, names).astype(np.float32)
    return Examples(texts, np.zeros(len(rows), np.int64), names, "multilabel", truth)


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {"cuts": [0.0] * len(names)}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings fitted on the rows, and the facts for the card."""
    model = export.dequantised(trained) if int8 else trained
    logits = export.training_logits(model, [text for text, _ in rows])
    truth = _table(rows, names)
    cut = max((float(c) for c in np.linspace(-3, 3, 61)), key=lambda c: _f1(logits > c, truth))
    facts = {"micro F1, at one cut chosen on these rows": _f1(logits > cut, truth)}
    return {"cuts": [cut] * len(names)}, facts


def _f1(given: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    n = int(given.sum() + truth.sum())
    return 2 * int((given & truth).sum()) / n if n else 1.0


def _table(rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[name in labels for name in names] for _, labels in rows], bool)

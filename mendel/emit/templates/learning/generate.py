"""How this model learns: texts, by the part's own network and Adam. Used by train.py alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from writermodel import export
from writermodel.features import symbols
from writermodel.fit import Examples, Trained, fit
from writermodel.store import unpack

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

COLUMN = "text"  # nothing but the texts is wanted
Row = tuple[str, str]


def target_of(cell: object) -> str | None:
    return str(cell) if cell else None


def fault(targets: Sequence[str]) -> str | None:
    return None if len(targets) > 1 else "has fewer than two texts."


def stratum(target: str) -> str:
    return ""


def names_of(targets: Sequence[str]) -> tuple[str, ...]:
    return ()


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    return Examples([text for text, _ in rows])


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nothing is fitted; the facts for the card."""
    model = export.dequantised(trained) if int8 else trained
    bits = np.concatenate(export.training_bits(model, [text for text, _ in rows]))
    each = float(bits.sum() / sum(len(symbols(text)) + 1 for text, _ in rows))
    return {}, {"bits per byte": each, "share of bits saved": 1 - each / 8}

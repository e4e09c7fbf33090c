"""What this model answers: a number for each text, with an interval."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textmodel.features import Featurizer

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: value, and low and high of the interval around it",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text.

    value      the number
    low high   an interval that held for the stated share of the rows held out in training
    """

    value: float
    low: float
    high: float

    def agrees(self, other: Answer) -> bool:
        """Does the other number lie in the interval of this one?"""
        return self.low <= other.value <= self.high

    def short(self) -> str:
        return f"{self.value:.4g}"

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}


class Decoder:
    """Outputs to answers. Raises KeyError or ValueError where agent.json is not of this kind."""

    hidden, unit = "", "the number's own"  # what stands for a word that is hidden; of the evidence

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        self.half_width = float(agent["settings"]["half_width"])
        self.n_outputs = 1
        if not 0 <= self.half_width < float("inf"):
            raise ValueError(f"half_width={self.half_width}. Wanted a finite number, 0 or more.")

    def __call__(self, texts: Sequence[str], outputs: NDArray[np.float32]) -> list[Answer]:
        half = self.half_width
        return [Answer(v, v - half, v + half) for v in outputs[:, 0].astype(np.float64).tolist()]

    def evidence(
        self, texts: Sequence[str], outputs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[str, list[float]]]:
        """The number that each text is given."""
        return [("value", np.stack(outputs)[:, 0].astype(np.float64).tolist())]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This kind has none."""


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body: this kind has none."""
    return {}

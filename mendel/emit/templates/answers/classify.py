"""What this model answers: one label for each text, or none where it is not sure enough."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textmodel.features import Featurizer

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

MAX_TOP = 100
SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: label (null when it abstains), probability of the best label, top",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text.

    label         the best label; None when its probability is below the threshold
    probability   of the best label, calibrated
    top           the best labels with their probabilities, best first
    """

    label: str | None
    probability: float
    top: list[tuple[str, float]]

    def to_dict(self) -> dict[str, Any]:
        top = [{"label": label, "probability": round(p, 6)} for label, p in self.top]
        return {"label": self.label, "probability": round(self.probability, 6), "top": top}


class Decoder:
    """Logits to answers. Raises KeyError or ValueError where agent.json is not of this kind."""

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        self.labels: list[str] = list(agent["labels"])
        self.temperature = float(agent["settings"]["temperature"])
        self.threshold = float(agent["settings"]["threshold"])
        self.n_outputs = len(self.labels)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}. Wanted a finite number above 0.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}. Wanted a probability, 0 = never.")

    def __call__(
        self,
        texts: Sequence[str],
        logits: NDArray[np.float32],
        *,
        top: int = 3,
        abstain: bool = True,
    ) -> list[Answer]:
        """With abstain=False, the label is never None."""
        threshold = self.threshold if abstain else 0.0
        shares = self.probabilities(logits)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top].tolist()
        answers = []
        for best, row in zip(order, shares.tolist(), strict=True):
            found = [(self.labels[i], row[i]) for i in best]
            label, share = found[0]
            answers.append(Answer(None if share < threshold else label, share, found))
        return answers

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, K), each row sums to 1."""
        scaled = logits.astype(np.float64) / self.temperature
        shares = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top", type=_positive, default=3, help="labels listed (3)")
    parser.add_argument("--no-abstain", action="store_true", help="always name the best label")


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {"top": args.top, "abstain": not args.no_abstain}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body; raises ValueError where one is not as wanted."""
    top, abstain = given.get("top", 3), given.get("abstain", True)
    if type(top) is not int or not 1 <= top <= MAX_TOP:
        raise ValueError(f"top: wanted a whole number, 1 to {MAX_TOP}")
    if type(abstain) is not bool:
        raise ValueError("abstain: wanted true or false")
    return {"top": top, "abstain": abstain}


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError
    return number

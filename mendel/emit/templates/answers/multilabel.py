"""What this model answers: any number of labels for each text."""

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
    "output": "for each string: labels above their thresholds, and the probability of every label",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text.

    labels          those whose logit is above their cut, most certain first; there may be none
    probabilities   of every label, by a sigmoid that is 0.5 at its cut; not calibrated otherwise
    """

    labels: list[str]
    probabilities: dict[str, float]

    def agrees(self, other: Answer) -> bool:
        """Are the labels the same?"""
        return set(self.labels) == set(other.labels)

    def short(self) -> str:
        return ", ".join(sorted(self.labels)) or "no label"

    def to_dict(self) -> dict[str, Any]:
        shares = {label: round(p, 6) for label, p in self.probabilities.items()}
        return {"labels": self.labels, "probabilities": shares}


class Decoder:
    """Logits to answers. Raises KeyError or ValueError where agent.json is not of this kind."""

    hidden, unit = "", "log-odds"  # what stands for a word that is hidden; of the evidence

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        self.labels: list[str] = list(agent["labels"])
        self.cuts = np.array(agent["settings"]["cuts"], np.float64)
        self.n_outputs = len(self.labels)
        if self.cuts.shape != (self.n_outputs,) or not np.isfinite(self.cuts).all():
            raise ValueError(f"cuts: {self.cuts.shape}. Wanted a finite one for each label.")

    def __call__(self, texts: Sequence[str], logits: NDArray[np.float32]) -> list[Answer]:
        above = logits.astype(np.float64) - self.cuts
        shares = 1 / (1 + np.exp(-np.clip(above, -60, 60)))
        answers = []
        for row, margins in zip(shares.tolist(), above, strict=True):
            order = [k for k in np.argsort(-margins, kind="stable").tolist() if margins[k] > 0]
            given = [self.labels[k] for k in order]
            answers.append(Answer(given, dict(zip(self.labels, row, strict=True))))
        return answers

    def evidence(
        self, texts: Sequence[str], outputs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[str, list[float]]]:
        """Each label that the first text is given, or else the nearest, with its log-odds."""
        above = np.stack(outputs).astype(np.float64) - self.cuts
        given = np.flatnonzero(above[0] > 0).tolist() or [int(above[0].argmax())]
        return [(self.labels[k], above[:, k].tolist()) for k in given]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This kind has none."""


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body: this kind has none."""
    return {}

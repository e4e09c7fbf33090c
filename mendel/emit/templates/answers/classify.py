"""What this model answers: one label for each text, or none where it is not sure enough."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from conformal import Drift, sets
from numpy.typing import NDArray
from textmodel.features import Featurizer

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

LOG = logging.getLogger("model")
MAX_TOP = 100
SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: label (null: none of them), probability, outside, top, set",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text.

    label         the best label; None where the text is too far outside what was learnt
    probability   of the best label, calibrated; that is, if the text has one of the labels
    outside       how far outside, 0 to 1: above the threshold the label is None
    top           the best labels with their probabilities, best first
    set           the labels that it may have; holds the true one as often as agent.json says
    """

    label: str | None
    probability: float
    outside: float
    top: list[tuple[str, float]]
    set: list[str]

    def agrees(self, other: Answer) -> bool:
        """Is the label the same?"""
        return self.label == other.label

    def short(self) -> str:
        return "no label" if self.label is None else self.label

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "probability": round(self.probability, 6),
            "outside": round(self.outside, 6),
            "top": [{"label": label, "probability": round(p, 6)} for label, p in self.top],
            "set": self.set,
        }


class Decoder:
    """Logits to answers. Raises KeyError or ValueError where agent.json is not of this kind."""

    hidden, unit = "", "log-odds"  # what stands for a word that is hidden; of the evidence

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        settings = agent["settings"]
        self.labels: list[str] = list(agent["labels"])
        self.temperature = float(settings["temperature"])
        self.outside_above = float(settings["outside_above"])
        self.n_outputs = len(self.labels) + 1  # the last one: no label
        self._sets, self._features = settings["sets"], features
        self._drift = Drift(settings["drift"])
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}. Wanted a finite number above 0.")
        if not 0 <= self.outside_above <= 1:
            raise ValueError(f"outside_above={self.outside_above}. Wanted 0 to 1, 1 = never.")
        if len(self._sets["least"]) != len(self.labels):
            raise ValueError("sets: wanted a number for each of the labels.")

    def __call__(
        self,
        texts: Sequence[str],
        logits: NDArray[np.float32],
        *,
        top: int = 3,
        abstain: bool = True,
    ) -> list[Answer]:
        """With abstain=False, the label is never None."""
        shares, far = self.probabilities(logits), self.outside(logits).tolist()
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top].tolist()
        possible = sets(shares, self._sets)
        answers = []
        for i, (best, row) in enumerate(zip(order, shares.tolist(), strict=True)):
            found = [(self.labels[k], row[k]) for k in best]
            label, share = found[0]
            said = None if abstain and far[i] > self.outside_above else label
            names = [self.labels[k] for k in possible[i]]
            answers.append(Answer(said, share, far[i], found, names))
        self._watch(texts, far)
        return answers

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, K), each row sums to 1: of the labels, given that the text has one."""
        return _softmax(logits[:, :-1].astype(np.float64) / self.temperature)

    def outside(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B,) 1 - the share of the best label, with "no label" among the choices."""
        return np.asarray(1 - _softmax(logits.astype(np.float64))[:, :-1].max(1))

    def evidence(
        self, texts: Sequence[str], outputs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[str, list[float]]]:
        """The best label of the first text, and its log-odds among the labels in every text."""
        scores = np.stack(outputs)[:, :-1].astype(np.float64) / self.temperature
        best = int(scores[0].argmax())
        others = np.logaddexp.reduce(np.delete(scores, best, axis=1), axis=1)
        return [(self.labels[best], (scores[:, best] - others).tolist())]

    def _watch(self, texts: Sequence[str], far: Sequence[float]) -> None:
        """One line in the log, once, when texts are no longer like those of training."""
        if self._drift.alarmed:
            return
        for text, score in zip(texts, far, strict=True):
            alarm = self._drift.update(score=score, unseen=self._features.unseen(text))
            if alarm:
                LOG.warning(alarm)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(scores - scores.max(1, keepdims=True))
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

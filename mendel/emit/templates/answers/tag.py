"""What this model answers: spans of each text, each with a label."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from conformal import Drift
from numpy.typing import NDArray
from tagmodel.chain import Chain, decode
from tagmodel.features import Featurizer as Words
from tagmodel.spans import spans_of

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

LOG = logging.getLogger("model")
SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: spans with start, end (in characters, excluded), label and text",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text: spans (start, end, label) in order, none over another."""

    text: str
    spans: list[tuple[int, int, str]]

    def to_dict(self) -> dict[str, Any]:
        found = [
            {"start": start, "end": end, "label": label, "text": self.text[start:end]}
            for start, end, label in self.spans
        ]
        return {"spans": found}


class Featurizer(Words):
    """Takes whole texts, and knows the chain, which lies in the same file."""

    chain: Chain

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Featurizer:
        found = super().load(file)
        assert isinstance(found, cls)
        found.chain = Chain.load(file)
        return found

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:  # type: ignore[override]
        return super().arrays([self.split(text)[1] or [""] for text in texts])


class Decoder:
    """Scores of words to spans. Raises KeyError where agent.json is not of this kind."""

    def __init__(self, agent: Mapping[str, Any], features: Words) -> None:
        self.labels: list[str] = list(agent["labels"])
        self.n_outputs = 1 + 2 * len(self.labels)
        self._features = features
        self._drift = Drift(agent["settings"]["drift"])

    def __call__(self, texts: Sequence[str], emissions: NDArray[np.float32]) -> list[Answer]:
        assert isinstance(self._features, Featurizer)
        tokens = [self._features.split(text)[0] for text in texts]
        tags = decode(emissions, [len(found) for found in tokens], self._features.chain)
        pairs = zip(texts, tokens, tags, strict=True)
        answers = [
            Answer(x, [tuple(s) for s in spans_of(t, best, self.labels)]) for x, t, best in pairs
        ]
        self._watch(answers)
        return answers

    def _watch(self, answers: Sequence[Answer]) -> None:
        """One line in the log, once, when texts are no longer like those of training."""
        if self._drift.alarmed:
            return
        for answer in answers:
            unseen = self._features.unseen(answer.text)
            alarm = self._drift.update(spans=len(answer.spans), unseen=unseen)
            if alarm:
                LOG.warning(alarm)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This kind has none."""


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body: this kind has none."""
    return {}

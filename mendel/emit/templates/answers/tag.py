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

    def agrees(self, other: Answer) -> bool:
        """Are the labels of the spans the same, in order? Where they stand may differ."""
        return [label for _, _, label in self.spans] == [label for _, _, label in other.spans]

    def short(self) -> str:
        found = [f"{label} {self.text[start:end]!r}" for start, end, label in self.spans]
        return ", ".join(found) or "no span"

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

    hidden = " \u25a1 "  # stands for a word that is hidden, so that the others keep their places
    unit = "log-odds of the tag, mean of the span's words; steps between tags are left out"

    def __init__(self, agent: Mapping[str, Any], features: Words) -> None:
        self.labels: list[str] = list(agent["labels"])
        self.n_outputs = 1 + 2 * len(self.labels)
        self._features = features
        never = {"window": 500, "signals": {}}  # taggers of before had no alarm
        self._drift = Drift(agent["settings"].get("drift", never))

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

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """What is hidden at a time, to see what decided."""
        return [(token.start, token.end) for token in self._features.split(text)[0]]

    def evidence(
        self, texts: Sequence[str], outputs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[str, list[float]]]:
        """Each span of the first text, and the log-odds of its tags in every text."""
        assert isinstance(self._features, Featurizer)
        tokens = self._features.split(texts[0])[0]
        n, scores = len(tokens), np.asarray(outputs[0], np.float64)[None]
        # where hiding a word changes how a text is cut, nothing is said of that word
        cut = [len(self._features.split(text)[0]) == n for text in texts]
        rows = [np.asarray(o[:n] if ok else outputs[0][:n], np.float64)
                for o, ok in zip(outputs, cut, strict=True)]  # fmt: skip
        [tags] = decode(scores[:, :n].astype(np.float32), [n], self._features.chain)
        found = []
        for start, end, label in map(tuple, spans_of(tokens, tags, self.labels)):
            at = [i for i, token in enumerate(tokens) if start <= token.start < end]
            strength = [float(np.mean([_odds(row[i], tags[i]) for i in at])) for row in rows]
            found.append((f"{label} {texts[0][start:end]!r}", strength))
        return found


def _odds(scores: NDArray[np.float64], tag: int) -> float:
    return float(scores[tag] - np.logaddexp.reduce(np.delete(scores, tag)))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This kind has none."""


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body: this kind has none."""
    return {}

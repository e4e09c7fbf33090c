"""What this model answers: passages of its documents, best first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from searchmodel.features import Featurizer
from searchmodel.passages import Passage

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: passages with file, lines, text and score, best first; maybe none",
}
TOP, MOST = 3, 100  # passages of an answer, unless more are asked for


@dataclass(frozen=True)
class Answer:
    """The answer for one query: numbers of passages with their scores, best first."""

    found: list[tuple[int, Passage, float]]

    def to_dict(self) -> dict[str, Any]:
        passages = [
            {
                "passage": i,
                "file": p.file,
                "lines": [p.first, p.last],
                "characters": [p.start, p.end],
                "score": round(score, 6),
                "text": p.text,
            }
            for i, p, score in self.found
        ]
        return {"passages": passages}


class Decoder:
    """Scores to passages. Raises KeyError or ValueError where agent.json is not of this kind."""

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        self.share = float(agent["settings"]["bm25_share"])
        if not 0 <= self.share <= 1:
            raise ValueError(f"bm25_share: {self.share}. Wanted 0 to 1.")
        self.passages = features.passages
        self.n_outputs = len(self.passages)

    def __call__(
        self, texts: Sequence[str], scores: NDArray[np.float32], top: int = TOP
    ) -> list[Answer]:
        """Only what shares something with the query is given: a score above 0."""
        both = scores.astype(np.float64)
        mixed = self.share * both[:, 0] + (1 - self.share) * both[:, -1]
        answers = []
        for row in mixed:
            best = np.argsort(-row, kind="stable")[:top].tolist()
            found = [(i, self.passages[i], float(row[i])) for i in best if row[i] > 0]
            answers.append(Answer(found))
        return answers


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top", type=_count, default=TOP, help=f"passages a query ({TOP})")


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {"top": args.top}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body; ValueError where they are not as wanted."""
    top = given.get("top", TOP)
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= MOST:
        raise ValueError(f"top: {top!r}. Wanted a whole number from 1 to {MOST}.")
    return {"top": top}


def _count(value: str) -> int:
    number = int(value)
    if not 1 <= number <= MOST:
        raise ValueError
    return number

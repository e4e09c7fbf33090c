"""Passages that answer a query, best first. The metric is MRR@10: 1 / rank of the first right one.

A score is w * BM25 + (1 - w) * cosine; w is fitted out of fold, and may come out as 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.data.splits import joined
from mendel.emit.counts import bootstrap
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.search import SearchMaker
from mendel.parts.search.fit import Examples
from mendel.spec import TaskSpec
from mendel.train.folds import Kept, Ran, Rows

DEPTH = 10  # passages of an answer that are looked at
SHARES = np.linspace(0, 1, 11)  # of BM25 in a score
SHOWN = 20  # misses in the report


class Retrieve(Kind):
    name = "retrieve"
    answers = "passages of the documents, each with its file and lines"
    metric = "MRR@10"
    baselines: ClassVar[Mapping[str, str]] = {
        "BM25": "bm25",
        "TF-IDF cosine": "tfidf",
        "passages asked for most": "usual passages",
    }
    builder = SearchMaker()

    def names(self, targets: Sequence[Sequence[int]]) -> tuple[str, ...]:
        return ()  # passages have places, not names

    def strata(self, targets: Sequence[Sequence[int]]) -> list[str]:
        return [""] * len(targets)

    def bound(
        self, groups: NDArray[np.int64], targets: Sequence[Sequence[int]]
    ) -> NDArray[np.int64]:
        """Queries that one passage answers stay together, so that none is known to training."""
        return joined(groups, targets)

    def examples(self, rows: Rows) -> Examples:
        return Examples(rows.texts, rows.targets, rows.inputs.passages)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        """Of each query, 1 / rank of the first right passage for each share of BM25: (n, 11)."""
        found = np.zeros((len(rows.texts), len(SHARES)), np.float32)
        for row, scores, target in zip(found, ran.outputs, rows.targets, strict=True):
            row[:] = _reciprocal_ranks(scores, np.asarray(target, np.int64))
        return found

    def score(self, kept: Kept, rows: Rows) -> float:
        return float(_crossed(kept).mean())

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return float(_crossed(kept).std() / np.sqrt(len(kept)))

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        means, best = kept.mean(0).astype(float), _best(kept)
        share = round(float(SHARES[best]), 2)
        facts = {
            "bm25_share": share,
            "n": len(kept),
            "score": means[best],
            "bm25_alone": means[-1],
            "vectors_alone": means[0] if means.min() < means.max() else None,
        }
        return Fitted({"bm25_share": share}, facts)

    def row_score(self, answer: Mapping[str, Any], target: Sequence[int]) -> float:
        right = set(target)
        found = (i for i, p in enumerate(answer["passages"][:DEPTH], 1) if p["passage"] in right)
        return 1 / next(found, np.inf)

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Sequence[int]]
    ) -> tuple[float, float, float]:
        ranks = [self.row_score(a, t) for a, t in zip(answers, targets, strict=True)]
        found = bootstrap(np.array(ranks), lambda rows: float(np.mean(rows)) if len(rows) else 0.0)
        return found.value, found.low, found.high

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Sequence[int]],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        score, low, high = self.total(answers, targets)
        ranks = np.array([self.row_score(a, t) for a, t in zip(answers, targets, strict=True)])
        triples = zip(ranks, texts, answers, strict=True)
        misses = [
            {"text": text[:200], "first": _first(answer)} for r, text, answer in triples if r == 0
        ]
        return {
            "n": len(targets),
            "score": score,
            "low": low,
            "high": high,
            "recall": {str(k): float(np.mean(ranks >= 1 / k)) for k in (1, 5, DEPTH)},
            "n_missed": len(misses),
            "missed": misses[:SHOWN],
        }

    def predict_flags(self, names: Sequence[str]) -> list[str]:
        return ["--top", str(DEPTH)]


def _reciprocal_ranks(scores: NDArray[np.float32], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each share of BM25; scores are (S, P), and only those above 0 are answers."""
    cosine = scores[-1] if len(scores) > 1 else scores[0]
    mixed = SHARES[:, None] * scores[0] + (1 - SHARES[:, None]) * cosine
    of_right = mixed[:, right]
    best = of_right.argmax(1)
    score, place = of_right.max(1, keepdims=True), right[best][:, None]
    before = (mixed > score) | ((mixed == score) & (np.arange(mixed.shape[1]) < place))
    rank = 1 + before.sum(1)
    return np.where((score[:, 0] > 0) & (rank <= DEPTH), 1 / rank, 0.0)


def _crossed(kept: Kept) -> Kept:
    """(n,) of each half at the share that is best on the other: choosing it flatters nobody."""
    if len(kept) < 2:
        return kept[:, -1]
    found = np.empty(len(kept), np.float32)
    for mine, other in ((0, 1), (1, 0)):
        found[mine::2] = kept[mine::2, _best(kept[other::2])]
    return found


def _best(kept: Kept) -> int:
    """The share of BM25 with the highest mean; of equal ones the largest."""
    means = kept.mean(0)
    return int(np.flatnonzero(means == means.max())[-1])


def _first(answer: Mapping[str, Any]) -> str | None:
    found = answer["passages"][:1]
    return f"{found[0]['file']}, line {found[0]['lines'][0]}" if found else None

"""Any number of labels a text, none included. The metric is micro F1: over all labels at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.emit.counts import bootstrap, f1, f1_each, f1_of, per_label
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.text import TextMaker
from mendel.parts.text.fit import Examples
from mendel.spec import TaskSpec
from mendel.train.folds import Kept, Ran, Rows

MIN_TRUE = 5  # rows of a label below which its threshold is the one of all labels


class Multilabel(Kind):
    name = "multilabel"
    answers = "any number of labels a text"
    metric = "micro F1"
    baselines: ClassVar[Mapping[str, str]] = {
        "TF-IDF + LinearSVC, one a label": "svc a label",
        "the usual labels": "usual labels",
    }
    builder = TextMaker()

    def names(self, targets: Sequence[Sequence[str]]) -> tuple[str, ...]:
        return tuple(sorted({label for labels in targets for label in labels}))

    def strata(self, targets: Sequence[Sequence[str]]) -> list[str]:
        """The rarest label of each row: it is the one that a split could lose."""
        n = Counter(label for labels in targets for label in labels)
        return [min(labels, key=lambda x: (n[x], x)) if labels else "" for labels in targets]

    def examples(self, rows: Rows) -> Examples:
        labels = np.zeros(len(rows.texts), np.int64)
        targets = _table(rows.targets, rows.names).astype(np.float32)
        return Examples(rows.texts, labels, rows.names, self.name, targets)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        return np.asarray(ran.outputs, np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        """At the one cut for all labels at which it is highest: the same favour to all."""
        return f1(self._counted(kept, rows))

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return bootstrap(self._counted(kept, rows), f1).stderr

    def each(self, kept: Kept, rows: Rows) -> NDArray[np.float64]:
        return f1_each(self._counted(kept, rows))

    def _counted(self, kept: Kept, rows: Rows) -> NDArray[np.float64]:
        truth = _table(rows.targets, rows.names)
        return _counts(kept > _best_cut(kept.ravel(), truth.ravel()), truth)

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        """For each label the logit above which it is given, where F1 is highest out of fold."""
        truth = _table(rows.targets, rows.names)
        shared = _best_cut(kept.ravel(), truth.ravel())
        cuts = [
            _best_cut(kept[:, k], truth[:, k]) if truth[:, k].sum() >= MIN_TRUE else shared
            for k in range(len(rows.names))
        ]
        # one cut for all is kept where cuts of their own do not help
        own, one = (f1(_counts(kept > np.array(c), truth)) for c in (cuts, [shared] * len(cuts)))
        chosen = cuts if own > one + 0.002 else [shared] * len(cuts)
        facts = {"cuts": dict(zip(rows.names, chosen, strict=True)), "f1_at_cuts": max(own, one)}
        return Fitted({"cuts": chosen}, facts)

    def row_score(self, answer: Mapping[str, Any], target: Sequence[str]) -> float:
        return f1_of(set(answer["labels"]), set(target))

    def unknown(self, target: Sequence[str], names: Sequence[str]) -> bool:
        return not set(target) <= set(names)

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Sequence[str]]
    ) -> tuple[float, float, float]:
        sets = [(set(a["labels"]), set(t)) for a, t in zip(answers, targets, strict=True)]
        counts = np.array([[len(a & t), len(a - t), len(t - a)] for a, t in sets], np.float64)
        found = bootstrap(counts.reshape(-1, 3), f1)
        return found.value, found.low, found.high

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Sequence[str]],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        score, low, high = self.total(answers, targets)
        exact = [set(a["labels"]) == set(t) for a, t in zip(answers, targets, strict=True)]
        found, wanted = ([(i, x) for i, xs in enumerate(side) for x in xs]
                         for side in ([a["labels"] for a in answers], targets))  # fmt: skip
        rows = per_label(found, wanted, names)
        known = [row["f1"] for row in rows if row["f1"] is not None]
        return {
            "n": len(targets),
            "score": score,
            "low": low,
            "high": high,
            "exact": float(np.mean(exact)) if exact else None,
            "macro_f1": float(np.mean(known)) if known else None,
            "per_class": rows,
        }


def _table(targets: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray[np.bool_]:
    number = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(targets), len(names)), bool)
    for i, labels in enumerate(targets):
        table[i, [number[label] for label in labels]] = True
    return table


def _counts(given: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """True positives, false positives, false negatives of each row: (n, 3)."""
    pairs = (given & truth, given & ~truth, ~given & truth)
    return np.stack([pair.sum(1) for pair in pairs], 1).astype(np.float64)


def _best_cut(logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """The logit half-way between two rows at which F1 of "above it" is highest."""
    order = np.argsort(-logits, kind="stable")
    ranked, hits = logits[order], np.cumsum(truth[order])
    n = np.arange(1, len(ranked) + 1)
    scores = 2 * hits / (n + truth.sum())
    scores[:-1][ranked[:-1] == ranked[1:]] = -1  # a cut cannot stand between equals
    best = int(scores.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1
    return float((ranked[best] + below) / 2)

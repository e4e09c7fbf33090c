"""One label a text, or none. The metric is accuracy on texts that have a label.

The model has one class more than labels: texts that have none. What is given or generated for it
teaches the model to doubt; how much doubt rejects a text is fitted out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mendel.data.label_forms import label_form
from mendel.emit.measure import (
    abstention,
    calibration,
    confusions,
    fit_temperature,
    score,
    worst,
)
from mendel.emit.related import hierarchy, ordinal
from mendel.judge import interval
from mendel.kinds.kind import Fitted, Kind, Unlabeled
from mendel.kinds.teach import taught
from mendel.kinds.text import TextMaker
from mendel.parts.conformal import fit_drift, fit_sets, measure_sets
from mendel.parts.text.fit import Examples
from mendel.spec import TaskSpec
from mendel.train.folds import Kept, Ran, Rows
from mendel.train.outside import OUTSIDE, fit_outside_threshold, outside_score, with_outside
from mendel.types import InputError

MAX_GENERATED = 1_500


class Classify(Kind):
    name = "classify"
    generates: ClassVar[bool] = True  # texts without a label, where none are given
    answers = "one label a text"
    metric = "accuracy"
    baselines: ClassVar[Mapping[str, str]] = {"TF-IDF + LinearSVC": "svc", "majority": "majority"}
    builder = TextMaker()
    unlabeled: ClassVar[Unlabeled] = "rows"

    def names(self, targets: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(set(targets)))

    def strata(self, targets: Sequence[str]) -> list[str]:
        return list(targets)

    def examples(self, rows: Rows) -> Examples:
        """With one class more: texts that have no label, given or made of the others' words."""
        data = Examples(rows.texts, _numbers(rows.targets, rows.names), rows.names)
        data, given = taught(data, rows.inputs), rows.inputs.outside
        n_generated = min(MAX_GENERATED, len(data.texts) // 10) if self.generates else 0
        if n_generated or given:
            try:
                return with_outside(data, given, n_generated=n_generated, seed=0)
            except InputError:
                pass  # no text could be made of these words
        wide = None if data.targets is None else np.pad(data.targets, ((0, 0), (0, 1)))
        return replace(data, names=[*rows.names, OUTSIDE], targets=wide)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        """K logits, the one of OUTSIDE, and the share of n-grams that are new: (n, K + 2)."""
        return np.column_stack([ran.outputs, ran.unseen]).astype(np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return float(_right(kept, rows).mean())

    def stderr(self, kept: Kept, rows: Rows) -> float:
        p = self.score(kept, rows)
        return float(np.sqrt(max(p * (1 - p), 1e-9) / len(kept)))

    def each(self, kept: Kept, rows: Rows) -> NDArray[np.float64]:
        return _right(kept, rows).astype(np.float64)

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        K, labels = len(rows.names), _numbers(rows.targets, rows.names)
        temperature = fit_temperature(kept[:, :K], labels)
        shares = softmax(kept[:, :K].astype(np.float64) / temperature, axis=1)
        outside, right = outside_score(kept[:, : K + 1], K), _right(kept, rows)
        taught_none = self.generates or bool(rows.inputs.outside)  # else it says nothing of a text
        found: dict[str, Any] = {"threshold": 1.0, "kept": True}  # a model that is never right
        if right.any():
            found = fit_outside_threshold(outside, None, right, max_wrong_rejections=task.reject)
        settings = {
            "temperature": temperature,
            "outside_above": float(found["threshold"]) if taught_none else 1.0,
            "sets": fit_sets(shares, labels, task.coverage),
            "drift": fit_drift({"score": outside, "unseen": kept[:, K + 1]}),
        }
        form = label_form(rows.names, task.order)
        facts = {"order": form.order, "n_levels": form.n_levels}
        return Fitted(settings, {"temperature": temperature, "abstention": found, **facts})

    def row_score(self, answer: Mapping[str, Any], target: str | None) -> float:
        return float(answer["label"] == target)

    def unknown(self, target: str | None, names: Sequence[str]) -> bool:
        return target is not None and target not in names

    def n_outputs(self, names: Sequence[str]) -> int:
        return len(names) + 1

    def predict_flags(self, names: Sequence[str]) -> list[str]:
        return ["--no-abstain", "--top", str(len(names))]

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[str | None]
    ) -> tuple[float, float, float]:
        """Of the rows that have a label, answered whether sure or not."""
        pairs = [(a, t) for a, t in zip(answers, targets, strict=True) if t is not None]
        right = sum(answer["label"] == target for answer, target in pairs)
        return right / max(len(pairs), 1), *interval(right, len(pairs))

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[str | None],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        inside = [i for i, target in enumerate(targets) if target is not None]
        mine, theirs = [answers[i] for i in inside], [str(targets[i]) for i in inside]
        truth, after = _shares(mine, theirs, names)
        before = np.exp(np.log(np.maximum(after, 1e-12)) * fitted.settings["temperature"])
        before /= before.sum(1, keepdims=True)
        known = truth < len(names)  # a label that training never saw cannot be scored by class
        shown = [texts[i] for i, keep in zip(inside, known, strict=True) if keep]
        y, p = truth[known], after[known]
        accuracy, low, high = self.total(mine, theirs)
        whole = {"n": len(truth), "accuracy": accuracy, "score": accuracy, "low": low, "high": high}
        return {
            **score(y, p, names),
            **whole,
            "n_correct": round(accuracy * len(truth)),
            "confusions": confusions(y, p.argmax(1), names, shown, most=50),
            "worst": worst(y, p, names, shown),
            "calibration": calibration(y, before[known], p),
            "abstention": _abstention(answers, targets, fitted),
            **_related(mine, theirs, fitted),
            "sets": measure_sets(p, y, fitted.settings["sets"]) if len(y) else None,
            "temperature": fitted.settings["temperature"],
        }


def _related(
    answers: Sequence[Mapping[str, Any]], targets: Sequence[str], fitted: Fitted
) -> dict[str, Any]:
    """How wrong the errors are, where labels are paths or an order."""
    pairs = [(target, str(a["label"])) for a, target in zip(answers, targets, strict=True)]
    if order := fitted.facts.get("order"):
        return {"ordinal": ordinal(pairs, order)}
    return {"hierarchy": hierarchy(pairs)} if fitted.facts.get("n_levels", 1) > 1 else {}


def _abstention(
    answers: Sequence[Mapping[str, Any]], targets: Sequence[str | None], fitted: Fitted
) -> dict[str, Any]:
    """What rejection costs those that have a label, and how many of the others it finds."""
    above = fitted.settings["outside_above"]
    sure = np.array([1 - answer["outside"] for answer in answers])
    right = np.array([a["label"] == t for a, t in zip(answers, targets, strict=True)])
    inside = np.array([target is not None for target in targets])
    # in the form that `abstention` takes: the confidence in the first column where it is right
    shares = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]]) * sure[:, None]
    curve = abstention(np.zeros(int(inside.sum()), np.int64), shares[inside], 1 - above)
    rejected = sure < 1 - above
    n, n_found = int((~inside).sum()), int((rejected & ~inside).sum())
    low, high = interval(n_found, n)
    outside = {
        "n": n,
        "n_rejected": n_found,
        "recall": n_found / max(n, 1),
        "low": low,
        "high": high,
    }
    net = float((right & ~rejected)[inside].mean()) if inside.any() else None
    return {**curve, "threshold": above, "net_accuracy": net, "outside": outside if n else None,
            "fitted": fitted.facts["abstention"]}  # fmt: skip


def _right(kept: Kept, rows: Rows) -> NDArray[np.bool_]:
    best = kept[:, : len(rows.names)].argmax(1)
    return np.asarray(best == _numbers(rows.targets, rows.names))


def _numbers(targets: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[target] for target in targets], np.int64)


def _shares(
    answers: Sequence[Mapping[str, Any]], targets: Sequence[str], names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """True label numbers (K = unknown to training) and probabilities (n, K)."""
    number = {name: i for i, name in enumerate(names)}
    truth = np.array([number.get(target, len(names)) for target in targets], np.int64)
    shares = np.zeros((len(truth), len(names)))
    for i, answer in enumerate(answers):
        for entry in answer["top"]:
            shares[i, number[entry["label"]]] = entry["probability"]
    return truth, shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)

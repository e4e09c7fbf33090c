"""One label a text. The metric is accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mendel.emit.measure import (
    abstention,
    calibration,
    confusions,
    fit_temperature,
    fit_threshold,
    score,
    worst,
)
from mendel.judge import interval
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.text import TextMaker
from mendel.parts.text.fit import Examples
from mendel.train.folds import Kept, Rows


class Classify(Kind):
    name = "classify"
    answers = "one label a text"
    metric = "accuracy"
    baselines: ClassVar[Mapping[str, str]] = {"TF-IDF + LinearSVC": "svc", "majority": "majority"}
    builder = TextMaker()

    def names(self, targets: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(set(targets)))

    def strata(self, targets: Sequence[str]) -> list[str]:
        return list(targets)

    def examples(self, rows: Rows) -> Examples:
        return Examples(rows.texts, _numbers(rows.targets, rows.names), rows.names)

    def kept(self, outputs: Any, rows: Rows) -> Kept:
        return np.asarray(outputs, np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return float((kept.argmax(1) == _numbers(rows.targets, rows.names)).mean())

    def stderr(self, kept: Kept, rows: Rows) -> float:
        p = self.score(kept, rows)
        return float(np.sqrt(max(p * (1 - p), 1e-9) / len(kept)))

    def fitted(self, kept: Kept, rows: Rows) -> Fitted:
        labels = _numbers(rows.targets, rows.names)
        temperature = fit_temperature(kept, labels)
        threshold = fit_threshold(softmax(kept / temperature, axis=1), labels)
        settings = {"temperature": temperature, "threshold": float(threshold["threshold"])}
        return Fitted(settings, {"temperature": temperature, "threshold": threshold})

    def row_score(self, answer: Mapping[str, Any], target: str) -> float:
        return float(answer["label"] == target)

    def unknown(self, target: str, names: Sequence[str]) -> bool:
        return target not in names

    def predict_flags(self, names: Sequence[str]) -> list[str]:
        return ["--no-abstain", "--top", str(len(names))]

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[float, float, float]:
        right = sum(a["label"] == t for a, t in zip(answers, targets, strict=True))
        return right / max(len(targets), 1), *interval(right, len(targets))

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[str],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        truth, after = _shares(answers, targets, names)
        temperature = fitted.settings["temperature"]
        before = np.exp(np.log(np.maximum(after, 1e-12)) * temperature)
        before /= before.sum(1, keepdims=True)
        known = truth < len(names)  # a label that training never saw cannot be scored by class
        shown = [text for text, keep in zip(texts, known, strict=True) if keep]
        y, p = truth[known], after[known]
        accuracy, low, high = self.total(answers, targets)
        whole = {"n": len(truth), "accuracy": accuracy, "score": accuracy, "low": low, "high": high}
        threshold = fitted.facts["threshold"]
        return {
            **score(y, p, names),
            **whole,
            "n_correct": round(accuracy * len(truth)),
            "confusions": confusions(y, p.argmax(1), names, shown, most=50),
            "worst": worst(y, p, names, shown),
            "calibration": calibration(y, before[known], p),
            "abstention": {**threshold, **abstention(y, p, float(threshold["threshold"]))},
            "temperature": temperature,
        }


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

"""A number for each text. The metric is R2: the share of the variance that is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.emit.counts import bootstrap
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.text import TextMaker
from mendel.parts.text.fit import Examples
from mendel.spec import TaskSpec
from mendel.train.folds import Kept, Ran, Rows

N_STRATA = 10
NAME = "value"


class Regress(Kind):
    name = "regress"
    answers = "a number a text, with an interval"
    metric = "R2"
    baselines: ClassVar[Mapping[str, str]] = {
        "TF-IDF + ridge regression": "ridge",
        "the mean": "mean",
    }
    builder = TextMaker()

    def names(self, targets: Sequence[float]) -> tuple[str, ...]:
        return ()

    def strata(self, targets: Sequence[float]) -> list[str]:
        """Tenths by rank."""
        order = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
        return [str(place * N_STRATA // len(targets)) for place in order.tolist()]

    def examples(self, rows: Rows) -> Examples:
        targets = np.array(rows.targets, np.float32)[:, None]
        return Examples(rows.texts, np.zeros(len(rows.texts), np.int64), [NAME], self.name, targets)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        return np.asarray(ran.outputs, np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return _r2(_pairs(kept[:, 0], rows.targets))

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return bootstrap(_pairs(kept[:, 0], rows.targets), _r2).stderr

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        """Half the width of an interval that holds for new rows like these, whatever their law.

        source   split conformal prediction, Lei 2018: the ceil((n + 1) coverage)-th smallest miss
        """
        misses = np.sort(np.abs(kept[:, 0] - np.array(rows.targets)))
        place = int(np.ceil((len(misses) + 1) * task.coverage))
        half = float(misses[min(place, len(misses)) - 1])
        low, high = float(np.min(rows.targets)), float(np.max(rows.targets))
        return Fitted({"half_width": half, "coverage": task.coverage}, {"range": [low, high]})

    def row_score(self, answer: Mapping[str, Any], target: float) -> float:
        """1 / (1 + the miss): higher where nearer, and the judge compares signs and sizes."""
        return float(1 / (1 + abs(answer["value"] - target)))

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[float]
    ) -> tuple[float, float, float]:
        found = bootstrap(_pairs([answer["value"] for answer in answers], targets), _r2)
        return found.value, found.low, found.high

    def total_of(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[float],
        chosen: Sequence[int],
    ) -> tuple[float, float, float]:
        """Beside the spread of all rows: a part of little spread would have a low R2."""
        pairs = _pairs([answer["value"] for answer in answers], targets)
        spread = max(float(pairs[:, 1].var()), 1e-12)

        def explained(some: NDArray[np.float64]) -> float:
            return 1 - float(((some[:, 0] - some[:, 1]) ** 2).mean()) / spread

        found = bootstrap(pairs[list(chosen)], explained)
        return found.value, found.low, found.high

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[float],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        pairs = _pairs([answer["value"] for answer in answers], targets)
        misses = np.abs(pairs[:, 0] - pairs[:, 1])
        score, low, high = self.total(answers, targets)
        inside = misses <= fitted.settings["half_width"]
        worst = np.argsort(-misses, kind="stable")[:10].tolist()
        return {
            "n": len(pairs),
            "score": score,
            "low": low,
            "high": high,
            "mean_miss": float(misses.mean()),
            "median_miss": float(np.median(misses)),
            "half_width": fitted.settings["half_width"],
            "coverage": {"asked": fitted.settings["coverage"], "got": float(inside.mean())},
            "misses": [
                {"text": texts[i][:200], "true": float(pairs[i, 1]), "said": float(pairs[i, 0])}
                for i in worst
            ],
        }


def _pairs(said: Sequence[float] | NDArray[Any], true: Sequence[float]) -> NDArray[np.float64]:
    return np.stack([np.asarray(said, np.float64), np.asarray(true, np.float64)], 1)


def _r2(pairs: NDArray[np.float64]) -> float:
    said, true = pairs.T
    spread = float(((true - true.mean()) ** 2).sum())
    return 1 - float(((said - true) ** 2).sum()) / spread if spread else 0.0

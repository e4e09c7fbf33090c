"""Texts in the style of a corpus. The metric is the share of bits that the model saves.

A byte costs 8 bits by itself and fewer where it is foreseen: the score is 1 - bits per byte / 8.
The end of a text counts as a byte, as the end of a line does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.emit.copied import copied
from mendel.emit.counts import bootstrap
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.writer import WriterMaker
from mendel.parts.carried.running import session_of
from mendel.parts.writer.export import files
from mendel.parts.writer.features import BREAK
from mendel.parts.writer.fit import Examples
from mendel.parts.writer.runner import PROMPT, Runner
from mendel.parts.writer.sampling import Sampler
from mendel.spec import TaskSpec
from mendel.train.folds import ALWAYS, Kept, Ran, Rows

N_STRATA = 10
WORST = 10
N_SHOWN, N_WRITTEN = 5, 50  # samples that the report shows, and looks at
LENGTH = 200  # bytes of a sample at most, as the project writes
ENOUGH_BYTES = 60_000  # of a fold: more take longer to score than a small model to train


class Generate(Kind):
    name = "generate"
    answers = "text in the style of the corpus"
    metric = "share of bits saved"
    baselines: ClassVar[Mapping[str, str]] = {
        "n-gram of 6 bytes": "n-gram",
        "frequencies of bytes": "unigram",
    }
    builder = WriterMaker()
    n_folds: ClassVar[int] = 2  # a text has many bytes: two rounds tell models apart

    def names(self, targets: Sequence[int]) -> tuple[str, ...]:
        return ()

    def strata(self, targets: Sequence[int]) -> list[str]:
        """Tenths by length."""
        order = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
        return [str(place * N_STRATA // len(targets)) for place in order.tolist()]

    def held_out(self, folds: NDArray[np.int64], targets: Sequence[int]) -> NDArray[np.int64]:
        """Of each fold the first rows, as many as tell models apart; the others are learned."""
        found = np.where(folds < self.n_folds, folds, ALWAYS)
        for fold in range(self.n_folds):
            mine = np.flatnonzero(folds == fold)
            sizes = np.array(targets)[mine]
            found[mine[np.cumsum(sizes) - sizes > ENOUGH_BYTES]] = ALWAYS
        return found

    def examples(self, rows: Rows) -> Examples:
        return Examples(rows.texts)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        """Bits and bytes of each text: (n, 2)."""
        return np.stack([ran.outputs, np.array(rows.targets)], 1).astype(np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return saved(kept)

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return bootstrap(kept, saved).stderr

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        return Fitted({}, {"bits_per_byte": 8 * (1 - saved(kept))})

    def row_score(self, answer: Mapping[str, Any], target: int) -> float:
        """The share saved of one text's bits; 0 where it costs more than by itself."""
        return max(0.0, saved(_pairs([answer], [target])))

    def n_outputs(self, names: Sequence[str]) -> int:
        return 1

    def example(self, text: str) -> str:
        """A short prompt: what is timed is the first byte after it."""
        return text[:PROMPT]

    def about(self, trained: Any, rows: Rows, *, int8: bool) -> dict[str, Any]:
        """Samples, and how much of 50 of them is copied."""
        graph = files(trained, int8=int8)["model.onnx"]
        runner = Runner(session_of(graph), trained.featurizer)
        texts = runner.texts("", [Sampler(seed=seed) for seed in range(N_WRITTEN)], LENGTH)
        found = copied(texts, [text.replace(BREAK, "\n") for text in rows.texts], LENGTH)
        return {"samples": texts[:N_SHOWN], "copied": found}

    def predict_flags(self, names: Sequence[str]) -> list[str]:
        return ["--score"]

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[int]
    ) -> tuple[float, float, float]:
        found = bootstrap(_pairs(answers, targets), saved)
        return found.value, found.low, found.high

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[int],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        pairs = _pairs(answers, targets)
        score, low, high = self.total(answers, targets)
        each = pairs[:, 0] / pairs[:, 1]
        worst = np.argsort(-each, kind="stable")[:WORST].tolist()
        return {
            "n": len(pairs),
            "n_bytes": int(pairs[:, 1].sum()),
            "score": score,
            "low": low,
            "high": high,
            "bits_per_byte": 8 * (1 - score),
            "surprising": [
                {"text": texts[i][:200], "bits_per_byte": float(each[i])} for i in worst
            ],
        }


def saved(pairs: NDArray[Any]) -> float:
    """1 - bits per byte / 8 of rows of bits and bytes: (n, 2)."""
    bits, n_bytes = np.asarray(pairs, np.float64).reshape(-1, 2).sum(0)
    return float(1 - bits / (8 * max(n_bytes, 1)))


def _pairs(answers: Sequence[Mapping[str, Any]], targets: Sequence[int]) -> NDArray[np.float64]:
    """The bits are the answer's, the bytes the text's own."""
    rows = [(answer["bits"], target) for answer, target in zip(answers, targets, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 2)

"""Spans of a text, each with a label. The metric is span F1: start, end and label all right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.data.invented import inventable
from mendel.emit.counts import bootstrap, f1, f1_each, f1_of, per_label
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.tagger import TaggerMaker
from mendel.parts.conformal import fit_drift
from mendel.parts.tagger.fit import Examples
from mendel.parts.tagger.spans import Span, span_counts
from mendel.spec import TaskSpec
from mendel.train.folds import Inputs, Kept, Ran, Rows

N_SHOWN = 20

Spans = Sequence[Sequence[Any]]  # start, end, label


class Tag(Kind):
    name = "tag"
    answers = "spans of a text, each with a label"
    metric = "span F1"
    baselines: ClassVar[Mapping[str, str]] = {
        "CRF on hand-made features": "crf",
        "phrases of training": "usual spans",
    }
    builder = TaggerMaker()
    unlabeled = "words"

    def names(self, targets: Sequence[Spans]) -> tuple[str, ...]:
        return tuple(sorted({label for spans in targets for _, _, label in spans}))

    def strata(self, targets: Sequence[Spans]) -> list[str]:
        """The rarest label of each row: it is the one that a split could lose."""
        n = Counter(label for spans in targets for _, _, label in spans)
        return [
            min((label for _, _, label in spans), key=lambda x: (n[x], x)) if spans else ""
            for spans in targets
        ]

    def examples(self, rows: Rows) -> Examples:
        given, spans = rows.inputs, _spans(rows.targets)
        return Examples(rows.texts, spans, rows.names, given.gazetteers, unlabeled=given.unlabeled)

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        """Of each text: spans found and right, found and wrong, missed; share of new words."""
        counts = span_counts(ran.outputs, _spans(rows.targets))
        return np.column_stack([counts, ran.unseen]).astype(np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return f1(kept[:, :3])

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return bootstrap(kept[:, :3], f1).stderr

    def each(self, kept: Kept, rows: Rows) -> NDArray[np.float64]:
        return f1_each(kept[:, :3])

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        """The alarm's reference: how many spans a text has, and how many words are new."""
        signals = {"spans": kept[:, 0] + kept[:, 1], "unseen": kept[:, 3]}
        return Fitted({"drift": fit_drift(signals)}, {})

    def fills(self, names: Sequence[str], inputs: Inputs) -> bool:
        return bool(inputs.gazetteers or inventable(names))

    def row_score(self, answer: Mapping[str, Any], target: Spans) -> float:
        return f1_of(_of(answer), {tuple(span) for span in target})

    def unknown(self, target: Spans, names: Sequence[str]) -> bool:
        return any(label not in names for _, _, label in target)

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Spans]
    ) -> tuple[float, float, float]:
        found = [[Span(*span) for span in sorted(_of(answer))] for answer in answers]
        interval = bootstrap(span_counts(found, _spans(targets)), f1)
        return interval.value, interval.low, interval.high

    def beside_training(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Spans],
        texts: Sequence[str],
        rows: Rows,
    ) -> dict[str, Any]:
        """F1 of spans whose surface form training has as a span, and of those that it has not."""
        forms = {
            _form(t, s) for t, spans in zip(rows.texts, rows.targets, strict=True) for s in spans
        }
        counts = np.zeros((2, 3), np.int64)
        for answer, target, text in zip(answers, targets, texts, strict=True):
            found, wanted = _of(answer), {tuple(span) for span in target}
            for i, chosen in enumerate((found & wanted, found - wanted, wanted - found)):
                for span in chosen:
                    counts[int(_form(text, span) not in forms), i] += 1
        names = ("surface forms seen in training", "surface forms unseen in training")
        pairs = zip(names, counts, strict=True)
        return {"forms": [{"name": n, "n": int(c[0] + c[2]), "f1": f1(c)} for n, c in pairs]}

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Spans],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        score, low, high = self.total(answers, targets)
        found = {(i, *span) for i, answer in enumerate(answers) for span in _of(answer)}
        wanted = {(i, *span) for i, spans in enumerate(targets) for span in spans}
        mine, its = (
            [((i, start, end), label) for i, start, end, label in side] for side in (found, wanted)
        )
        rows = per_label(mine, its, names)
        known = [row["f1"] for row in rows if row["f1"] is not None]
        whole = [
            _of(a) == {tuple(t) for t in spans} for a, spans in zip(answers, targets, strict=True)
        ]
        return {
            "n": len(targets),
            "n_spans": len(wanted),
            "score": score,
            "low": low,
            "high": high,
            "exact": float(np.mean(whole)) if whole else None,
            "macro_f1": float(np.mean(known)) if known else None,
            "per_class": rows,
            "span_errors": _errors(found - wanted, wanted - found, texts),
        }


def _errors(
    wrong: set[tuple[Any, ...]], missed: set[tuple[Any, ...]], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """The first few spans that were found wrongly or missed, in the order of the texts."""
    listed = sorted([(*span, "found wrongly") for span in wrong] + [(*s, "missed") for s in missed])
    return [
        {"text": texts[i][:200], "span": texts[i][start:end][:80], "label": label, "error": error}
        for i, start, end, label, error in listed[:N_SHOWN]
    ]


def _form(text: str, span: Sequence[Any]) -> str:
    return " ".join(text[span[0] : span[1]].lower().split())


def _of(answer: Mapping[str, Any]) -> set[tuple[int, int, str]]:
    return {(span["start"], span["end"], span["label"]) for span in answer["spans"]}


def _spans(targets: Sequence[Spans]) -> list[list[Span]]:
    return [[Span(*span) for span in spans] for spans in targets]

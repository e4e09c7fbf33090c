"""A flat record of each text. The metric is field F1: fields and their values, over all texts.

A value is found where the text says it (parts.tagger.records); a tagger learns those places, and
what it finds is read as a value of the field's type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mendel.data.faults import Fault
from mendel.data.readers import Examples as Data
from mendel.data.targets import Entry
from mendel.emit.counts import bootstrap, f1, f1_of, per_label
from mendel.kinds.kind import Fitted, Kind
from mendel.kinds.tagger import TaggerMaker
from mendel.parts.tagger.fields import Fields, canonical, fields_of, key, misfits, with_fields
from mendel.parts.tagger.fit import Examples
from mendel.parts.tagger.records import align, learn, record_of, same
from mendel.spec import TaskSpec
from mendel.train.folds import Kept, Ran, Rows
from mendel.types import InputError

N_SHOWN = 20
Pairs = Sequence[Sequence[Any]]  # name, value


class Extract(Kind):
    name = "extract"
    answers = "a record of named fields a text"
    metric = "field F1"
    baselines: ClassVar[Mapping[str, str]] = {
        "CRF on hand-made features, same readers of values": "crf records",
        "phrases of training, same readers of values": "usual records",
    }
    builder = TaggerMaker()
    unlabeled = "words"

    def names(self, targets: Sequence[Pairs]) -> tuple[str, ...]:
        return tuple(sorted({name for record in targets for name, _ in record}))

    def strata(self, targets: Sequence[Pairs]) -> list[str]:
        """The rarest field of each row: it is the one that a split could lose."""
        n = Counter(name for record in targets for name, _ in record)
        return [
            min((name for name, _ in record), key=lambda x: (n[x], x)) if record else ""
            for record in targets
        ]

    def like(self, data: Data, rows: Rows) -> Data:
        """Values are read by the types that the fields have in the rows."""
        fields, _ = learn(rows.texts, _records(rows.targets))
        return replace(data, targets=_told(data.targets, fields))

    def told(self, data: Data, test: Data | None) -> tuple[Data, Data | None]:
        """Values as answers give them, by the types of the data's own fields.

        raises   InputError where no value of the data is said in its text
        """
        fields = fields_of(_records(data.targets))
        test = test and replace(test, targets=_told(test.targets, fields))
        told = replace(data, targets=_told(data.targets, fields))
        faults = [*data.faults, *_misfits(data, fields), *_unsaid(told)]
        return replace(told, faults=tuple(faults)), test

    def examples(self, rows: Rows) -> Examples:
        fields, records = learn(rows.texts, _records(rows.targets))
        pairs = zip(rows.texts, records, strict=True)
        spans = [align(text, record, fields) for text, record in pairs]
        about = {"fields": {name: found.to_dict() for name, found in fields.items()}}
        given = rows.inputs
        return Examples(
            rows.texts, spans, rows.names, given.gazetteers, about, unlabeled=given.unlabeled
        )

    def kept(self, ran: Ran, rows: Rows) -> Kept:
        """Of each text: values found and right, found and wrong, missed."""
        fields = with_fields(ran.about["fields"])
        pairs = zip(rows.texts, ran.outputs, strict=True)
        found = [_entries(record_of(text, spans, fields)[0].items()) for text, spans in pairs]
        return _counts(found, [_entries(target) for target in rows.targets]).astype(np.float32)

    def score(self, kept: Kept, rows: Rows) -> float:
        return f1(kept)

    def stderr(self, kept: Kept, rows: Rows) -> float:
        return bootstrap(kept, f1).stderr

    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted:
        """The types of fields, for people; what reads values is kept with the model."""
        fields, records = learn(rows.texts, _records(rows.targets))
        said = _n_said(rows.texts, records, fields)
        n = Counter(name for record in records for name in record)
        facts = {
            name: {"type": str(found), "said": said[name] / n[name]}
            for name, found in fields.items()
        }
        return Fitted({"types": {name: found.type for name, found in fields.items()}},
                      {"fields": facts})  # fmt: skip

    def row_score(self, answer: Mapping[str, Any], target: Pairs) -> float:
        return f1_of(_entries(answer["record"].items()), _entries(target))

    def unknown(self, target: Pairs, names: Sequence[str]) -> bool:
        return any(name not in names for name, _ in target)

    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Pairs]
    ) -> tuple[float, float, float]:
        found = [_entries(answer["record"].items()) for answer in answers]
        interval = bootstrap(_counts(found, [_entries(target) for target in targets]), f1)
        return interval.value, interval.low, interval.high

    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Pairs],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        score, low, high = self.total(answers, targets)
        mine = [_entries(answer["record"].items()) for answer in answers]
        its = [_entries(target) for target in targets]
        found, wanted = (
            [((i, value), name) for i, entries in enumerate(side) for name, value in entries]
            for side in (mine, its)
        )
        facts = fitted.facts["fields"]
        rows = [row | facts.get(row["label"], {}) for row in per_label(found, wanted, names)]
        known = [row["f1"] for row in rows if row["f1"] is not None]
        return {
            "n": len(targets),
            "n_values": len(wanted),
            "score": score,
            "low": low,
            "high": high,
            "exact": float(np.mean([a == b for a, b in zip(mine, its, strict=True)]))
            if mine else None,
            "macro_f1": float(np.mean(known)) if known else None,
            "per_field": rows,
            "field_errors": _errors(answers, targets, texts),
        }  # fmt: skip


def _records(targets: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(target) for target in targets]


def _told(targets: Sequence[Any], fields: Fields) -> tuple[tuple[Entry, ...], ...]:
    told = [canonical(dict(target), fields) for target in targets]
    return tuple(tuple(Entry(*item) for item in record.items()) for record in told)


def _entries(pairs: Any) -> set[tuple[str, Any]]:
    """Fields and what makes their values the same."""
    return {(name, key(value)) for name, value in pairs}


def _counts(
    found: Sequence[set[tuple[str, Any]]], wanted: Sequence[set[tuple[str, Any]]]
) -> NDArray[np.float64]:
    rows = [(len(a & b), len(a - b), len(b - a)) for a, b in zip(found, wanted, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 3)


def _misfits(data: Data, fields: Fields) -> list[Fault]:
    """Values that are not of their field's type, as 31/02/2024 is no date."""
    found = [
        (i, f"{name}={str(record[name])[:30]}")
        for i, record in enumerate(_records(data.targets), 1)
        for name in misfits(record, fields)
    ]
    if not found:
        return []
    note = f"such as {found[0][1]}: kept, and counted as errors where the text says otherwise"
    rows = tuple(i for i, _ in found[:5])
    return [Fault("value not of its field's type", len(found), rows, note)]


def _unsaid(data: Data) -> list[Fault]:
    """Values that their text does not say; fields whose values are never said, by name."""
    rows, n_missing = _missing(data)
    n = Counter(name for record in _records(data.targets) for name in record)
    never = [name for name in n if n_missing[name] == n[name]]
    if len(never) == len(n):
        raise InputError(
            f"no value of a record is said in its text. Got {', '.join(sorted(never)[:8])}. Wanted "
            "values that the text has, spelt alike or as a date, number or amount. Check the "
            "columns, or say --kind classify for what a text implies."
        )
    faults = []
    if rows:
        first = tuple(dict.fromkeys(rows))[:5]
        note = "kept as wanted, but nothing to learn from: the model copies, it does not infer"
        faults.append(Fault("value not in its text", len(rows), first, note))
    if never:
        note = "the model cannot fill it; a label of its own (--kind classify) may do"
        kind = f"field never said in a text: {', '.join(never)}"
        faults.append(Fault(kind, sum(n[name] for name in never), (), note))
    return faults


def _missing(data: Data) -> tuple[list[int], Counter[str]]:
    """The row of each value that its text does not say, and how many there are of each field."""
    fields, records = learn(data.texts, _records(data.targets))
    rows, n_missing = [], Counter[str]()
    for i, (text, record) in enumerate(zip(data.texts, records, strict=True), 1):
        missing = record.keys() - {span.label for span in align(text, record, fields)}
        n_missing.update(missing)
        rows += [i] * len(missing)
    return rows, n_missing


def _n_said(
    texts: Sequence[str], records: Sequence[dict[str, Any]], fields: Fields
) -> Counter[str]:
    pairs = zip(texts, records, strict=True)
    return Counter(span.label for text, record in pairs for span in align(text, record, fields))


def _errors(
    answers: Sequence[Mapping[str, Any]], targets: Sequence[Pairs], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """The first few fields that were read wrongly, in the order of the texts."""
    errors = []
    for answer, target, text in zip(answers, targets, texts, strict=True):
        said: dict[str, Any] = answer["record"]
        wanted: dict[str, Any] = {name: value for name, value in target}
        for name in sorted({**said, **wanted}):
            pair = said.get(name), wanted.get(name)
            if name not in same(said, wanted):
                errors.append({"text": text[:200], "field": name, "wanted": pair[1],
                               "said": pair[0]})  # fmt: skip
    return errors[:N_SHOWN]

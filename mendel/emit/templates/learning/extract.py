"""How this model learns: a record of each text. Used by train.py alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tagmodel import export
from tagmodel.chain import decode
from tagmodel.features import Featurizer, Phrases
from tagmodel.fields import canonical, fields_of, key, with_fields
from tagmodel.fit import Examples, Trained, fit
from tagmodel.records import align, learn, record_of
from tagmodel.spans import spans_of
from tagmodel.store import unpack
from tagmodel.twin import dequantised, training_emissions

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

HERE = Path(__file__).resolve().parent
COLUMN = "record"  # where targets stand
Record = dict[str, Any]
Row = tuple[str, Record]


def target_of(cell: object) -> Record | None:
    """A JSON object of field -> value, or its text; null and "" are no value."""
    if cell is None or cell == "":
        return None
    found = json.loads(cell) if isinstance(cell, str) else cell
    if not isinstance(found, dict):
        raise ValueError(f"{cell!r} is no JSON object")
    for name, value in found.items():
        if isinstance(value, list | dict):
            raise ValueError(f"field {name!r} is nested: wanted a string, number, true or false")
    return {name: value for name, value in found.items() if value is not None and value != ""}


def fault(targets: Sequence[Record]) -> str | None:
    return None if any(targets) else "has no value in any row."


def stratum(target: Record) -> str:
    return min(target, default="")


def names_of(targets: Sequence[Record]) -> tuple[str, ...]:
    return tuple(sorted({name for record in targets for name in record}))


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    """Gazetteers and clusters of words are those that were shipped: both are keys by now."""
    old = Featurizer.load(HERE / "vocabulary.npz")
    known = Phrases(old.phrases, old.owners, old.gazetteers)
    texts = [text for text, _ in rows]
    fields, records = learn(texts, [record for _, record in rows])
    pairs = zip(texts, records, strict=True)
    spans = [align(text, record, fields) for text, record in pairs]
    about = {"fields": {name: found.to_dict() for name, found in fields.items()}}
    return Examples(texts, spans, names, phrases=known, about=about, clusters=old.clusters)


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types of the fields; and the facts for the card."""
    fields = with_fields(trained.about["fields"])
    own = fields_of([record for _, record in rows])  # how the records are written, not the texts
    model = dequantised(trained) if int8 else trained
    split = [trained.featurizer.split(text) for text, _ in rows]
    emissions = training_emissions(model, [words or [""] for _, words in split])
    right = n = 0
    for (text, record), (tokens, _), scores in zip(rows, split, emissions, strict=True):
        [tags] = decode(np.asarray(scores)[None], [len(tokens)], trained.chain())
        found, _ = record_of(text, spans_of(tokens, tags, list(names)), fields)
        wanted = canonical(record, own)
        right += sum(name in wanted and key(v) == key(wanted[name]) for name, v in found.items())
        n += len(found) + len(wanted)
    types = {name: found.type for name, found in fields.items()}
    return {"types": types}, {"field F1": 2 * right / n if n else 1.0}

"""How this model learns: spans of texts. Used by train.py alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conformal import fit_drift
from tagmodel import export
from tagmodel.chain import decode
from tagmodel.features import Featurizer, Phrases
from tagmodel.fit import Examples, Trained, fit
from tagmodel.spans import Span, span_counts, span_f1, spans_of
from tagmodel.store import unpack
from tagmodel.twin import dequantised, training_emissions

__all__ = ["COLUMN", "examples", "export", "fault", "fit", "measure", "names_of", "stratum",
           "target_of", "unmeasured", "unpack"]  # fmt: skip

HERE = Path(__file__).resolve().parent
COLUMN = "spans"  # where targets stand
Row = tuple[str, list[Span]]


def target_of(cell: object) -> list[Span] | None:
    """A list of {"start", "end", "label"} or of [start, end, label]; a string is its JSON."""
    if cell is None:
        return None
    found = json.loads(cell) if isinstance(cell, str) else cell
    if not isinstance(found, list):
        raise ValueError(f"{cell!r} is no list of spans")
    triples = [
        (span["start"], span["end"], span["label"]) if isinstance(span, dict) else tuple(span)
        for span in found
    ]
    return [Span(int(start), int(end), str(label)) for start, end, label in triples]


def fault(targets: Sequence[Sequence[Span]]) -> str | None:
    return None if any(targets) else "has no span in any row."


def stratum(target: Sequence[Span]) -> str:
    return target[0].label if target else ""


def names_of(targets: Sequence[Sequence[Span]]) -> tuple[str, ...]:
    return tuple(sorted({span.label for spans in targets for span in spans}))


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    """Gazetteers and clusters of words are those that were shipped: both are keys by now."""
    old = Featurizer.load(HERE / "vocabulary.npz")
    known = Phrases(old.phrases, old.owners, old.gazetteers)
    texts, spans = [text for text, _ in rows], [spans for _, spans in rows]
    return Examples(texts, spans, names, phrases=known, clusters=old.clusters)


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """Settings that must fit the labels, where no row is left to measure on."""
    return {}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The alarm's reference, fitted on the rows, and the facts for the card."""
    model = dequantised(trained) if int8 else trained
    split = [trained.featurizer.split(text) for text, _ in rows]
    emissions = training_emissions(model, [words or [""] for _, words in split])
    found = []
    for (tokens, _), scores in zip(split, emissions, strict=True):
        [tags] = decode(np.asarray(scores)[None], [len(tokens)], trained.chain())
        found.append(spans_of(tokens, tags, list(names)))
    signals = {
        "spans": [len(spans) for spans in found],
        "unseen": [trained.featurizer.unseen(text) for text, _ in rows],
    }
    facts = {"span F1": span_f1(span_counts(found, [spans for _, spans in rows]))}
    return {"drift": fit_drift(signals)}, facts

"""What this model answers: a record of named fields for each text, and whether a record fits."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tagmodel.chain import Chain, decode
from tagmodel.features import Featurizer as Words
from tagmodel.fields import Field, with_fields
from tagmodel.records import fits, record_of
from tagmodel.spans import Span, spans_of

__all__ = ["SIGNATURE", "Answer", "Decoder", "Featurizer", "add_flags", "options_of", "requested"]

SIGNATURE = {
    "input": "list of strings; the first 20,000 characters of each are read",
    "output": "for each string: a record of field -> value, and the spans that say the values",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one text.

    record   field -> value: a date in ISO 8601, a number, an amount such as "12.50 EUR", a text
    spans    where the text says each of them (start, end, field), in order; the first that can
             be read as a value of its field counts
    fields   where a record was given: for each field whether it fits, and what the model reads
    """

    text: str
    record: dict[str, Any]
    spans: list[Span]
    fields: list[dict[str, Any]] | None = None

    @property
    def fits(self) -> bool:
        """Whether the record that was given fits in every field."""
        return all(field["verdict"] == "fits" for field in self.fields or ())

    def to_dict(self) -> dict[str, Any]:
        spans = [
            {"field": name, "start": start, "end": end, "text": self.text[start:end]}
            for start, end, name in self.spans
        ]
        found: dict[str, Any] = {"record": self.record, "spans": spans}
        return found if self.fields is None else {"fits": self.fits, "fields": self.fields, **found}


class Featurizer(Words):
    """Takes whole texts, and knows the chain and the fields, which lie in the same file."""

    chain: Chain
    fields: dict[str, Field]

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Featurizer:
        found = super().load(file)
        assert isinstance(found, cls)
        found.chain = Chain.load(file)
        with np.load(file, allow_pickle=False) as data:
            about = json.loads(data["about"].tobytes())
        found.fields = with_fields(about["fields"])
        return found

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:  # type: ignore[override]
        return super().arrays([self.split(text)[1] or [""] for text in texts])


class Decoder:
    """Scores of words to records. Raises KeyError where agent.json is not of this kind."""

    def __init__(self, agent: Mapping[str, Any], features: Words) -> None:
        self.labels: list[str] = list(agent["labels"])
        self.types: dict[str, str] = agent["settings"]["types"]
        self.n_outputs = 1 + 2 * len(self.labels)
        self._features = features

    def __call__(
        self,
        texts: Sequence[str],
        emissions: NDArray[np.float32],
        *,
        record: Mapping[str, Any] | None = None,
    ) -> list[Answer]:
        """With `record`, each answer says how it fits the text."""
        assert isinstance(self._features, Featurizer)
        tokens = [self._features.split(text)[0] for text in texts]
        tags = decode(emissions, [len(found) for found in tokens], self._features.chain)
        return [
            self._answer(text, spans_of(found, best, self.labels), record)
            for text, found, best in zip(texts, tokens, tags, strict=True)
        ]

    def _answer(self, text: str, spans: Sequence[Span], given: Mapping[str, Any] | None) -> Answer:
        assert isinstance(self._features, Featurizer)
        fields = self._features.fields
        read, used = record_of(text, spans, fields)
        told = None if given is None else fits(text, given, read, fields)
        return Answer(text, read, used, told)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fits",
        metavar="FILE",
        type=_record,
        help="a JSON record: does it fit the texts? Exit code 1 where it does not",
    )


def _record(file: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{file} cannot be read as JSON: {error}") from None
    try:
        return _checked(found)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{file}: {error}") from None


def _checked(record: Any) -> dict[str, Any]:
    """The record; raises ValueError where it is not flat."""
    if not isinstance(record, dict):
        raise ValueError('wanted a JSON object such as {"city": "Rome"}')
    for name, value in record.items():
        if isinstance(value, list | dict):
            raise ValueError(f"{name!r} is nested: wanted a string, number, true, false or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name!r} is {value}: wanted a finite number")
    return record


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {"record": args.fits}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body: a record that is to be compared with the texts."""
    record = given.get("record")
    return {} if record is None else {"record": _checked(record)}

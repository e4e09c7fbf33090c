"""Rows that unlabelled text has taught, made once for each fold and kept for all candidates."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np

from mendel.blobs import locked, write_atomically
from mendel.data.encoder import Encoder, content_of
from mendel.ledger import home
from mendel.parts.text.fit import Examples
from mendel.train.folds import Inputs
from mendel.types import InputError, digest

WAIT_S = 0.5
FORMAT = 1


def taught(data: Examples, inputs: Inputs) -> Examples:
    """The labelled rows and the unlabelled texts with shares; as they are without such texts.

    cost   a minute or two for 10,000 texts the first time, nothing after that
    """
    if not inputs.unlabeled:
        return data
    file = place_of(data, inputs)
    file.parent.mkdir(parents=True, exist_ok=True)
    while not file.exists():  # another worker may be at it
        try:
            with locked(file.with_suffix(".lock"), "being made"):
                if not file.exists():
                    write_atomically(file, _bytes(_made(data, inputs)))
        except InputError as error:
            if "being made" not in str(error):
                raise
            time.sleep(WAIT_S)
    return _read(file, data)


def place_of(data: Examples, inputs: Inputs) -> Path:
    """Named by all that the rows depend on; of a teacher by what it is, not by where it lies."""
    teacher = None if inputs.teacher is None else content_of(inputs.teacher)
    given = inputs.to_dict() | {"teacher": teacher}
    key = [FORMAT, list(data.texts), data.labels.tolist(), list(data.names), given]
    return home() / "taught" / f"{digest(key)}.npz"


def _made(data: Examples, inputs: Inputs) -> Examples:
    # imported here: torch takes seconds, and most runs have no such text
    from mendel.train.few.teach import distilled, self_trained

    if inputs.teacher is None:
        return self_trained(data, inputs.unlabeled)
    return distilled(data, inputs.unlabeled, Encoder.load(inputs.teacher))


def _bytes(found: Examples) -> bytes:
    assert found.targets is not None and found.weights is not None
    content = io.BytesIO()
    texts = np.frombuffer(json.dumps(list(found.texts)).encode(), np.uint8)
    np.savez(content, texts=texts, targets=found.targets, weights=found.weights)
    return content.getvalue()


def _read(file: Path, data: Examples) -> Examples:
    with np.load(file, allow_pickle=False) as kept:
        texts = json.loads(kept["texts"].tobytes())
        targets, weights = kept["targets"], kept["weights"]
    return Examples(texts, targets.argmax(1), data.names, data.kind, targets, weights)

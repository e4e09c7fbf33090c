"""A trained tagger as files, and the outputs that its graph is tested against."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .fit import Trained
from .graph import build_graph
from .store import pack


def files(trained: Trained, *, int8: bool) -> Mapping[str, bytes]:
    """What answering and training on need, by name; the chain lies in the vocabulary's file,
    and so does what the kind of task wants kept."""
    parts: dict[str, Any] = {}
    for part in (trained.featurizer, trained.chain()):
        content = io.BytesIO()
        part.save(content)
        content.seek(0)
        with np.load(content, allow_pickle=False) as data:
            parts.update(data)
    parts["about"] = np.frombuffer(json.dumps(dict(trained.about)).encode(), np.uint8)
    vocabulary = io.BytesIO()
    np.savez_compressed(vocabulary, **parts)
    return {
        "model.onnx": build_graph(trained, int8=int8),
        "vocabulary.npz": vocabulary.getvalue(),
        "model.safetensors": pack(trained),
    }


def golden(trained: Trained, texts: Sequence[str], *, int8: bool) -> list[Any]:
    """The emissions of each text by the code that trained the model."""
    from .twin import dequantised, training_emissions

    model = dequantised(trained) if int8 else trained
    words = [trained.featurizer.split(text)[1] or [""] for text in texts]
    found = training_emissions(model, words)
    return [row.astype(np.float64).round(6).tolist() for row in found]


def n_outputs(trained: Trained) -> int:
    """Tags of a token: outside, and two for each label."""
    return 1 + 2 * len(trained.names)

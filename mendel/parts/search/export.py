"""A trained search model as files, and the scores that its graph is tested against."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .fit import Trained
from .graph import build_graph
from .store import pack


def files(trained: Trained, *, int8: bool) -> Mapping[str, bytes]:
    """What answering and training on need, by name; the passages lie in the vocabulary's file."""
    vocabulary = io.BytesIO()
    trained.featurizer.save(vocabulary)
    return {
        "model.onnx": build_graph(trained, int8=int8),
        "vocabulary.npz": vocabulary.getvalue(),
        "model.safetensors": pack(trained),
    }


def golden(trained: Trained, texts: Sequence[str], *, int8: bool) -> list[Any]:
    """The scores of each passage for each text by the slow twin."""
    from .twin import dequantised, training_scores

    scores = training_scores(dequantised(trained) if int8 else trained, texts)
    return list(scores.astype(np.float64).round(6).tolist())


def n_outputs(trained: Trained) -> int:
    """Passages that get a score."""
    return len(trained.featurizer.passages)

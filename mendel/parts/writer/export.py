"""A trained writer as files, and the outputs that its graph is tested against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..carried.drawing import quantise
from ..carried.keeping import files_of
from .fit import Trained
from .graph import build_graph
from .store import pack


def files(trained: Trained, *, int8: bool) -> Mapping[str, bytes]:
    """What answering and training on need, by name."""
    return files_of(build_graph(trained, int8=int8), trained.featurizer, pack(trained))


def n_outputs(trained: Trained) -> int:
    """Of an empty text: what its end costs."""
    return 1


def golden(trained: Trained, texts: Sequence[str], *, int8: bool) -> list[Any]:
    """What each symbol of each text costs by the torch network, in bits."""
    model = dequantised(trained) if int8 else trained
    return [row.astype(np.float64).round(6).tolist() for row in training_bits(model, texts)]


def training_bits(trained: Trained, texts: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """(T,) of each text, its end included, by network.py and not by the graph."""
    import torch

    from .network import Writer

    network = Writer(trained.recipe)
    weights = {name: torch.from_numpy(value.copy()) for name, value in trained.weights.items()}
    network.load_state_dict(weights)
    found = []
    for text in texts:
        arrays = trained.featurizer.arrays([text])
        with torch.inference_mode():
            hints = torch.from_numpy(arrays.get("hints", np.zeros(1, np.float32)))
            logits = network(torch.from_numpy(arrays["tokens"])) + hints
            nats = logits.log_softmax(-1)[0].numpy()
        own = np.take_along_axis(nats, arrays["targets"][0][:, None], 1)[:, 0]
        found.append(own / -math.log(2))
    return found


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: matrices rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, value in trained.weights.items():
        if value.ndim == 2:
            rows, scale = quantise(value)
            tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)

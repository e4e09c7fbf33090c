"""The slow twin of the graph: emissions by the code that trained, to test the graph against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..carried.drawing import quantise
from .features import Floats, Ragged
from .fit import Trained, make_batch
from .network import Batch, TagNet


def training_emissions(trained: Trained, words: Sequence[Sequence[str]]) -> list[Floats]:
    """(T, K) for each text, which is split into words, at least one."""
    recipe, features = trained.recipe, trained.featurizer
    ragged = features.ragged(words)
    found = [np.zeros((len(text), 1 + 2 * len(trained.names)), np.float32) for text in words]
    for expert, share in recipe.experts.items():
        if expert == "linear":
            each: Sequence[Floats] = _linear(trained, ragged)
        else:
            net = TagNet(recipe, features.n_rows, features.n_flags, len(trained.names))
            tensors = trained.of(expert).items()
            net.load_state_dict({name: torch.tensor(value) for name, value in tensors})
            batch = make_batch(ragged, np.arange(len(words)), recipe, None)
            each = list(_network(net.eval(), batch))
        for row, more in zip(found, each, strict=True):
            row += np.float32(share) * more[: len(row)]
    return found


def _linear(trained: Trained, ragged: Ragged) -> list[Floats]:
    table = trained.of("linear")["table"]
    each = []
    for rows, counts in zip(ragged.clues, ragged.n_clues, strict=True):
        places = np.split(rows, np.cumsum(counts)[:-1])
        each.append(np.stack([table[place].sum(0) for place in places]))
    return each


def _network(net: TagNet, batch: Batch) -> Floats:
    with torch.no_grad():
        return np.asarray(net(batch).numpy(), np.float32)


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: its matrices rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, value in trained.tensors.items():
        if name.endswith(".table") or ".weight" in name:
            rows, scale = quantise(value)
            tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)

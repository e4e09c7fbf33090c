"""The slow twin of the graph: emissions by the code that trained, to test the graph against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from .features import Floats
from .fit import Trained, make_batch, tensors_of_copy
from .graph import quantise
from .network import TagNet


def training_emissions(trained: Trained, words: Sequence[Sequence[str]]) -> list[Floats]:
    """(T, K) for each text, which is split into words, at least one."""
    recipe, features = trained.recipe, trained.featurizer
    ragged = features.ragged(words)
    batch = make_batch(ragged, np.arange(len(words)), recipe, None)
    found = torch.zeros(())
    for copy in range(recipe.copies):
        net = TagNet(recipe, features.n_rows, features.n_flags, len(trained.names))
        tensors = tensors_of_copy(trained, copy)
        net.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
        net.eval()
        with torch.no_grad():
            found = found + net(batch) / recipe.copies
    return [row[: len(text)].numpy() for row, text in zip(found, words, strict=True)]


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: its matrices rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, value in trained.tensors.items():
        if name.endswith(".table") or ".weight" in name:
            rows, scale = quantise(value)
            tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)

"""A trained text model as files, and the outputs that its graph is tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..carried.drawing import quantise
from ..carried.keeping import files_of
from .features import Floats, split
from .fit import Tensors, Trained, make_batch, tensors_of_copy
from .graph import build_graph, n_labels
from .store import pack


def files(trained: Trained, *, int8: bool) -> Mapping[str, bytes]:
    """What answering and training on need, by name."""
    return files_of(build_graph(trained, int8=int8), trained.featurizer, pack(trained))


def n_outputs(trained: Trained) -> int:
    return n_labels(trained)


def golden(trained: Trained, texts: Sequence[str], *, int8: bool) -> list[Any]:
    """The logits of each text by the code that trained the model."""
    logits = training_logits(dequantised(trained) if int8 else trained, texts)
    return list(logits.astype(np.float64).round(6).tolist())


def training_logits(trained: Trained, texts: Sequence[str], batch: int = 256) -> Floats:
    """(n, K) by the code that trained it and not by the graph: what the graph is tested against."""
    tensors = trained.tensors
    if "bag.bias" not in tensors:
        return _network_logits(trained, texts, batch)
    table, bias = tensors["bag.table"], tensors["bag.bias"]
    bags = [trained.featurizer.bag(split(trained.featurizer.config, text)) for text in texts]
    rows = [(weights[:, None] * table[ids]).sum(0) + bias for ids, weights in bags]
    return np.array(rows, np.float32).reshape(len(texts), len(bias))


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: its tables rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, table in trained.tensors.items():
        if name.endswith(".table"):
            rows, scale = quantise(table)
            tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)


def _network_logits(trained: Trained, texts: Sequence[str], batch: int) -> Floats:
    import torch

    from .network import TextNet

    features, recipe = trained.featurizer, trained.recipe
    found = np.zeros((len(texts), n_labels(trained)), np.float32)
    for copy in range(recipe.copies):
        net = TextNet(recipe, features.n_rows, features.n_subwords + 1, n_labels(trained))
        net.load_state_dict(_as_torch(tensors_of_copy(trained, copy)))
        net.eval()
        for begin in range(0, len(texts), batch):
            ragged = features.ragged(texts[begin : begin + batch])
            with torch.no_grad():
                branches = net(make_batch(ragged, np.arange(len(ragged.bags)), recipe, None))
            found[begin : begin + batch] += sum(branches[1:], branches[0]).numpy()
    return found / np.float32(recipe.copies)


def _as_torch(tensors: Tensors) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}

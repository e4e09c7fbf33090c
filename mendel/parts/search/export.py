"""A trained search model as files, and the scores that its graph is tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..carried.keeping import files_of
from .fit import Trained
from .graph import build_graph
from .store import pack


def files(trained: Trained, *, int8: bool) -> Mapping[str, bytes]:
    """What answering and training on need, by name; the passages lie in the vocabulary's file."""
    return files_of(build_graph(trained, int8=int8), trained.featurizer, pack(trained))


def golden(trained: Trained, texts: Sequence[str], *, int8: bool) -> list[Any]:
    """The scores of each passage for each text by the slow twin."""
    from .twin import dequantised, training_scores

    scores = training_scores(dequantised(trained) if int8 else trained, texts)
    return list(scores.astype(np.float64).round(6).tolist())


def n_outputs(trained: Trained) -> int:
    """Passages that get a score."""
    return len(trained.featurizer.passages)

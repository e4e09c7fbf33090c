"""A search model on one thread, as the emitted project runs it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..carried.running import median_ms, session_of
from .features import Featurizer, Floats

BATCH = 64


class Runner:
    """Scores of all passages for each text, and how long one text takes."""

    def __init__(self, graph: bytes, featurizer: Featurizer) -> None:
        self._session = session_of(graph)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._featurizer = featurizer

    def scores(self, texts: Sequence[str]) -> Floats:
        """(n, S, P): BM25, and with vectors the cosine."""
        found = [self._run(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate(found)

    def latency_ms(self, texts: Sequence[str]) -> float:
        """Median, one text at a time."""
        return median_ms(lambda text: self._run([text]), texts)

    def _run(self, texts: Sequence[str]) -> Floats:
        arrays = self._featurizer.arrays(texts)
        [scores] = self._session.run(None, {name: arrays[name] for name in self._inputs})
        return np.asarray(scores, np.float32)

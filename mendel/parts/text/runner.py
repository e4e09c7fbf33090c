"""A graph and its featuriser on one thread, as the emitted project runs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..carried.running import median_ms, session_of
from .features import Featurizer, Floats


class Runner:
    """Logits of texts, and how long one text takes."""

    def __init__(self, graph: bytes, featurizer: Featurizer) -> None:
        self._session = session_of(graph)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._featurizer = featurizer

    def logits(self, texts: list[str], batch: int = 64) -> Floats:
        """(n, K), in the order of the texts; batches hold texts of like length."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        found: list[Any] = [None] * len(texts)
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            arrays = self._featurizer.arrays([texts[i] for i in chosen])
            [logits] = self._session.run(None, {name: arrays[name] for name in self._inputs})
            for i, row in zip(chosen, logits, strict=True):
                found[i] = row
        return np.array(found, np.float32)

    def latency_ms(self, texts: list[str]) -> float:
        """Median, one text at a time."""
        return median_ms(lambda text: self.logits([text]), texts)

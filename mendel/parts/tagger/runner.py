"""A tagger that answers: numpy and onnxruntime are all it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..carried.running import median_ms, session_of
from .chain import Chain, Floats, decode
from .features import Featurizer
from .spans import Span, spans_of

MAX_BATCH = 64  # texts that are read together
MAX_PLACES = 8192  # and their tokens, padding with them


class Runner:
    """A graph, its featuriser and its chain on one thread, as the emitted project runs them.

    names   of the labels, in the order of the tags
    """

    def __init__(
        self, graph: bytes, featurizer: Featurizer, chain: Chain, names: Sequence[str]
    ) -> None:
        self._session = session_of(graph)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._featurizer, self._chain, self._names = featurizer, chain, tuple(names)

    def answers(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in their order, none of them overlapping."""
        split = [self._featurizer.split(text) for text in texts]
        found: list[list[Span]] = [[] for _ in texts]
        for chosen in _batches([len(words) for _, words in split]):
            words = [split[i][1] for i in chosen]
            tags = decode(self.emissions(words), [len(w) for w in words], self._chain)
            for i, best in zip(chosen, tags, strict=True):
                found[i] = spans_of(split[i][0], best, self._names)
        return found

    def emissions(self, words: Sequence[Sequence[str]]) -> Floats:
        """(B, T, K) of texts that are split into words, at least one word each."""
        arrays = self._featurizer.arrays(words)
        [scores] = self._session.run(None, {name: arrays[name] for name in self._inputs})
        return np.asarray(scores, np.float32)

    def latency_ms(self, texts: Sequence[str]) -> float:
        """Median of the texts alone, from the string."""
        return median_ms(lambda text: self.answers([text]), texts)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Texts of like length together; those without a token are in no batch."""
    batches: list[list[int]] = []
    for i in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: lengths[i]):
        size = len(batches[-1]) + 1 if batches else 1
        if batches and size <= MAX_BATCH and size * lengths[i] <= MAX_PLACES:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches

"""A graph that scores texts and writes them. Numpy and a session are all it needs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import END, Featurizer, spelled, symbols
from .sampling import Sampler

MAX_PLACES = 16_384  # of a batch, padding with them
NEEDED = 6  # symbols that counts look at, at most
PROMPT = 40  # characters of a text whose next symbol is timed


class Runner:
    """What a session of the graph can do; it may be used from many threads."""

    def __init__(self, session: Any, featurizer: Featurizer) -> None:
        self._session, self._featurizer = session, featurizer

    def bits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """What each text costs, its end included: (n,)."""
        lengths = [len(symbols(text)) + 1 for text in texts]
        found = np.zeros(len(texts))
        for chosen in _batches(lengths):
            [costs] = self._session.run(
                ["bits"], self._featurizer.arrays([texts[i] for i in chosen])
            )
            for i, row in zip(chosen, costs, strict=True):
                found[i] = row[: lengths[i]].sum(dtype=np.float64)
        return found

    def write(self, prompt: str, sampler: Sampler, most: int) -> Iterator[int]:
        """The symbols after a prompt as they are drawn, until the text ends or `most` are there."""
        arrays = self._featurizer.arrays([prompt])
        told = arrays["tokens"]
        draws = sampler.uniforms(told.shape[1])
        names = ("last", "known_after", "keys_after", "values_after")
        for _ in range(most):
            last, known, keys, values = self._session.run(names, arrays)
            symbol = sampler.pick(last[0], next(draws))
            if symbol == END:
                return
            yield symbol
            one = np.array([[symbol]], np.int64)
            told = np.concatenate([told, one], 1)[:, -NEEDED:]
            hints = {name: all_[:, -1:] for name, all_ in self._featurizer.hints(told).items()}
            state = {"known": known, "keys": keys, "values": values}
            arrays = {"tokens": one, "targets": one, **hints, **state}

    def text(self, prompt: str, sampler: Sampler, most: int) -> str:
        """The prompt and what was written after it."""
        return spelled([*symbols(prompt).tolist(), *self.write(prompt, sampler, most)])

    def latency_ms(self, texts: Sequence[str]) -> float:
        """Median of the first symbol after a short prompt, from the string."""
        times = []
        for text in texts:
            started = time.perf_counter()
            list(self.write(text[:PROMPT], Sampler(), 1))
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1000


def session_of(graph: bytes) -> Any:
    """A session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Texts of like length together."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > MAX_PLACES:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

"""A graph that scores texts and writes them. Numpy and a session are all it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..carried.running import median_ms
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

    def write(
        self, prompt: str, samplers: Sequence[Sampler], most: int
    ) -> Iterator[NDArray[np.int64]]:
        """The symbols after a prompt as they are drawn, one for each sampler: (n,).

        A text that has ended goes on by ENDs; all end together, or where `most` are there.
        """
        arrays = self._featurizer.arrays([prompt] * len(samplers))
        told = arrays["tokens"]
        draws = [sampler.uniforms(told.shape[1]) for sampler in samplers]
        going = np.ones(len(samplers), bool)
        names = ("last", "known_after", "keys_after", "values_after")
        for _ in range(most):
            last, known, keys, values = self._session.run(names, arrays)
            drawn = zip(samplers, last, draws, strict=True)
            found = np.array([sampler.pick(row, next(draw)) for sampler, row, draw in drawn])
            found = np.where(going, found, END)
            going &= found != END
            if not going.any():
                return
            yield found
            one = found[:, None]
            told = np.concatenate([told, one], 1)[:, -NEEDED:]
            hints = {name: all_[:, -1:] for name, all_ in self._featurizer.hints(told).items()}
            state = {"known": known, "keys": keys, "values": values}
            arrays = {"tokens": one, "targets": one, **hints, **state}

    def texts(self, prompt: str, samplers: Sequence[Sampler], most: int) -> list[str]:
        """The prompt and what was written after it, by each sampler."""
        rows = zip(*(found.tolist() for found in self.write(prompt, samplers, most)), strict=True)
        told = symbols(prompt).tolist()
        return [spelled([*told, *row]) for row in rows] or [spelled(told)] * len(samplers)

    def latency_ms(self, texts: Sequence[str]) -> float:
        """Median of the first symbol after a short prompt, from the string."""
        return median_ms(lambda text: list(self.write(text[:PROMPT], [Sampler()], 1)), texts)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Texts of like length together."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        is_far = batch and lengths[i] > 1.25 * lengths[batch[0]] + 8  # padding takes as long
        if is_far or (batch and (len(batch) + 1) * lengths[i] > MAX_PLACES):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

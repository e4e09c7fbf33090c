"""Counts of what follows what: interpolated Kneser-Ney over symbols. Numpy only.

texts -> for each order the contexts seen, what followed each, and how much is left for shorter ones
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import END, N_SYMBOLS, symbols

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LEAST = 1e-6  # of what is left, where rounding left nothing
N_PARTS = 10  # of texts, one of which is new to the counts of the others
GAIN = 0.002  # share of bits that one byte more must save
ENOUGH = 1_000_000  # characters of text that say how long contexts should be
MAX_ORDER = 6  # symbols before, and the one after them: seven base-257 digits fit an int64


class Level:
    """All contexts of one length.

    entries   (E,) sorted keys: context * N_SYMBOLS + what follows; weights (E,) what each gets
    contexts  (R,) sorted keys; rest (R,) what is left for the context that is shorter by one
    starts    (R + 1,) where the entries of each context begin
    """

    def __init__(self, entries: Ints, weights: NDArray[Any]) -> None:
        self.entries, self.weights = entries, weights
        self.contexts, starts = np.unique(entries // N_SYMBOLS, return_index=True)
        self.starts = np.append(starts, len(entries))
        self.rest = np.maximum(1 - np.add.reduceat(weights, starts), LEAST)


@dataclass(frozen=True)
class Counts:
    """Levels from no context to the longest."""

    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        return len(self.levels) - 1

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All that `from_tensors` needs."""
        return {
            f"counts.{k}.{name}": getattr(level, name)
            for k, level in enumerate(self.levels)
            for name in ("entries", "weights")
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Counts | None:
        """The counts among a model's tensors; None where it has none."""
        n = sum(name.startswith("counts.") for name in tensors) // 2
        levels = [
            Level(tensors[f"counts.{k}.entries"], tensors[f"counts.{k}.weights"]) for k in range(n)
        ]
        return cls(tuple(levels)) if levels else None

    @classmethod
    def fitting(cls, texts: Sequence[str], order: int, max_rows: int) -> Counts:
        """Counts of contexts so long that one byte more helps little to foresee new texts.

        Longer ones know their own texts by heart, which helps nothing that corrects them.
        """
        some = texts[:: 1 + sum(map(len, texts)) // ENOUGH]
        new, old = some[::N_PARTS], [t for i, t in enumerate(some) if i % N_PARTS] or some
        k, cost = 1, np.inf
        while k < order:
            longer = float(cls.of(old, k + 1).bits(new).sum())
            if longer > (1 - GAIN) * cost:
                break
            k, cost = k + 1, longer
        return cls.within(texts, k, max_rows)

    @classmethod
    def within(cls, texts: Sequence[str], order: int, max_rows: int) -> Counts:
        """Counts of the longest contexts that leave no more than max_rows; weights of 16 bits."""
        found = cls.of(texts, order)
        while order > 1 and sum(len(level.entries) for level in found.levels) > max_rows:
            order -= 1
            found = cls.of(texts, order)
        levels = (
            Level(v.entries, v.weights.astype(np.float16).astype(np.float32)) for v in found.levels
        )
        return cls(tuple(levels))

    @classmethod
    def of(cls, texts: Sequence[str], order: int = MAX_ORDER) -> Counts:
        """Count all texts; each begins as if after ENDs.

        source   Chen and Goodman 1998: modified Kneser-Ney with three discounts a level
        """
        keys, n = np.unique(keys_of(texts, order), return_counts=True)
        levels = [_level(keys, n)]
        for k in range(order - 1, -1, -1):
            # what counts for a shorter context is before how many symbols it was seen
            keys, n = np.unique(keys % N_SYMBOLS ** (k + 1), return_counts=True)
            levels.append(_level(keys, n))
        return cls(tuple(reversed(levels)))

    def shares(self, keys: Ints) -> Floats:
        """The probability of the last symbol of each key after the others: (n,)."""
        found = np.full(len(keys), 1 / N_SYMBOLS)
        for k, level in enumerate(self.levels):
            key = keys % N_SYMBOLS ** (k + 1)
            rest, known = _look_up(level.contexts, level.rest, key // N_SYMBOLS)
            own, _ = _look_up(level.entries, level.weights, key)
            found = np.where(known, rest * found + own, found)
        return found

    def spread(self, contexts: Ints) -> NDArray[np.float32]:
        """The logarithm of every symbol's probability after each context: (n, N_SYMBOLS).

        contexts  keys of as many symbols as the longest level has
        """
        found = np.full((len(contexts), N_SYMBOLS), 1 / N_SYMBOLS, np.float32)
        for k, level in enumerate(self.levels):
            wanted = contexts % N_SYMBOLS**k
            place = np.minimum(np.searchsorted(level.contexts, wanted), len(level.contexts) - 1)
            rows = np.flatnonzero(level.contexts[place] == wanted)
            first, end = level.starts[place[rows]], level.starts[place[rows] + 1]
            n = end - first
            entries = np.arange(n.sum()) + np.repeat(first - np.cumsum(n) + n, n)
            found[rows] *= level.rest[place[rows], None].astype(np.float32)
            columns = level.entries[entries] % N_SYMBOLS
            found[np.repeat(rows, n), columns] += level.weights[entries]
        return np.log(found)

    def bits(self, texts: Sequence[str]) -> Floats:
        """What each text costs, its end included: (n,)."""
        if not texts:
            return np.zeros(0)
        costs = -np.log2(self.shares(keys_of(texts, self.order)))
        lengths = [len(symbols(text)) + 1 for text in texts]
        return np.add.reduceat(costs, np.cumsum([0, *lengths[:-1]]))


def keys_of(texts: Sequence[str], order: int) -> Ints:
    """Of every symbol and END: the `order` symbols before it and itself, as one number."""
    start = np.full(order, END)
    rows = [np.concatenate([start, symbols(text), [END]]) for text in texts]
    whole = np.concatenate(rows)
    keys = np.zeros(len(whole) - order, np.int64)
    for k in range(order + 1):
        keys = keys * N_SYMBOLS + whole[k : len(whole) - order + k]
    ends = np.cumsum([len(row) for row in rows])[:-1]
    inside = np.ones(len(keys), bool)
    for k in range(order):
        inside[ends - order + k] = False  # the last of them is the padding of the next text
    return keys[inside]


def _level(keys: Ints, n: Ints) -> Level:
    off = _discounts(n)[np.minimum(n, 3)]
    _, place = np.unique(keys // N_SYMBOLS, return_inverse=True)
    return Level(keys, (n - off) / np.bincount(place, n)[place])


def _discounts(n: Ints) -> Floats:
    """Of counts 0, 1, 2 and more: what is taken from each for what was never seen."""
    n1, n2, n3, n4 = (float((n == i).sum()) for i in range(1, 5))
    if not (n1 and n2 and n3):
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    found = [0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return np.clip(found, 0.0, [0.0, 0.95, 1.95, 2.95])


def _look_up(keys: Ints, values: Floats, wanted: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = keys[place] == wanted
    return np.where(known, values[place], 0.0), known

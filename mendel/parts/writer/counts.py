"""Counts of what follows what: interpolated Kneser-Ney over symbols. Numpy only.

texts -> for each order the contexts seen, what followed each, and how much is left for shorter ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .features import END, N_SYMBOLS, symbols

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MAX_ORDER = 6  # symbols before, and the one after them: seven base-257 digits fit an int64


@dataclass(frozen=True)
class Level:
    """All contexts of one length.

    entries   (E,) sorted keys: context * N_SYMBOLS + what follows; weights (E,) what each gets
    contexts  (R,) sorted keys; rest (R,) what is left for the context that is shorter by one
    """

    entries: Ints
    weights: Floats
    contexts: Ints
    rest: Floats


@dataclass(frozen=True)
class Counts:
    """Levels from no context to the longest."""

    levels: tuple[Level, ...]

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

    def bits(self, text: str) -> float:
        """What a text costs, its end included."""
        return float(-np.log2(self.shares(keys_of([text], len(self.levels) - 1))).sum())


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
    contexts, place = np.unique(keys // N_SYMBOLS, return_inverse=True)
    total = np.bincount(place, n)
    return Level(keys, (n - off) / total[place], contexts, np.bincount(place, off) / total)


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

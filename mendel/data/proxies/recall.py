"""Recall: keys and values stand in the text, and a key that comes again asks for its value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.data.proxies.proxy import (
    Examples,
    Ids,
    Preset,
    Proxy,
    Uniforms,
    below,
    cut,
    distinct,
    seen_before,
)


@dataclass(frozen=True)
class Recall:
    """All keys are written, then each is asked for once, among random tokens.

    The lower half of the vocabulary are keys, the upper values. With several writes each key gets
    that many values, in random order, and the latest is asked. Asked for at the key's second place.
    source   MQAR: Arora 2023 (zoology), there with n_writes=1; power is the law of the gaps' sizes
    """

    n_pairs: int
    vocab: int
    length: int
    n_writes: int = 1
    power: float = 0.01  # 1: gaps of all sizes alike

    @property
    def n_written(self) -> int:
        return self.n_writes * self.n_pairs

    @property
    def _sizes(self) -> tuple[int, ...]:
        half = self.vocab // 2
        space = self.length // 2 - self.n_written
        return half, half, self.n_written, space, self.length

    @property
    def n_numbers(self) -> int:
        return sum(self._sizes)

    def draw(self, u: Uniforms) -> Examples:
        keys_u, values_u, order_u, gaps_u, filler_u = cut(u, *self._sizes)
        n, K, W = len(u), self.n_pairs, self.n_written
        keys = distinct(keys_u, K)
        values = self.vocab // 2 + distinct(values_u, W)
        order = np.argsort(order_u, axis=1)  # (n, W); the j-th write is of key order[j] % K
        x = below(filler_u, self.vocab)
        x[:, 0 : 2 * W : 2] = np.take_along_axis(keys, order % K, 1)
        x[:, 1 : 2 * W : 2] = values
        last = np.argsort(order, axis=1).reshape(n, self.n_writes, K).max(1)
        space = np.arange(1, gaps_u.shape[1] + 1, dtype=np.float64)
        asked = 2 * W + 2 * distinct(gaps_u, K, self.power * space ** (self.power - 1))
        np.put_along_axis(x, asked, keys, 1)
        y = np.full_like(x, -1)
        np.put_along_axis(y, asked, np.take_along_axis(values, last, 1), 1)
        return Examples(x, y)


@dataclass(frozen=True)
class InContext:
    """Pairs of a key and its value, drawn again and again; each key but a new one is asked.

    A share of the pairs is noise: two tokens of a vocabulary of their own.
    source   Poli 2024 (MAD): in-context recall, and noisy with n_noise and noise
    """

    vocab: int
    length: int  # even
    n_noise: int = 0  # tokens of the vocabulary that are noise
    noise: float = 0.0  # share of the pairs

    @property
    def n_keys(self) -> int:
        return (self.vocab - self.n_noise) // 2

    @property
    def _sizes(self) -> tuple[int, ...]:
        return self.n_keys, self.length // 2, self.length // 2, self.length

    @property
    def n_numbers(self) -> int:
        return sum(self._sizes)

    def draw(self, u: Uniforms) -> Examples:
        map_u, ids_u, noisy_u, noise_u = cut(u, *self._sizes)
        K, first_noise = self.n_keys, self.vocab - self.n_noise
        ids = below(ids_u, K)
        ids[:, -1] = ids[:, 0]  # at least one is asked
        noisy = noisy_u < self.noise
        noisy[:, [0, -1]] = False
        values = np.take_along_axis(K + below(map_u, first_noise - K), ids, 1)
        x = first_noise + below(noise_u, self.n_noise)
        x[:, 0::2] = np.where(noisy, x[:, 0::2], ids)
        x[:, 1::2] = np.where(noisy, x[:, 1::2], values)
        y = np.full_like(x, -1)
        y[:, 0::2] = np.where(seen_before(ids, ~noisy) & ~noisy, values, -1)
        return Examples(x, y)


@dataclass(frozen=True)
class Fuzzy:
    """Keys and values are motifs of one to three tokens; each value token of a known key is asked.

    A text draws from n_pool pairs, so that keys come again; padding stands in front.
    source   Poli 2024 (MAD): fuzzy in-context recall, which draws from all motifs
    """

    vocab: int
    length: int
    n_pool: int = 8
    longest: int = 3  # tokens of a motif

    @property
    def n_keys(self) -> int:
        return (self.vocab - 1) // 2

    @property
    def _sizes(self) -> tuple[int, ...]:
        return len(motifs(self.n_keys, self.longest)[0]), self.n_pool, (self.length + 1) // 2

    @property
    def n_numbers(self) -> int:
        return sum(self._sizes)

    def draw(self, u: Uniforms) -> Examples:
        keys_u, values_u, ids_u = cut(u, *self._sizes)
        table, sizes, weights = motifs(self.n_keys, self.longest)
        keys = distinct(keys_u, self.n_pool, weights)
        shares = np.cumsum(weights)
        values = np.searchsorted(shares / shares[-1], values_u, side="right")
        ids = below(ids_u, self.n_pool)
        k, v = (np.take_along_axis(pool, ids, 1) for pool in (keys, values))
        ends = np.cumsum(sizes[k] + sizes[v], 1)
        kept = ends <= self.length + 1
        shift = self.length + 1 - (ends * kept).max(1, keepdims=True)
        begins = ends - sizes[k] - sizes[v] + shift
        text = np.full((len(u), self.length + 1), self.vocab - 1)
        asked = np.zeros_like(text, dtype=bool)
        again = seen_before(ids, kept)
        for j in range(self.longest):
            _place(text, begins + j, table[k, j], kept & (sizes[k] > j))
            is_there = kept & (sizes[v] > j)
            at = begins + sizes[k] + j
            _place(text, at, self.n_keys + table[v, j], is_there)
            _place(asked, at, again, is_there)
        return Examples(text[:, :-1].copy(), np.where(asked[:, 1:], text[:, 1:], -1))


def _place(text: NDArray[Any], at: Ids, what: NDArray[Any], where: NDArray[np.bool_]) -> None:
    """text[row, at] = what, where it says so."""
    rows, columns = np.nonzero(where)
    text[rows, at[rows, columns]] = what[rows, columns]


@lru_cache(maxsize=16)
def motifs(n_tokens: int, longest: int) -> tuple[Ids, Ids, Uniforms]:
    """All motifs of different tokens: (M, longest) with -1 behind them, their sizes, weights.

    The weights make each size as likely.
    """
    rows = [
        m + (-1,) * (longest - k)
        for k in range(1, longest + 1)
        for m in permutations(range(n_tokens), k)
    ]
    table = np.array(rows, np.int64)
    sizes = (table >= 0).sum(1)
    return table, sizes, 1.0 / np.bincount(sizes)[sizes]


def _recall(task: Recall, n_steps: int, batch: int, n: int = 512, N: int | None = None) -> Proxy:
    return Proxy(task, task, 2 / task.vocab, n_steps, batch, n, N)


def _pairs(task: InContext, n_steps: int, batch: int, n: int = 512, N: int | None = None) -> Proxy:
    n_values = task.vocab - task.n_noise - task.n_keys
    return Proxy(task, task, 1 / n_values, n_steps, batch, n, N)


def _fuzzy(task: Fuzzy, n_steps: int, batch: int, n: int = 512, N: int | None = None) -> Proxy:
    return Proxy(task, task, 1 / task.n_keys, n_steps, batch, n, N)


# Recurrent mixers leave the plateau of guessing in seconds only where keys are few and come often:
# with 64 keys to choose 16 from, delta nets at width 32 still guess after 400 steps.
# as published: zoology's figure 2 at 16 pairs, 64 epochs; MAD's baselines, 200 epochs at batch 128
ZOOLOGY = {"n_steps": 25_000, "batch": 256, "n": 3_000, "N": 100_000}
MAD = {"n_steps": 20_000, "batch": 128, "n": 1_280, "N": 12_800}

FAMILY: dict[str, dict[Preset, Proxy]] = {
    "mqar": {
        "seconds": _recall(Recall(8, 24, 40), 400, 32),
        "minutes": _recall(Recall(16, 64, 64), 1200, 64),
        "published": _recall(Recall(16, 8192, 256), **ZOOLOGY),
    },
    "mqar_twin": {
        "seconds": _recall(Recall(7, 28, 44, power=1.0), 400, 32),
        "minutes": _recall(Recall(20, 96, 96, power=1.0), 1200, 64),
        "published": _recall(Recall(64, 8192, 512), **ZOOLOGY),
    },
    "overwritten_recall": {
        "seconds": _recall(Recall(6, 24, 36, n_writes=2, power=1.0), 400, 32),
        "minutes": _recall(Recall(8, 40, 64, n_writes=2, power=1.0), 1200, 64),
        "published": _recall(Recall(16, 8192, 256, n_writes=2), **ZOOLOGY),
    },
    "overwritten_recall_twin": {
        "seconds": _recall(Recall(5, 32, 40, n_writes=3, power=1.0), 400, 32),
        "minutes": _recall(Recall(7, 48, 72, n_writes=3, power=1.0), 1200, 64),
        "published": _recall(Recall(16, 4096, 320, n_writes=3), **ZOOLOGY),
    },
    "in_context_recall": {
        "seconds": _pairs(InContext(32, 64), 300, 32),
        "minutes": _pairs(InContext(48, 128), 1200, 64),
        "published": _pairs(InContext(16, 128), **MAD),
    },
    "in_context_recall_twin": {
        "seconds": _pairs(InContext(38, 72), 300, 32),
        "minutes": _pairs(InContext(60, 144), 1200, 64),
        "published": _pairs(InContext(32, 256), **MAD),
    },
    "noisy_recall": {
        "seconds": _pairs(InContext(40, 64, 8, 0.2), 300, 32),
        "minutes": _pairs(InContext(64, 128, 16, 0.2), 1200, 64),
        "published": _pairs(InContext(32, 128, 16, 0.2), **MAD),
    },
    "noisy_recall_twin": {
        "seconds": _pairs(InContext(44, 80, 12, 0.4), 300, 32),
        "minutes": _pairs(InContext(72, 160, 20, 0.4), 1200, 64),
        "published": _pairs(InContext(32, 128, 16, 0.4), **MAD),
    },
    "fuzzy_recall": {
        "seconds": _fuzzy(Fuzzy(16, 64, n_pool=6, longest=2), 400, 32),
        "minutes": _fuzzy(Fuzzy(16, 128), 2000, 64),
        "published": _fuzzy(Fuzzy(16, 128), **MAD),
    },
    "fuzzy_recall_twin": {
        "seconds": _fuzzy(Fuzzy(20, 72, n_pool=7, longest=2), 400, 32),
        "minutes": _fuzzy(Fuzzy(20, 144, n_pool=10), 2000, 64),
        "published": _fuzzy(Fuzzy(32, 256), **MAD),
    },
}

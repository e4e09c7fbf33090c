"""What has to be kept: in the state for a while, in one vector, in the weights for good."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mendel.data.proxies.proxy import Examples, Ids, Preset, Proxy, Uniforms, below, cut, distinct
from mendel.spec import PartSpec


@dataclass(frozen=True)
class SelectiveCopying:
    """Tokens among blanks, then a mark and blanks, at which the tokens are asked in their order.

    source   Gu 2023 (Mamba); Poli 2024 (MAD)
    """

    vocab: int  # the last two are the blank and the mark
    length: int
    n_copied: int

    @property
    def n_numbers(self) -> int:
        return self.length - 1  # of the tokens, n_copied, and of their places, the rest

    def draw(self, u: Uniforms) -> Examples:
        n_before = self.length - self.n_copied - 1
        tokens_u, places_u = cut(u, self.n_copied, n_before)
        tokens = below(tokens_u, self.vocab - 2)
        places = np.sort(distinct(places_u, self.n_copied), axis=1)
        x = np.full((len(u), self.length), self.vocab - 2)
        np.put_along_axis(x, places, tokens, 1)
        x[:, n_before] = self.vocab - 1
        y = np.full_like(x, -1)
        y[:, n_before + 1 :] = tokens
        return Examples(x, y)


@dataclass(frozen=True)
class Compression:
    """Random tokens and a mark; from the vector at the mark alone, a decoder says all of them.

    source   Poli 2024 (MAD), whose decoder is the head of that name
    """

    vocab: int  # the last is the mark
    length: int

    @property
    def n_numbers(self) -> int:
        return self.length - 1

    def draw(self, u: Uniforms) -> Examples:
        x = np.full((len(u), self.length), self.vocab - 1)
        x[:, :-1] = below(u[:, : self.n_numbers], self.vocab - 1)
        y = x.copy()
        y[:, -1] = -1
        return Examples(x, y)


@dataclass(frozen=True)
class Memorisation:
    """Keys, each before a mark at which its value is asked: the same map in all texts and splits.

    source   Poli 2024 (MAD)
    """

    vocab: int  # the last is the mark; before it the keys, then the values
    length: int  # even
    map_seed: int = 0

    @property
    def n_keys(self) -> int:
        return (self.vocab - 1) // 2

    @property
    def n_numbers(self) -> int:
        return self.length // 2

    @cached_property
    def values(self) -> Ids:
        """(n_keys,), the value of each key."""
        found = np.random.Generator(np.random.Philox(key=self.map_seed)).permutation(self.n_keys)
        return self.n_keys + found.astype(np.int64)

    def draw(self, u: Uniforms) -> Examples:
        keys = below(u[:, : self.n_numbers], self.n_keys)
        x = np.full((len(u), self.length), self.vocab - 1)
        x[:, 0::2] = keys
        y = np.full_like(x, -1)
        y[:, 1::2] = self.values[keys]
        return Examples(x, y)


def _copy(task: SelectiveCopying, n_steps: int, batch: int, n: int, N: int | None) -> Proxy:
    return Proxy(task, task, 1 / (task.vocab - 2), n_steps, batch, n, N)


def _compress(task: Compression, n_steps: int, batch: int, n: int, N: int | None) -> Proxy:
    head = PartSpec(part="decoder", fields={"length": task.length})
    return Proxy(task, task, 1 / (task.vocab - 1), n_steps, batch, n, N, head)


def _memorise(task: Memorisation, n_steps: int, batch: int, n: int, N: int | None) -> Proxy:
    return Proxy(task, task, 1 / task.n_keys, n_steps, batch, n, N)


MAD = (20_000, 128, 1_280, 12_800)  # 200 epochs

FAMILY: dict[str, dict[Preset, Proxy]] = {
    "selective_copying": {
        "seconds": _copy(SelectiveCopying(16, 48, 8), 400, 32, 512, None),
        "minutes": _copy(SelectiveCopying(16, 128, 16), 2000, 64, 512, None),
        "published": _copy(SelectiveCopying(16, 256, 16), *MAD),
    },
    "selective_copying_twin": {
        "seconds": _copy(SelectiveCopying(20, 56, 10), 400, 32, 512, None),
        "minutes": _copy(SelectiveCopying(24, 144, 20), 2000, 64, 512, None),
        "published": _copy(SelectiveCopying(16, 256, 32), *MAD),
    },
    "compression": {
        "seconds": _compress(Compression(16, 12), 400, 32, 512, None),
        "minutes": _compress(Compression(16, 24), 3000, 64, 512, None),
        "published": _compress(Compression(16, 32), *MAD),
    },
    "compression_twin": {
        "seconds": _compress(Compression(20, 14), 400, 32, 512, None),
        "minutes": _compress(Compression(24, 28), 3000, 64, 512, None),
        "published": _compress(Compression(32, 32), *MAD),
    },
    "memorisation": {
        "seconds": _memorise(Memorisation(2048, 32), 150, 32, 256, None),
        "minutes": _memorise(Memorisation(8192, 64), 800, 64, 256, None),
        "published": _memorise(Memorisation(256, 32), *MAD),
    },
    "memorisation_twin": {
        "seconds": _memorise(Memorisation(2400, 36, map_seed=1), 150, 32, 256, None),
        "minutes": _memorise(Memorisation(9000, 64, map_seed=1), 800, 64, 256, None),
        "published": _memorise(Memorisation(320, 32, map_seed=1), *MAD),
    },
}

"""What has to be tracked: the parity of a string so far, the product of elements of a group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mendel.data.proxies.proxy import Examples, Ids, Preset, Proxy, Uniforms, below, cut

Permutation = tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """Of the tokens so far, how many are flips, modulo 2.

    Places before `first` are not asked, nor those behind a random length where `varied`.
    source   Hahn 2020, Grazzini 2024 (unlocking state tracking); flips among more tokens are ours
    """

    length: int
    vocab: int = 2
    n_flips: int = 1  # the last tokens of the vocabulary
    first: int = 1  # tokens read where it is first asked
    varied: bool = False

    @property
    def n_numbers(self) -> int:
        return self.length + 1

    def draw(self, u: Uniforms) -> Examples:
        x_u, length_u = cut(u, self.length, 1)
        x = below(x_u, self.vocab)
        y = np.cumsum(x >= self.vocab - self.n_flips, axis=1) % 2
        y[:, : self.first - 1] = -1
        if self.varied:
            y[np.arange(self.length) > below(length_u, self.length)] = -1
        return Examples(x, y)


@dataclass(frozen=True)
class WordProblem:
    """At each place the product of the group's elements so far; tokens are elements.

    source   Liu 2022 (automata), Merrill 2024 (the word problem of A5 and S5)
    """

    group: str
    length: int
    few: bool = False  # only the generators and the identity are read, not all elements

    @property
    def vocab(self) -> int:
        return len(group(self.group).table)

    @property
    def n_numbers(self) -> int:
        return self.length

    def draw(self, u: Uniforms) -> Examples:
        table, generators, _ = group(self.group)
        read = generators if self.few else np.arange(len(table))
        x = read[below(u[:, : self.length], len(read))]
        y = np.empty_like(x)
        product = np.zeros(len(u), np.int64)
        for t in range(self.length):
            y[:, t] = product = table[product, x[:, t]]
        return Examples(x, y)


class Group(NamedTuple):
    table: Ids  # (G, G), the product of i, then j; 0 is the identity
    generators: Ids  # the identity and the elements that it is made of
    elements: tuple[Permutation, ...]


# each group by permutations that generate it
GROUPS: dict[str, tuple[Permutation, ...]] = {
    # more than would do: steps of several sizes, so that few of them go all over the group
    "z60": tuple(tuple((i + step) % 60 for i in range(60)) for step in (1, 7, 22)),
    "z2xz30": (  # the other abelian group of 60
        (1, 0, *range(2, 32)),
        *((0, 1, *((i + step) % 30 + 2 for i in range(30))) for step in (1, 11)),
    ),
    "s5": ((1, 0, 2, 3, 4), (1, 2, 3, 4, 0)),
    "a5": ((1, 2, 0, 3, 4), (1, 2, 3, 4, 0)),
    "psl27": ((1, 2, 3, 4, 5, 6, 0), (0, 5, 3, 2, 4, 1, 6)),  # 168, simple as A5 is
    "a5xz2": ((1, 2, 0, 3, 4, 5, 6), (1, 2, 3, 4, 0, 5, 6), (0, 1, 2, 3, 4, 6, 5)),  # 120, as S5
}


@lru_cache(maxsize=16)
def group(name: str) -> Group:
    """All products of the generators, in the order in which they are found."""
    generators = GROUPS[name]
    one: Permutation = tuple(range(len(generators[0])))
    found = {one: 0}
    waiting = [one]
    for element in waiting:  # grows as new ones are found
        for g in generators:
            made = then(element, g)
            if made not in found:
                found[made] = len(found)
                waiting.append(made)
    table = [[found[then(a, b)] for b in waiting] for a in waiting]
    used = [0, *(found[g] for g in generators)]
    return Group(np.array(table, np.int64), np.array(used, np.int64), tuple(waiting))


def then(first: Permutation, second: Permutation) -> Permutation:
    """Where each point goes by the first and then the second."""
    return tuple(second[i] for i in first)


def _parity(
    length: int, asked: tuple[int, int], vocab: int, n_flips: int, n_steps: int, batch: int = 64
) -> Proxy:
    train = Parity(length, vocab, n_flips, varied=True)
    test = Parity(asked[1], vocab, n_flips, first=asked[0])
    return Proxy(train, test, 0.5, n_steps, batch)


def _words(
    name: str, length: int, n_steps: int, batch: int, few: bool = False, n: int | None = None
) -> Proxy:
    task = WordProblem(name, length, few)
    return Proxy(task, task, best_guess(task), n_steps, batch, n_train=n)


def best_guess(task: WordProblem) -> float:
    """Accuracy of the likeliest product at each place, by the walk's exact distribution."""
    table, generators, _ = group(task.group)
    read = generators if task.few else np.arange(len(table))
    share = np.zeros(len(table))
    share[0], found = 1.0, 0.0
    for _ in range(task.length):
        after = np.zeros_like(share)
        np.add.at(after, table[:, read].ravel(), np.repeat(share / len(read), len(read)))
        share = after
        found += float(share.max())
    return found / task.length


FAMILY: dict[str, dict[Preset, Proxy]] = {
    "parity": {
        "seconds": _parity(32, (112, 128), 2, 1, 400),
        "minutes": _parity(32, (240, 256), 2, 1, 1500),
        "published": _parity(40, (40, 256), 2, 1, 20_000, 256),
    },
    "parity_twin": {
        "seconds": _parity(36, (120, 144), 5, 2, 400),
        "minutes": _parity(36, (260, 288), 5, 2, 1500),
        "published": _parity(40, (40, 256), 7, 3, 20_000, 256),
    },
}

# of the groups one is abelian, two are not solvable: no state of bounded depth tracks those
WORDS = {"word_z60": "z60", "word_a5": "a5", "word_s5": "s5"}
WORDS |= {"word_z60_twin": "z2xz30", "word_a5_twin": "psl27", "word_s5_twin": "a5xz2"}


def words(name: str, preset: Preset) -> Proxy:
    """Made when asked for: a group's table takes a moment."""
    is_twin = name.endswith("_twin")
    if preset == "published":
        return _words(WORDS[name], 24 if is_twin else 20, 50_000, 512, n=800_000)
    if preset == "minutes":
        return _words(WORDS[name], 20 if is_twin else 16, 3_000, 64)
    return _words(WORDS[name], 14 if is_twin else 12, 400, 64, few=True)

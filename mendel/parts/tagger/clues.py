"""Clues: what a linear model weighs at a place. The word, its neighbours, and its gazetteers.

place -> rows of a table of tag scores that holds only what training has seen. numpy only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .clusters import NO_NAMES, Names
from .words import MAX_WORD, key_of, shapes

CACHE = 100_000  # words whose clues are remembered
REACH = (0, -1, 1, -2, 2)  # places that a place looks at, itself first

Near = tuple[list[int], ...]  # what a word means to the place that sees it at each of REACH


class Clues:
    """Rows for the clues that training has seen often enough.

    keys      (R,) uint32, crc32 of clue i, which has row i + 1; row 0 is padding
    clusters  of words, which are clues too
    """

    def __init__(self, keys: NDArray[np.uint32], clusters: Names = NO_NAMES) -> None:
        self.keys, self.clusters = keys, clusters
        self.row = {key: i + 1 for i, key in enumerate(keys.tolist())}
        self._cache: dict[str, Near] = {}

    @property
    def n_rows(self) -> int:
        return len(self.keys) + 1

    @classmethod
    def fit(
        cls,
        texts: Iterable[tuple[Sequence[str], NDArray[np.float32]]],
        min_count: int,
        max_rows: int,
        clusters: Names = NO_NAMES,
    ) -> Clues:
        """Count the clues of texts (their words, their flags); rows go to the frequent ones."""
        count: Counter[int] = Counter()
        known: dict[str, Near] = {}

        def near(word: str) -> Near:
            if word not in known:
                known[word] = _near(word, clusters)
            return known[word]

        for words, flags in texts:
            for keys in _places(words, flags, near):
                count.update(keys)
        kept = [(key, n) for key, n in count.items() if n >= min_count]
        kept.sort(key=lambda item: (-item[1], item[0]))  # ties by key: a fit can be repeated
        return cls(np.array([key for key, _ in kept[:max_rows]], np.uint32), clusters)

    def rows(self, words: Sequence[str], flags: NDArray[np.float32]) -> list[list[int]]:
        """The rows of each place; flags (T, F) as Featurizer makes them."""
        found = self.row
        places = _places(words, flags, self._known)
        return [[found[key] for key in keys if key in found] for keys in places]

    def knows(self, word: str) -> bool:
        """Has the word itself a row, where it stands?"""
        return key_of("0w" + unicodedata.normalize("NFKC", word).lower()) in self.row

    def _known(self, word: str) -> Near:
        """The keys of a word that have rows."""
        cached = self._cache.get(word)
        if cached is None:
            every = _near(word, self.clusters)
            cached = tuple([key for key in keys if key in self.row] for keys in every)
            if len(self._cache) < CACHE:
                self._cache[word] = cached
        return cached


def _near(word: str, clusters: Names) -> Near:
    """Keys of a word, as it is seen from its own place and from those beside it."""
    form = unicodedata.normalize("NFKC", word)
    short = form.lower()[:MAX_WORD]
    names = ["w" + form.lower(), *("h" + shape for shape in shapes(form))]
    own = [*names, "d" + re.sub(r"\d", "0", short)]
    for n in range(1, min(4, len(short)) + 1):
        own += ["p" + short[:n], "s" + short[-n:]]
    like = clusters.of(word)
    own, names = own + like, names + like
    seen = [own, names, names, names[:1] + like, names[:1] + like]
    return tuple(
        [key_of(f"{at}{name}") for name in found] for at, found in zip(REACH, seen, strict=True)
    )


def _places(
    words: Sequence[str], flags: NDArray[np.float32], near: Callable[[str], Near]
) -> list[list[int]]:
    """Keys of each place. No word can be the mark of a text's end: it has white space in it."""
    each = [near(word) for word in ("\n", "\n", *words, "\n", "\n")]
    up: list[list[int]] = [[] for _ in words]
    for i, k in zip(*(places.tolist() for places in np.nonzero(flags)), strict=True):
        up[i].append(k)
    places = []
    for i, word in enumerate(words):
        keys = list(each[i + 2][0])
        for slot, at in enumerate(REACH[1:], 1):
            keys += each[i + 2 + at][slot]
        for at in REACH[:3]:
            if 0 <= i + at < len(words):
                keys += [key_of(f"{at}g{k}") for k in up[i + at]]
        if up[i]:
            shape = shapes(word)[1]
            keys += [key_of(f"g{k}{shape}") for k in up[i]]
        places.append(keys)
    return places

"""Words by the company they keep: those with like neighbours share a cluster. numpy only.

Learned from any text, no label needed, so that a word that no labelled row has is still known by
its cluster. Levels: few wide clusters, many narrow ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .words import key_of


class Clusters(NamedTuple):
    """Clusters of words; no word can be read from them, and each can be found.

    keys  (W,) uint32, crc32 of the words in lower case, in order
    ids   (W, L) uint16, the cluster of each word at each level
    """

    keys: NDArray[np.uint32]
    ids: NDArray[np.uint16]


NONE = Clusters(np.zeros(0, np.uint32), np.zeros((0, 0), np.uint16))
UNKNOWN = ["c?"]  # what a word without a cluster has, where others have one


class Names:
    """A word's clusters as names that features are made of."""

    def __init__(self, clusters: Clusters) -> None:
        self._place = {key: i for i, key in enumerate(clusters.keys.tolist())}
        self._ids = clusters.ids.tolist()

    def of(self, word: str) -> list[str]:
        """A name for each level; nothing where no text had clusters."""
        if not self._place:
            return []
        place = self._place.get(key_of_word(word))
        if place is None:
            return UNKNOWN
        return [f"c{level}:{n}" for level, n in enumerate(self._ids[place])]


NO_NAMES = Names(NONE)


def key_of_word(word: str) -> int:
    return key_of(word.lower())

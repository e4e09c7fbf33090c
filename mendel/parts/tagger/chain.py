"""The best tags of a text, by scores of each token and of each step between tokens. numpy only.

score(tags) = start[tag_0] + sum of emissions[t, tag_t] + sum of transitions[tag_t, tag_t+1]
+ end[tag_last]                                                        Lafferty 2001
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FORBIDDEN = -1e4  # the score of a step that no text may take


class Chain(NamedTuple):
    """The scores that do not depend on the text, K tags."""

    transitions: Floats  # (K, K), from the row's tag to the column's
    start: Floats  # (K,)
    end: Floats  # (K,)

    def save(self, file: Path | BinaryIO) -> None:
        np.savez_compressed(file, transitions=self.transitions, start=self.start, end=self.end)

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Chain:
        with np.load(file, allow_pickle=False) as data:
            return cls(data["transitions"], data["start"], data["end"])


def forbidden(n_labels: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(K, K) steps and (K,) starts that break BIO: a label goes on only where it has begun."""
    tags = np.arange(1 + 2 * n_labels)
    goes_on = (tags > 0) & (tags % 2 == 0)
    same = (tags[:, None] == tags - 1) | (tags[:, None] == tags)
    return goes_on & ~same, goes_on


def decode(emissions: Floats, lengths: Sequence[int], chain: Chain) -> list[list[int]]:
    """The best tags of each text (Viterbi 1967).

    emissions  (B, T, K); what lies past a text's length is ignored
    returns    per text, as many tags as its length
    """
    return [_best(emissions[i, :n], chain) for i, n in enumerate(lengths)]


def _best(emissions: Floats, chain: Chain) -> list[int]:
    if not len(emissions):
        return []
    into = np.ascontiguousarray(chain.transitions.T)  # (to, from)
    every = np.arange(len(into))
    best = chain.start + emissions[0]
    came_from = []
    for emission in emissions[1:]:
        scores = into + best
        previous = scores.argmax(1)
        came_from.append(previous)
        best = scores[every, previous] + emission
    tag = int((best + chain.end).argmax())
    tags = [tag]
    for previous in reversed(came_from):
        tag = int(previous[tag])
        tags.append(tag)
    return tags[::-1]

"""Pieces of passages that stand for queries: what vectors learn from where nobody asked yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHORTEST, LONGEST = 3, 12  # words of a piece
WORD_DROP = 0.3  # share of its words that a piece lacks


def crops(
    words: Sequence[Sequence[str]], n: int, chance: np.random.Generator
) -> list[tuple[list[str], int]]:
    """n pieces, each with the number of the passage it is from; passages take turns.

    source   the inverse cloze task (Lee et al. 2019) with words left out
    """
    found = []
    order = np.concatenate([chance.permutation(len(words)) for _ in range(-(-n // len(words)))])
    for i in order[:n].tolist():
        length = min(int(chance.integers(SHORTEST, LONGEST + 1)), len(words[i]))
        begin = int(chance.integers(0, len(words[i]) - length + 1))
        piece = words[i][begin : begin + length]
        kept = [word for word in piece if chance.random() >= WORD_DROP]
        found.append((kept or list(piece), i))
    return found

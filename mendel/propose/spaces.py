"""What a search walks in: designs, their neighbours, and their features. One protocol, one space.

A candidate is anything that can be hashed; a search looks at it through its space alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from mendel.types import InputError

Floats = Any  # arrays of float64 or float32
Ints = Any
Rng = np.random.Generator
C = TypeVar("C", bound=Hashable)
Picks = tuple[int, ...]


class Space(Protocol[C]):
    """What a search needs to know of the designs that it walks among."""

    def everything(self, at_most: int) -> Sequence[C] | None:
        """All candidates in a fixed order; None where there are more than `at_most`."""
        ...

    def draw(self, rng: Rng) -> C: ...

    def neighbours(self, candidate: C) -> Sequence[C]:
        """All that are one change away, the candidate itself not among them."""
        ...

    def features(self, candidates: Sequence[C]) -> Floats:
        """(n, F): near rows should score alike. Units are the space's: each column counts as it
        is, none is rescaled."""
        ...


def one_hot(picks: Ints, sizes: Sequence[int]) -> Floats:
    """(n, fields) of choices -> (n, sum of sizes) of 0 and 1."""
    return np.concatenate(
        [picks[:, [i]] == np.arange(size)[None] for i, size in enumerate(sizes)], axis=1
    ).astype(np.float32)


@dataclass(frozen=True)
class Choices:
    """A choice a field, each field independent of the others.

    sizes    how many choices each field has
    encode   (n, fields) ints -> (n, F) floats; None: one column a choice
    raises   InputError for a field without choices
    """

    sizes: tuple[int, ...]
    encode: Callable[[Ints], Floats] | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(
                f"sizes={self.sizes} leaves a field without a choice. Wanted fields of 1 choice "
                "or more. Take the empty field out."
            )

    def everything(self, at_most: int) -> Sequence[Picks] | None:
        if math.prod(self.sizes) > at_most:
            return None
        return list(itertools.product(*map(range, self.sizes)))

    def draw(self, rng: Rng) -> Picks:
        return tuple(int(i) for i in rng.integers(self.sizes))

    def neighbours(self, candidate: Picks) -> Sequence[Picks]:
        return [
            (*candidate[:i], other, *candidate[i + 1 :])
            for i, size in enumerate(self.sizes)
            for other in range(size)
            if other != candidate[i]
        ]

    def features(self, candidates: Sequence[Picks]) -> Floats:
        picks = np.array(candidates, dtype=np.int64).reshape(len(candidates), len(self.sizes))
        return one_hot(picks, self.sizes) if self.encode is None else self.encode(picks)

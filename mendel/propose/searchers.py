"""Searches that learn from scores alone: random, evolution, hill climbing; and what a search is.

All stand behind one protocol, so that what a surrogate is worth can be told. Whoever asks twice
before he tells gets two candidates. Nothing is proposed twice: where a method would, it is told
the score that is known, as often as it asks, and goes on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol

import numpy as np

from mendel.propose.spaces import C, Space
from mendel.types import InputError

MAX_REPEATS = 200  # known candidates in a row, then a random one: the method is stuck
MAX_DRAWS, FEW = 1_000, 20_000  # where no draw is new, all are looked through if they are few


class Searcher(Protocol[C]):
    """Asks for trials and is told their scores; a higher score is better."""

    def ask(self) -> C:
        """A candidate that was not asked for before; raises InputError where none is left."""
        ...

    def tell(self, candidate: C, score: float) -> None:
        """NaN: the trial failed. It never wins, and is not proposed again. Told once or many
        times, asked for or not: the last score counts."""
        ...


class Remembering(Generic[C]):
    """What every search keeps: what was asked, what was told."""

    def __init__(self, space: Space[C], seed: int) -> None:
        self.space, self.rng = space, np.random.default_rng(seed)
        self.told: dict[C, float] = {}
        self.asked: dict[C, None] = {}  # in flight, in the order of asking

    def tell(self, candidate: C, score: float) -> None:
        self.asked.pop(candidate, None)
        self.told[candidate] = score if math.isfinite(score) else math.nan

    def is_new(self, candidate: C) -> bool:
        return candidate not in self.told and candidate not in self.asked

    def lease(self, candidate: C) -> C:
        self.asked[candidate] = None
        return candidate

    def fresh(self) -> C:
        """A random candidate that is new."""
        for _ in range(MAX_DRAWS):
            candidate = self.space.draw(self.rng)
            if self.is_new(candidate):
                return candidate
        left = [c for c in self.space.everything(FEW) or () if self.is_new(c)]
        if left:
            return left[int(self.rng.integers(len(left)))]
        raise InputError(
            f"{len(self.told)} candidates are told and {len(self.asked)} in flight. Wanted a new "
            "one, and none was found. Stop here, or widen the space."
        )


class RandomSearch(Remembering[C]):
    """Without replacement."""

    def ask(self) -> C:
        return self.lease(self.fresh())


class Evolution(Remembering[C]):
    """Regularised evolution: the best of a few of the living has a mutant, the oldest dies.

    source   Real et al., 2019, algorithm 1; there 100 live and 25 meet, here by default a fifth
             as many
    """

    def __init__(self, space: Space[C], seed: int, population: int = 20, meeting: int = 5) -> None:
        super().__init__(space, seed)
        self.n_first, self.meeting = population, meeting
        self.living: deque[tuple[C, float]] = deque(maxlen=population)
        self.n_asked = 0

    def ask(self) -> C:
        self.n_asked += 1
        if self.n_asked <= self.n_first or not self.living:
            return self.lease(self.fresh())
        for _ in range(MAX_REPEATS):
            child = self._child()
            if self.is_new(child):
                return self.lease(child)
            if child in self.told:
                self._live(child, self.told[child])
        return self.lease(self.fresh())

    def tell(self, candidate: C, score: float) -> None:
        super().tell(candidate, score)
        self._live(candidate, score)

    def _live(self, candidate: C, score: float) -> None:
        self.living.append((candidate, score if math.isfinite(score) else -math.inf))

    def _child(self) -> C:
        n = min(self.meeting, len(self.living))
        met = self.rng.choice(len(self.living), size=n, replace=False)
        parent = max((self.living[i] for i in met), key=lambda one: one[1])[0]
        near = self.space.neighbours(parent)
        return near[int(self.rng.integers(len(near)))] if near else parent


class HillClimb(Remembering[C]):
    """The first neighbour that is better becomes the place to look from; where none is, a random
    restart."""

    def __init__(self, space: Space[C], seed: int) -> None:
        super().__init__(space, seed)
        self.place: C | None = None
        self.left: Iterator[C] = iter(())

    def ask(self) -> C:
        while (candidate := next(self.left, None)) is not None:
            if candidate in self.told:
                self._step(candidate, self.told[candidate])
            elif self.is_new(candidate):
                return self.lease(candidate)
        self.place = None
        return self.lease(self.fresh())

    def tell(self, candidate: C, score: float) -> None:
        super().tell(candidate, score)
        self._step(candidate, score)

    def _step(self, candidate: C, score: float) -> None:
        here = -math.inf if self.place is None else self.told[self.place]
        if self.place is None or score > here or math.isnan(here):
            self.place = candidate
            near = self.space.neighbours(candidate)
            self.left = iter([near[i] for i in self.rng.permutation(len(near))])

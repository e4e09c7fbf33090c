"""A search guided by the surrogate: what is expected to improve most on the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from mendel.propose.searchers import Remembering
from mendel.propose.spaces import C, Floats, Ints, Rng, Space
from mendel.propose.surrogate import (
    Rows,
    Shape,
    Surrogate,
    believing,
    expected_improvement,
    fit,
    joined,
    standardised,
)
from mendel.types import InputError

N_FIRST = 4  # random ones, where no other task says anything
N_HEDGE = 10  # where others do say something, one in so many is random: they may mislead
N_ALL = 20_000  # candidates that are all looked at; where there are more, some are
N_BEST, N_DRAWN = 20, 1_000  # the neighbours of this many, and random ones
N_OWN, N_OTHERS = 160, 120  # trials that a fit sees: more take too long
GROWN = 1.1  # how much more must be told until the surrogate's shape is looked at again
N_SAMPLE = 200  # random candidates that say what distance is usual


@dataclass(frozen=True)
class Task(Generic[C]):
    """What was tried on another task. scores: NaN for a failure."""

    candidates: Sequence[C]
    scores: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.candidates) != len(self.scores):
            raise InputError(
                f"An earlier task has {len(self.candidates)} candidates and {len(self.scores)} "
                "scores. Wanted a score each. Give NaN for a failure."
            )


class Guided(Remembering[C]):
    """Expected improvement of a Gaussian process over the space's features.

    earlier   other tasks on the same space; each counts as far as it proves to be kin
    """

    def __init__(self, space: Space[C], seed: int, earlier: Sequence[Task[C]] = ()) -> None:
        super().__init__(space, seed)
        self.all = space.everything(N_ALL)
        self.all_rows = self._rows(self.all or ())
        self.place = {c: i for i, c in enumerate(self.all or ())}
        self.unit = self._usual_distance()
        self.shape, self.n_shaped = Shape(), 0  # as of so many told
        self.leaders: list[C] = []  # of other tasks
        self.others = self._learnt([task for task in earlier if np.isfinite(task.scores).any()])

    def ask(self) -> C:
        scores = np.fromiter(self.told.values(), dtype=np.float64, count=len(self.told))
        if self._is_blind(scores):
            return self.lease(self.fresh())
        candidates, rows = self._candidates(scores)
        worth = self._worth(rows, self._own(scores))
        worth[self._taken(candidates)] = -np.inf
        best = np.flatnonzero(worth >= worth.max())
        candidate = candidates[int(self.rng.choice(best))]
        return self.lease(candidate if self.is_new(candidate) else self.fresh())

    def _is_blind(self, scores: Floats) -> bool:
        """Whether it is a random one's turn."""
        if self.others is None:
            return int(np.isfinite(scores).sum()) < N_FIRST
        return len(scores) % N_HEDGE == N_HEDGE - 1

    def _worth(self, rows: Rows, own: Sequence[C]) -> Floats:
        """Of each candidate: expected improvement; before the first score, what is expected."""
        surrogate = self._fitted(own) if own else self.others
        assert surrogate is not None
        if self.asked:
            surrogate = believing(surrogate, self._rows(list(self.asked)))
        mean, deviation = surrogate.expects(rows)
        if not own:
            return mean
        best = float(surrogate.expects(self._rows(own))[0].max())
        return expected_improvement(mean, deviation, best)

    def _fitted(self, own: Sequence[C]) -> Surrogate:
        scores, rows = np.array([self.told[c] for c in own]), self._rows(own)
        if self.others is None:
            z = standardised(scores)
        else:
            like, doubt = self.others.expects(rows)
            z = standardised(scores, like, float(doubt.mean()))
            rows, z = joined(rows, self.others.rows), np.concatenate([z, self.others.z])
        due = len(self.told) >= self.n_shaped * GROWN
        found = fit(rows, z, self.unit, self.shape, rounds=int(due))
        if due:
            self.shape, self.n_shaped = found.shape, len(self.told)
        return found

    def _learnt(self, earlier: Sequence[Task[C]]) -> Surrogate | None:
        """What other tasks say together; None where nothing does."""
        if not earlier:
            return None
        parts, targets = [], []
        for i, task in enumerate(earlier):
            scores = np.array(task.scores, dtype=np.float64)
            kept = subset(scores, max(2, N_OTHERS // len(earlier)), self.rng)
            parts.append(self._rows([task.candidates[j] for j in kept], i + 1))
            targets.append(standardised(scores[kept]))
            self.leaders += [task.candidates[j] for j in _best(scores, N_BEST)]
        rows = parts[0]
        for part in parts[1:]:
            rows = joined(rows, part)
        found = fit(rows, np.concatenate(targets), self.unit, self.shape, rounds=3)
        self.shape = found.shape
        return found

    def _own(self, scores: Floats) -> list[C]:
        """Told candidates that a fit sees; none where all have failed."""
        if not np.isfinite(scores).any():
            return []
        told = list(self.told)
        return [told[i] for i in subset(scores, N_OWN, self.rng)]

    def _candidates(self, scores: Floats) -> tuple[Sequence[C], Rows]:
        """What is looked at; some of it may be known."""
        if self.all is not None:
            return self.all, self.all_rows
        told = list(self.told)
        best = [told[i] for i in _best(scores, N_BEST)]
        near = [n for c in best + self.leaders for n in self.space.neighbours(c)]
        drawn = [self.space.draw(self.rng) for _ in range(N_DRAWN)]
        found = list(dict.fromkeys(near + self.leaders + drawn))
        return found, self._rows(found)

    def _taken(self, candidates: Sequence[C]) -> list[int]:
        """Indices of those that were asked for or told."""
        if candidates is self.all:
            return [self.place[c] for c in (*self.told, *self.asked)]
        return [i for i, c in enumerate(candidates) if not self.is_new(c)]

    def _rows(self, candidates: Sequence[C], task: int = 0) -> Rows:
        return Rows(self._features(candidates), np.full(len(candidates), task, dtype=np.int64))

    def _features(self, candidates: Sequence[C]) -> Floats:
        return np.asarray(self.space.features(candidates), dtype=np.float32)

    def _usual_distance(self) -> float:
        """Mean squared distance of two random candidates, 1 where all are the same."""
        drawn = self._features([self.space.draw(self.rng) for _ in range(N_SAMPLE)])
        return 2 * float(drawn.var(axis=0).sum()) or 1.0


def subset(scores: Floats, at_most: int, rng: Rng) -> Ints:
    """Indices of what a fit sees: all; or the best half, a quarter of the latest, and random
    ones. In their order."""
    n = len(scores)
    if n <= at_most:
        return np.arange(n)
    is_kept = np.zeros(n, dtype=bool)
    is_kept[_best(scores, at_most // 2)] = True
    is_kept[n - at_most // 4 :] = True
    left = np.flatnonzero(~is_kept)
    is_kept[rng.choice(left, at_most - int(is_kept.sum()), replace=False)] = True
    return np.flatnonzero(is_kept)


def _best(scores: Floats, at_most: int) -> Ints:
    """Indices of the highest, failures last; in no order."""
    if len(scores) <= at_most:
        return np.arange(len(scores))
    return np.argpartition(-np.nan_to_num(scores, nan=-np.inf), at_most)[:at_most]

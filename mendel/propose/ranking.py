"""Designs ranked by what the surrogate expects of them, from what was learned on this task and
on others.

features of designs -> one column a number, one a word -> Gaussian process -> expected improvement
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mendel.propose.guided import subset
from mendel.propose.memory import Memory, Tried
from mendel.propose.novelty import Row, pieces
from mendel.propose.spaces import Floats, Ints
from mendel.propose.surrogate import (
    Rows,
    Shape,
    Surrogate,
    believing,
    expected_improvement,
    fit,
    given,
    joined,
    points,
    standardised,
)
from mendel.spec import Recipe
from mendel.types import Digest

Features = tuple[Ints, Floats]  # columns, and the number in each
N_OWN, N_OTHERS = 160, 120  # designs that a fit sees: more take too long
N_FLYING = 160  # in flight that a fit believes in: the latest of a thousand
N_LEAST = 4  # designs with a score; below it nothing is expected of anything
GROWN = 1.15  # how much more must be tried until the surrogate's shape is looked at again
N_KEPT = 1 << 13  # rows of features that are remembered
SAME = 1e-5  # numbers that differ by less are one
FIRST_NOISE = 0.1  # of the variance of the signal: trials are a few seeds
ROUNDS = 3  # of looking at each field of the shape


@dataclass(frozen=True)
class Expected:
    """Of some designs, (n,) each.

    worth      expected improvement on the best so far, in the surrogate's own units
    gain       the same in points of the score, as are mean, deviation and best
    best       the best score so far
    rows       (n, F) features; known: those of the designs tried that the surrogate saw
    """

    worth: Floats
    gain: Floats
    mean: Floats
    deviation: Floats
    best: float
    rows: Floats
    known: Floats

    def newness(self, i: int) -> float:
        """Share of the features in which it differs from the nearest design tried."""
        differs = np.abs(self.known - self.rows[i]) > SAME
        return float(differs.sum(axis=1).min() / self.rows.shape[1])


class Ranking:
    """A function of the memories alone: it is told after each turn, and asked whenever.

    own      of this task
    others   of other tasks and scales, in a fixed order
    """

    def __init__(self, own: Memory, others: Mapping[Digest, Memory], seed: int) -> None:
        self.own, self.others, self.seed = own, others, seed
        self.due = float(N_LEAST)
        self.sample: tuple[list[Tried], Floats] = ([], np.zeros(0))  # that the shape is fitted to
        self.shape: tuple[Shape, float] | None = None  # and the usual squared distance
        self.known: dict[Digest, Features] = {}
        self.flats: dict[int, tuple[Row, Features]] = {}
        self.columns: dict[str, int] = {}  # of each name of a feature, in the order of coming

    def learn(self) -> None:
        """After a turn: what the next look at the shape will see is laid aside at once, so that
        nothing depends on when somebody asks."""
        if len(self.own.tried) >= self.due:
            self.due = len(self.own.tried) * GROWN
            self.sample, self.shape = self._sample(), None

    def features(self, key: Digest, recipe: Recipe) -> Features:
        if key not in self.known:
            if len(self.known) >= N_KEPT:
                self.known.clear()
            plain, *parts = pieces(recipe)
            told = [flat(plain, self.columns), *map(self._flat, parts)]
            columns, values = zip(*told, strict=True)
            self.known[key] = np.concatenate(columns), np.concatenate(values)
        return self.known[key]

    def _flat(self, row: Row) -> Features:
        """Of rows that many designs share; each is kept beside what it gave, so that its id is
        nobody else's."""
        if id(row) not in self.flats:
            if len(self.flats) >= N_KEPT:
                self.flats.clear()
            self.flats[id(row)] = row, flat(row, self.columns)
        return self.flats[id(row)][1]

    def expects(
        self, designs: Sequence[tuple[Digest, Recipe]], flying: Sequence[tuple[Digest, Recipe]]
    ) -> Expected | None:
        """Of each design, where those in flight come out as expected; None: too little is known.

        designs   key and canonical recipe, as are those in flight
        """
        tried, scores = self._sample()
        if np.isfinite(scores).sum() < N_LEAST:
            return None
        others = [self._of(memory) for memory in self.others.values()]
        others = [other for other in others if np.isfinite(other[1]).sum() >= N_LEAST]
        groups = [[(t.key, t.recipe) for t in known] for known, _ in others]
        own = [(t.key, t.recipe) for t in tried]
        parts = self._rows([own, list(designs), list(flying)[-N_FLYING:], *groups])
        surrogate, scale = self._fitted(parts[0], scores, parts[3:], [s for _, s in others])
        best = float(surrogate.expects(parts[0])[0].max())
        if flying:
            surrogate = believing(surrogate, parts[2])
        mean, deviation = surrogate.expects(parts[1])
        gain = expected_improvement(mean, deviation, best)
        top = float(np.nanmax(scores))
        return Expected(
            worth=gain,
            gain=scale * gain,
            mean=top + scale * (mean - best),
            deviation=scale * deviation,
            best=top,
            rows=parts[1].features,
            known=parts[0].features,
        )

    def _fitted(
        self, rows: Rows, scores: Floats, others: Sequence[Rows], told: Sequence[Floats]
    ) -> tuple[Surrogate, float]:
        """The surrogate, and the points of the score that a unit of its scale is worth."""
        shape, unit = self._shape()
        if not others:
            z = standardised(scores)
            return given(rows, z, unit, shape), points(scores, z)
        before, known = others[0], [standardised(each) for each in told]
        for each in others[1:]:
            before = joined(before, each)
        like, doubt = given(before, np.concatenate(known), unit, shape).expects(rows)
        z = standardised(scores, like, float(doubt.mean()))
        both = joined(rows, before)
        return given(both, np.concatenate([z, *known]), unit, shape), points(scores, z)

    def _shape(self) -> tuple[Shape, float]:
        """Of the sample laid aside; fitted when it is first needed."""
        if self.shape is None:
            tried, scores = self.sample
            if np.isfinite(scores).sum() < N_LEAST:
                [rows] = self._rows([[(t.key, t.recipe) for t in self._sample()[0]]])
                return Shape(noise=FIRST_NOISE), _usual(rows)
            [rows] = self._rows([[(t.key, t.recipe) for t in tried]])
            start = Shape(noise=FIRST_NOISE)
            found = fit(rows, standardised(scores), _usual(rows), start, ROUNDS)
            self.shape = found.shape, _usual(rows)
        return self.shape

    def _sample(self) -> tuple[list[Tried], Floats]:
        return self._of(self.own, N_OWN)

    def _of(self, memory: Memory, at_most: int = 0) -> tuple[list[Tried], Floats]:
        """What a fit sees of a task; failures are NaN."""
        at_most = at_most or max(2, N_OTHERS // len(self.others))
        values = np.array(memory.values)
        kept = subset(values, at_most, np.random.default_rng([self.seed, len(values)]))
        return [memory.order[i] for i in kept], values[kept]

    def _rows(self, groups: Sequence[Sequence[tuple[Digest, Recipe]]]) -> list[Rows]:
        """Each group, around the mean of the first one; the first three are of this task, each
        later one of a task of its own."""
        told = [self.features(key, recipe) for group in groups for key, recipe in group]
        found = encoded(told, list(self.columns))
        ends = np.cumsum([len(group) for group in groups])
        found -= found[: len(groups[0])].mean(axis=0)
        return [
            Rows(part, np.full(len(part), max(0, i - 2), dtype=np.int64))
            for i, part in enumerate(np.split(found, ends[:-1]))
        ]


def _usual(rows: Rows) -> float:
    """Mean squared distance of two of them, 1 where all are the same."""
    return 2 * float(rows.features.var(axis=0).sum()) or 1.0


def encoded(designs: Sequence[Features], names: Sequence[str]) -> Floats:
    """(n, F) float32: the columns that any of them has, in the order of their names; else 0."""
    columns = np.concatenate([one[0] for one in designs])
    is_used = np.zeros(len(names), dtype=bool)
    is_used[columns] = True
    used = sorted(np.flatnonzero(is_used).tolist(), key=names.__getitem__)
    place = np.zeros(len(names), dtype=np.int64)
    place[used] = np.arange(len(used))
    found = np.zeros((len(designs), len(used)), dtype=np.float32)
    rows = np.repeat(np.arange(len(designs)), [len(one[0]) for one in designs])
    found[rows, place[columns]] = np.concatenate([one[1] for one in designs])
    return found


def flat(row: Mapping[str, float | str], columns: dict[str, int]) -> Features:
    """A word is a column of its own, in which a design has 1.

    columns   of the names; new ones are added
    """
    found, values = [], []
    for name, value in row.items():
        is_word = isinstance(value, str)
        found.append(columns.setdefault(f"{name}={value}" if is_word else name, len(columns)))
        values.append(1.0 if is_word else value)
    return np.array(found, dtype=np.int64), np.array(values, dtype=np.float32)

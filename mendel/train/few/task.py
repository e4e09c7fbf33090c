"""What few-label learning starts from: labelled rows, unlabelled texts, label names."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.text.fit import Examples
from mendel.types import InputError

Floats = NDArray[np.float32]

MAX_UNLABELED = 20_000  # texts that are used: more cost the square, in time
LABEL_WEIGHT = 2.0  # of a labelled row in the data that is handed on


@dataclass(frozen=True)
class Parts:
    """Rows of the labelled texts, of the unlabelled ones, of the names."""

    labelled: Floats
    pool: Floats
    names: Floats


@dataclass(frozen=True)
class Task:
    """n labelled rows, m unlabelled ones, K labels.

    pool      the unlabelled texts, each once, none of them labelled
    wanted    (n, K) one where the label is
    deadline  time.monotonic() after which it gives up
    """

    labelled: Examples
    pool: Sequence[str]
    wanted: Floats
    deadline: float

    @classmethod
    def of(cls, labelled: Examples, unlabeled: Sequence[str], seed: int, deadline: float) -> Task:
        """Raises InputError where there is nothing to learn from, or no single label a row."""
        if labelled.kind != "classify" or labelled.targets is not None:
            raise InputError(
                f"unlabelled text cannot be used here. Got rows of kind {labelled.kind}. "
                "Wanted kind classify, one label a row. Leave out the unlabelled text."
            )
        wanted = np.eye(len(labelled.names), dtype=np.float32)[labelled.labels]
        return cls(labelled, _pool(labelled.texts, unlabeled, seed), wanted, deadline)

    @property
    def texts(self) -> list[str]:
        """All that gets a vector: labelled, unlabelled, names."""
        return [*self.labelled.texts, *self.pool, *map(_spoken, self.labelled.names)]

    @property
    def named(self) -> Floats:
        """(K, K): each name is a row of its own label."""
        return np.eye(len(self.labelled.names), dtype=np.float32)

    @property
    def prior(self) -> Floats:
        """(K,) shares of the labels among the labelled rows, none of them zero."""
        counts = self.wanted.sum(0) + 1
        return np.asarray(counts / counts.sum(), np.float32)

    def split(self, rows: Floats) -> Parts:
        n, k = len(self.labelled.texts), len(self.labelled.names)
        return Parts(rows[:n], rows[n:-k], rows[-k:])

    def names_help(self, vectors: Parts) -> bool:
        """Do names say what labels mean: is the nearest one right more often than by chance?"""
        nearest = (vectors.labelled @ vectors.names.T).argmax(1)
        right, chance = nearest == self.labelled.labels, 1 / len(self.labelled.names)
        noise = math.sqrt(chance * (1 - chance) / len(right))
        return bool(right.mean() > chance + 3 * noise)

    def check_time(self, after: str) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime(f"after {after}")

    def taught(self, shares: Floats) -> Examples:
        """The labelled rows as they are, then the others with their shares; mean weight 1."""
        targets = np.concatenate([self.wanted, shares])
        weights = np.repeat([LABEL_WEIGHT, 1.0], [len(self.wanted), len(shares)])
        return Examples(
            [*self.labelled.texts, *self.pool],
            targets.argmax(1),
            self.labelled.names,
            targets=targets,
            weights=(weights / weights.mean()).astype(np.float32),
        )


def _pool(labelled: Sequence[str], unlabeled: Sequence[str], seed: int) -> list[str]:
    """The unlabelled texts that add something; a part drawn by chance of very many."""
    known = {text.strip() for text in labelled}
    distinct = dict.fromkeys(text.strip() for text in unlabeled)
    found = [text for text in distinct if text and text not in known]
    if not found:
        raise InputError(
            f"there is no unlabelled text to learn from. Got {len(unlabeled)} texts, all of them "
            "empty or labelled already. Wanted texts like the labelled ones, one a line. "
            "Give another file, or leave it out."
        )
    if len(found) > MAX_UNLABELED:
        chosen = np.random.default_rng(seed).permutation(len(found))[:MAX_UNLABELED]
        found = [found[i] for i in np.sort(chosen)]
    return found


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").replace("/", " ").lower()

"""Few labelled rows and many unlabelled texts: rows with shares, on which the usual fit runs.

vectors -> regression on labels and label names -> rounds on its own answers -> students -> shares
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.data.encoder import Encoder
from mendel.parts.text.export import training_logits
from mendel.parts.text.fit import Examples, OutOfTime, fit
from mendel.parts.text.recipe import Recipe
from mendel.train.few.spread import (
    answers,
    balanced,
    neighbours,
    regress,
    spread,
    to_shares,
)
from mendel.train.few.view import latent
from mendel.types import InputError

Floats = NDArray[np.float32]
Progress = Callable[[float], None]

# all fixed on rows held out of BANKING77's training file, the same for 5, 10 and 20 rows a label
MAX_UNLABELED = 20_000  # texts that are used; more gain little and cost the square
N_ROUNDS = 5
N_STUDENTS = 2  # networks in a row, each taught by the one before
SHARPNESS = 2.0  # logits of a regression on few rows say less than it knows
STUDENT_SHARPNESS = 1.5
DECAY = 0.05  # of the regression; twice that once it has the unlabelled rows
OWN_WEIGHT = 0.3  # of an unlabelled row beside a labelled one, times how sure its answer is
BALANCE = 0.5
LABEL_WEIGHT = 2.0  # of a labelled row in the data that is handed on
REACH, HINT, NAME = 0.8, 0.1, 0.5  # of the graph: see spread; seeds from regression and names


def self_trained(
    labelled: Examples,
    unlabeled: Sequence[str],
    *,
    seed: int = 0,
    deadline: float = math.inf,
    progress: Progress = lambda share: None,
) -> Examples:
    """No pretrained weights: what the unlabelled texts and the label names say.

    labelled   kind classify, without targets
    returns    the labelled rows, then the distinct unlabelled texts, with shares and weights
    raises     InputError without unlabelled text; OutOfTime
    cost       70 s for 10,000 short texts on one core
    source     Nigam 2000 (EM on unlabelled text), Xie 2020 (noisy student)
    """
    task = Task.of(labelled, unlabeled, seed, deadline)
    vectors = task.split(latent(task.texts, seed))
    progress(0.1)
    shares = _own_rounds(task, vectors, lambda share: progress(0.1 + 0.2 * share))
    found = task.taught(shares)
    for i in range(N_STUDENTS):
        begin, part = 0.3 + 0.7 * i / N_STUDENTS, 0.7 / N_STUDENTS
        student = fit(
            Recipe("bag"),
            found,
            seed=seed + i,
            deadline=deadline,
            progress=lambda share, begin=begin, part=part: progress(begin + part * share),
        )
        logits = STUDENT_SHARPNESS * training_logits(student, task.pool)
        found = task.taught(to_shares(np.exp(logits - logits.max(1, keepdims=True))))
    progress(1.0)
    return found


def distilled(
    labelled: Examples,
    unlabeled: Sequence[str],
    teacher: Encoder,
    *,
    seed: int = 0,
    deadline: float = math.inf,
    progress: Progress = lambda share: None,
) -> Examples:
    """What a pretrained encoder makes of the unlabelled texts; else as self_trained.

    cost     20 s for 10,000 texts on one core, and 6 ms a text that was never encoded before
    source   Zhou 2004 for the graph of neighbours
    """
    task = Task.of(labelled, unlabeled, seed, deadline)
    encoded = teacher.encode(task.texts, lambda share: progress(0.8 * share))
    vectors = task.split(encoded)
    task.check_time("the encoder")
    helpful = names_help(task, vectors)
    hints = answers(vectors.pool, _first(task, vectors, helpful), SHARPNESS)
    seeds = [task.wanted, HINT * hints, NAME * helpful * task.named]
    scores = spread(neighbours(encoded), np.concatenate(seeds).astype(np.float32), REACH)
    progress(1.0)
    return task.taught(to_shares(task.split(scores).pool))


@dataclass(frozen=True)
class Parts:
    """Rows of the labelled texts, of the unlabelled ones, of the names."""

    labelled: Floats
    pool: Floats
    names: Floats


@dataclass(frozen=True)
class Task:
    """What is known before anything is learned. n labelled rows, m unlabelled, K labels."""

    labelled: Examples
    pool: list[str]  # the unlabelled texts, each once, none of them labelled
    wanted: Floats  # (n, K) one where the label is
    deadline: float

    @classmethod
    def of(cls, labelled: Examples, unlabeled: Sequence[str], seed: int, deadline: float) -> Task:
        if labelled.kind != "classify" or labelled.targets is not None:
            raise InputError(
                f"few labels: {labelled.kind} with unlabelled text. Wanted one label a row. "
                "Leave out --unlabeled."
            )
        pool = _pool(labelled.texts, unlabeled, seed)
        wanted = np.eye(len(labelled.names), dtype=np.float32)[labelled.labels]
        return cls(labelled, pool, wanted, deadline)

    @property
    def texts(self) -> list[str]:
        """All that gets a vector: labelled, unlabelled, names."""
        return [*self.labelled.texts, *self.pool, *map(_spoken, self.labelled.names)]

    @property
    def named(self) -> Floats:
        return np.eye(len(self.labelled.names), dtype=np.float32)

    @property
    def prior(self) -> Floats:
        counts = self.wanted.sum(0) + 1
        return np.asarray(counts / counts.sum(), np.float32)

    def split(self, rows: Floats) -> Parts:
        n, k = len(self.labelled.texts), len(self.labelled.names)
        return Parts(rows[:n], rows[n:-k], rows[-k:])

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


def names_help(task: Task, vectors: Parts) -> bool:
    """Do label names say what the labels are: is the nearest name right more often than chance?"""
    right = (vectors.labelled @ vectors.names.T).argmax(1) == task.labelled.labels
    chance, n = 1 / len(task.labelled.names), len(right)
    return bool(right.mean() > chance + 3 * math.sqrt(chance * (1 - chance) / n))


def _first(task: Task, vectors: Parts, helpful: bool) -> Floats:
    """The regression on labelled rows, and names as one row more of each label."""
    rows = np.concatenate([vectors.labelled, vectors.names])
    weights = np.repeat([1.0, float(helpful)], [len(vectors.labelled), len(vectors.names)])
    shares = np.concatenate([task.wanted, task.named])
    return regress(rows, shares, weights.astype(np.float32), DECAY)


def _own_rounds(task: Task, vectors: Parts, progress: Progress) -> Floats:
    """(m, K): the regression learns again and again from its own sharpened, balanced answers."""
    helpful = names_help(task, vectors)
    table = _first(task, vectors, helpful)
    rows = np.concatenate([vectors.labelled, vectors.names, vectors.pool])
    known = np.concatenate([task.wanted, task.named])
    sure = np.repeat([1.0, float(helpful)], [len(task.wanted), len(task.named)])
    for i in range(N_ROUNDS):
        task.check_time(f"{i} of {N_ROUNDS} rounds")
        own = balanced(answers(vectors.pool, table, SHARPNESS), task.prior, BALANCE)
        weights = np.concatenate([sure, OWN_WEIGHT * own.max(1)]).astype(np.float32)
        table = regress(rows, np.concatenate([known, own]), weights, 2 * DECAY, table)
        progress((i + 1) / N_ROUNDS)
    return answers(vectors.pool, table, SHARPNESS)


def _pool(labelled: Sequence[str], unlabeled: Sequence[str], seed: int) -> list[str]:
    """The unlabelled texts that add something; a part drawn by chance of very many."""
    known = {text.strip() for text in labelled}
    found = [
        text for text in dict.fromkeys(map(str.strip, unlabeled)) if text and text not in known
    ]
    if not found:
        raise InputError(
            f"there is no unlabelled text to learn from. Got {len(unlabeled)} texts, all empty or "
            "labelled already. Wanted texts of the same kind as the labelled ones, one a line. "
            "Give another file, or leave out --unlabeled."
        )
    if len(found) > MAX_UNLABELED:
        chosen = np.random.default_rng(seed).permutation(len(found))[:MAX_UNLABELED]
        found = [found[i] for i in np.sort(chosen)]
    return found


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").replace("/", " ").lower()

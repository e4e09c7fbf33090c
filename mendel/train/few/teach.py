"""Few labelled rows and many unlabelled texts: rows with shares, on which the usual fit runs.

vectors -> regression on rows and names -> spread along neighbours -> students in a row -> shares
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mendel.data.encoder import Encoder
from mendel.parts.text.export import training_logits
from mendel.parts.text.fit import Examples, fit
from mendel.parts.text.recipe import Recipe
from mendel.train.few.spread import answers, balanced, neighbours, regress, softmax, spread
from mendel.train.few.task import Parts, Task
from mendel.train.few.view import latent, unit

Floats = NDArray[np.float32]
Progress = Callable[[float], None]

# set on rows held out of BANKING77's training file; the same for 5, 10 and 20 rows a label
N_ROUNDS = 5
N_STUDENTS = 2  # networks in a row, each taught by the one before
MIN_FOR_STUDENTS = 1_000  # unlabelled texts; fewer teach a network less than a regression
SHARPNESS = 2.0  # logits of a regression on few rows say less than it knows
STUDENT_SHARPNESS = 1.5
DECAY = 0.05
OWN_WEIGHT = 0.1  # of an unlabelled row beside a labelled one, times how sure its answer is
BALANCE = 0.5
OWN_WORDS = 0.5  # of the texts' own vectors beside the encoder's
REACH = 0.8  # how much of a row's shares comes from its neighbours
NAME = 0.5  # seed of a name beside that of a row
HINT, ENCODER_HINT = 1.0, 0.3  # seed of an unlabelled row: what the regression says of it


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
    cost       40 s for 10,000 short texts and 77 labels on one core
    source     Nigam 2000 (own answers), Zhou 2004 (neighbours), Xie 2020 (students)
    """
    task = Task.of(labelled, unlabeled, seed, deadline)
    rows = latent(task.texts, seed)
    progress(0.1)
    found = task.taught(_by_regression_and_neighbours(task, rows))
    progress(0.3)
    for i in range(N_STUDENTS * (len(task.pool) >= MIN_FOR_STUDENTS)):
        found = task.taught(_student(task, found, seed + i, _part(progress, 0.3, 0.7, i)))
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

    cost     10 s for 10,000 texts on one core, and 6 ms a text that was never encoded before
    """
    task = Task.of(labelled, unlabeled, seed, deadline)
    encoded = teacher.encode(task.texts, lambda share: progress(0.8 * share))
    task.check_time("the encoder")
    rows = unit(np.concatenate([encoded, OWN_WORDS * latent(task.texts, seed)], 1))
    shares = _spread(task, rows, _on_labels(task, task.split(rows)), ENCODER_HINT)
    progress(1.0)
    return task.taught(shares)


def _part(progress: Progress, begin: float, length: float, i: int) -> Progress:
    """The share that the i-th student has of the whole."""
    size = length / N_STUDENTS
    return lambda share: progress(begin + (i + share) * size)


def _on_labels(task: Task, vectors: Parts) -> Floats:
    """The regression on labelled rows, and on names as one row more of each label."""
    rows, shares, weights = _known(task, vectors)
    return regress(rows, shares, weights, DECAY)


def _known(task: Task, vectors: Parts) -> tuple[Floats, Floats, Floats]:
    """Rows, shares and weights of what is known for certain."""
    helpful = float(task.names_help(vectors))
    weights = np.repeat([1.0, helpful], [len(vectors.labelled), len(vectors.names)])
    return (
        np.concatenate([vectors.labelled, vectors.names]),
        np.concatenate([task.wanted, task.named]),
        weights.astype(np.float32),
    )


def _own_rounds(task: Task, vectors: Parts) -> Floats:
    """The regression learns again and again from its own sharpened, balanced answers."""
    rows, shares, weights = _known(task, vectors)
    table = regress(rows, shares, weights, DECAY)
    rows = np.concatenate([rows, vectors.pool])
    for i in range(N_ROUNDS):
        task.check_time(f"{i} of {N_ROUNDS} rounds")
        own = balanced(answers(vectors.pool, table, SHARPNESS), task.prior, BALANCE)
        sure = np.concatenate([weights, OWN_WEIGHT * own.max(1)])
        table = regress(rows, np.concatenate([shares, own]), sure, DECAY, table)
    return table


def _by_regression_and_neighbours(task: Task, rows: Floats) -> Floats:
    """(m, K): the two err on different rows, so their geometric mean is better than either."""
    table = _own_rounds(task, task.split(rows))
    own = answers(task.split(rows).pool, table, SHARPNESS)
    return _to_shares(np.sqrt(own * _spread(task, rows, table, HINT)))


def _spread(task: Task, rows: Floats, table: Floats, hint: float) -> Floats:
    """(m, K) shares of the unlabelled rows: labels and hints of a regression, along neighbours."""
    vectors = task.split(rows)
    hints = hint * answers(vectors.pool, table, SHARPNESS)
    names = NAME * task.named * task.names_help(vectors)
    seeds = np.concatenate([task.wanted, hints, names]).astype(np.float32)
    return _to_shares(task.split(spread(neighbours(rows), seeds, REACH)).pool)


def _to_shares(scores: Floats) -> Floats:
    return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)


def _student(task: Task, data: Examples, seed: int, progress: Progress) -> Floats:
    """(m, K): a network learns the shares under dropout, and says what it makes of them."""
    trained = fit(Recipe("bag"), data, seed=seed, deadline=task.deadline, progress=progress)
    return softmax(STUDENT_SHARPNESS * training_logits(trained, task.pool))

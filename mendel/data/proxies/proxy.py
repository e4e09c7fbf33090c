"""What a proxy is: a small task with numbered examples, each of which belongs to one split.

task, split, number --uniforms--> random numbers --draw--> x, y        content --side--> split
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.spec import PartSpec
from mendel.types import InputError, digest

if TYPE_CHECKING:
    from torch import Tensor

Ids = NDArray[np.int64]
Uniforms = NDArray[np.float64]
Split = Literal["train", "validation", "test"]
Preset = Literal["seconds", "minutes", "published"]
PRESETS: tuple[Preset, ...] = ("seconds", "minutes", "published")
Unit = Literal["accuracy", "bits a character"]

CODES: dict[Split, int] = {"test": 0, "validation": 1, "train": 2}
ONE_IN = 16  # examples that belong to the test; as many belong to the validation
KEY = b"mendel: proxies"  # of the hash; another key would be another split
MAX_ATTEMPTS = 2000  # a task with room for a test set needs about 150
N_STARTS = 1 << 40  # where a run of examples may begin: a step's, or a seed's test
PIECE = 256  # examples made at a time


class Examples(NamedTuple):
    """n examples of T tokens."""

    x: Ids  # (n, T)
    y: Ids  # (n, T), -1 where nothing is asked
    allowed: NDArray[np.bool_] | None = None  # (n, T, V), answers that are right; None: y alone
    content: Ids | None = None  # (n, k), what decides the split; None: x

    def at(self, rows: NDArray[np.bool_] | Ids | slice) -> Examples:
        """Some of them, in the order asked for."""
        x, y, allowed, content = self
        return Examples(
            x[rows],
            y[rows],
            None if allowed is None else allowed[rows],
            None if content is None else content[rows],
        )


class Task(Protocol):
    """Turns random numbers into examples; a frozen dataclass, whose fields are its identity."""

    @property
    def vocab(self) -> int: ...

    @property
    def length(self) -> int:
        """T, tokens of an example."""

    @property
    def n_numbers(self) -> int:
        """Random numbers that an example takes."""

    def draw(self, u: Uniforms) -> Examples:
        """u (n, n_numbers or more) in [0, 1) to n examples, each from its own row alone."""


def examples(task: Task, split: Split, start: int, n: int) -> Examples:
    """Examples start ... start + n - 1 of a split, each the same alone as among others.

    A draw whose content belongs to another split is drawn again, with the next attempt's numbers:
    so no content is ever on two sides, whatever the seeds and however many are drawn.
    raises   InputError for a task with too few different examples
    """
    waiting = np.arange(n)
    drawn_parts: list[Examples] = []
    places: list[NDArray[np.int64]] = []
    for attempt in range(MAX_ATTEMPTS):
        drawn = task.draw(uniforms(task, split, attempt, start, n)[waiting])
        mine = side(drawn) == CODES[split]
        drawn_parts.append(drawn.at(mine))
        places.append(waiting[mine])
        waiting = waiting[~mine]
        if not waiting.size:
            return _joined(drawn_parts).at(np.argsort(np.concatenate(places)))
    raise InputError(
        f"{task} has too few different examples for a {split} set: {MAX_ATTEMPTS} draws found none "
        "for some places. Wanted a longer example or a larger vocabulary."
    )


def uniforms(task: Task, split: Split, attempt: int, start: int, n: int) -> Uniforms:
    """(n, n_numbers or a few more) in [0, 1); a row is where its example's counter says."""
    width = -(-task.n_numbers // 4)  # a count of Philox gives four numbers
    name = hashlib.blake2b(repr(task).encode(), digest_size=8).digest()
    key = np.array([int.from_bytes(name, "little"), CODES[split]], np.uint64)
    counter = np.array([start * width, attempt, 0, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random((n, 4 * width))


def side(drawn: Examples) -> Ids:
    """(n,), the code of the split that each example's content belongs to, by a keyed hash."""
    content = np.ascontiguousarray(drawn.x if drawn.content is None else drawn.content)
    found = [hashlib.blake2b(row.tobytes(), key=KEY, digest_size=2).digest() for row in content]
    numbers = np.array([int.from_bytes(each, "little") for each in found], np.int64)
    return np.minimum(numbers % ONE_IN, CODES["train"])


def _joined(parts: list[Examples]) -> Examples:
    allowed = [part.allowed for part in parts if part.allowed is not None]
    content = [part.content for part in parts if part.content is not None]
    return Examples(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate(allowed) if allowed else None,
        np.concatenate(content) if content else None,
    )


@dataclass(frozen=True)
class Proxy:
    """A task and all that makes scores of it comparable: sizes, steps, test set."""

    train: Task
    test: Task  # may be longer than what is trained on
    chance: float  # accuracy of a guess that knows the place, but not the text
    n_steps: int
    batch: int
    n_test: int = 512  # examples
    n_train: int | None = None  # None: fresh examples at each step
    head: PartSpec = PartSpec(part="lm")  # noqa: RUF009  frozen
    name: str = ""
    preset: Preset = "seconds"
    unit: Unit = "accuracy"

    @property
    def vocab(self) -> int:
        return max(self.train.vocab, self.test.vocab)

    @property
    def context(self) -> int:
        """Tokens trained on at a time."""
        return self.train.length

    @property
    def longest(self) -> int:
        """Tokens of a test example."""
        return self.test.length

    def source(self) -> Batches:
        """What mendel.train takes its batches from."""
        return Batches(self.train, self.n_train, self.n_test)

    def tests(self, seed: int, n: int = PIECE) -> Iterator[Examples]:
        """The test set of a seed, at most n examples at a time.

        It begins at the seed's own place of the test split, the same for every model: whoever is
        chosen on some seeds meets other examples on the next, and cannot have been fitted to them.
        Two seeds share none of them, or up to 10 where texts are few (word_a5, word_s5, regbench).
        """
        start = int(digest([self.name, seed]), 16) % N_STARTS
        return pieces(self.test, "test", self.n_test, n, start)


def pieces(task: Task, split: Split, n_all: int, n: int, start: int = 0) -> Iterator[Examples]:
    """n_all examples of a split from number `start` on, at most n at a time."""
    for at in range(0, n_all, n):
        yield examples(task, split, start + at, min(n, n_all - at))


@dataclass(frozen=True)
class Batches:
    """A mendel.train.group.Source: examples of the training split, validation of its own."""

    task: Task
    n_train: int | None = None
    n_validation: int = 512

    def batch(self, rng: np.random.Generator, n: int, context: int) -> tuple[Tensor, Tensor]:
        """A run of n examples from anywhere; of a finite set, n rows of it, repeats allowed."""
        if self.n_train is None:
            return _tensors(examples(self.task, "train", int(rng.integers(N_STARTS)), n))
        x, y = self._all
        rows = rng.integers(self.n_train, size=n)
        return _tensors(Examples(x[rows].astype(np.int64), y[rows].astype(np.int64)))

    def windows(self, context: int, n: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation examples: neither trained on nor in the test."""
        for found in pieces(self.task, "validation", self.n_validation, n):
            yield _tensors(found)

    @cached_property
    def _all(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        assert self.n_train is not None
        made = list(pieces(self.task, "train", self.n_train, PIECE))
        x, y = (np.concatenate([each[i] for each in made]).astype(np.int32) for i in (0, 1))
        return x, y


def _tensors(found: Examples) -> tuple[Tensor, Tensor]:
    from torch import from_numpy

    return from_numpy(found.x), from_numpy(found.y)


# what tasks draw with


def cut(u: Uniforms, *sizes: int) -> list[Uniforms]:
    """The numbers of each use: (n, sizes[0]), (n, sizes[1]), ..."""
    return np.split(u[:, : sum(sizes)], np.cumsum(sizes)[:-1], axis=1)


def below(u: Uniforms, k: int | Ids) -> Ids:
    """Whole numbers 0 ... k - 1, each as likely."""
    return (u * k).astype(np.int64)


def distinct(u: Uniforms, k: int, weights: Uniforms | None = None) -> Ids:
    """k different places of each row of u (n, V), in random order; (n, k).

    weights  (V,) > 0, how likely each place is to be taken next; None: all alike
    """
    race = u if weights is None else -np.log1p(-u) / weights  # the first arrivals are the draw
    found = np.argpartition(race, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(race, found, 1), axis=1)
    return np.take_along_axis(found, order, 1)


def seen_before(ids: Ids, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n, P): whether the same number stands earlier in the row, at a place that counts."""
    same = (ids[:, :, None] == ids[:, None, :]) & counted[:, None, :]
    found: NDArray[np.bool_] = np.tril(same, -1).any(-1)
    return found

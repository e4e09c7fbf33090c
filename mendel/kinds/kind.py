"""What a kind of task supplies, so that one design clock serves all of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendel.data.readers import Examples as Data
from mendel.spec import Limits, SpecError, TaskSpec, TextSpec
from mendel.train.folds import Inputs, Kept, Progress, Ran, Rows
from mendel.types import InputError

# texts without a label become rows with answers, or say which words are alike, or are no use
Unlabeled = Literal["rows", "words", ""]


@dataclass(frozen=True)
class Shape:
    """What a ladder needs to know of a task."""

    n_rows: int
    n_labels: int  # outputs of the network, of a tagger labels
    limits: Limits
    n_folds: int
    kind: str = "classify"
    n_passages: int = 0  # of the documents of a search
    n_lists: int = 0  # gazetteers
    n_unlabeled: int = 0  # texts that are no rows, but say how words are used
    fills: bool = False  # there are phrases, listed or invented, for mentions in copies of rows


class Rung(NamedTuple):
    recipe: Any
    why: str


class Maker(ABC):
    """A builder (train.folds) with its ladder: which recipes are tried, when, at what cost.

    recipes    the part's own class of recipes
    package    functions of the part: fit, pack, unpack
    mutations  why, change: applied to what leads
    rival      time that the baselines take / that of the slowest linear rung
    """

    part: str
    recipes: Any
    package: Any
    mutations: Sequence[tuple[str, Callable[[Any], Any]]]
    rival: float = 1.5

    def recipe(self, spec: TextSpec) -> Any:
        try:
            return self.recipes.from_dict(spec.fields)
        except (ValueError, TypeError) as error:
            raise SpecError(f"TextSpec.fields: {error}") from None

    def fit(
        self,
        recipe: Any,
        examples: Any,
        *,
        seed: int,
        deadline: float = math.inf,
        progress: Progress = lambda share: None,
    ) -> Any:
        return self.package.fit(recipe, examples, seed=seed, deadline=deadline, progress=progress)

    def n_params(self, model: Any) -> int:
        return int(sum(tensor.size for tensor in model.tensors.values()))

    def pack(self, model: Any) -> bytes:
        packed: bytes = self.package.pack(model)
        return packed

    def unpack(self, data: bytes) -> Any:
        return self.package.unpack(data)

    def forms(self, recipe: Any) -> Sequence[str]:
        """The ways to write a model down; all but float32 have int8 tables."""
        return ("float32", "int8")

    def in_form(self, model: Any, form: str) -> Any:
        return model

    @abstractmethod
    def run(self, model: Any, texts: Sequence[str], *, int8: bool) -> Ran: ...

    def plain(self, recipe: Any) -> Any:
        """The same without altered copies of rows: what a recipe with them is held against."""
        return recipe

    @abstractmethod
    def rungs(self, shape: Shape) -> Iterator[Rung]:
        """The order is that of gain for time."""

    @abstractmethod
    def within(self, recipe: Any, shape: Shape) -> Any:
        """The same with tables small enough for the limits on parameters and bytes."""

    @abstractmethod
    def guess_s(self, recipe: Any, shape: Shape) -> float:
        """Seconds that one round may take; the run corrects it by what it sees."""

    @abstractmethod
    def starting_point(self, shape: Shape) -> Any:
        """The network that fits the amount of data."""

    @abstractmethod
    def least(self, shape: Shape) -> tuple[int, int]:
        """Parameters and bytes of the smallest model worth shipping."""

    def refit(self, shape: Shape) -> float:
        """How many times as long a fit on all rows takes as one on all folds but one."""
        return shape.n_folds / max(shape.n_folds - 1, 1)

    @abstractmethod
    def growth(self, recipe: Any, rows: Rows) -> float:
        """How much larger a model of all rows is than one of all folds but the first."""


@dataclass(frozen=True)
class Fitted:
    """What was fitted on out-of-fold answers.

    settings   what the model needs beside its weights, in agent.json
    facts      what the report says of it
    """

    settings: Mapping[str, Any]
    facts: Mapping[str, Any]


class Kind(ABC):
    """One kind of task. Targets are plain JSON; `kept` are the outputs in the form to score them.

    name       as in TaskSpec.kind
    answers    what a model of this kind says, for the plan card
    metric     the name of the score, which is higher where better and 1 at best
    baselines  name in the report -> name in mendel.train.baseline; the first is the rival that a
               claim is about
    """

    name: ClassVar[str]
    answers: ClassVar[str]
    metric: ClassVar[str]
    baselines: ClassVar[Mapping[str, str]]
    builder: Maker
    n_folds: ClassVar[int] = 5  # rounds of a candidate at most; the rows are in five parts or more
    unlabeled: ClassVar[Unlabeled] = ""

    def told(self, data: Data, test: Data | None) -> tuple[Data, Data | None]:
        """The same files with targets as answers give them, and what is odd about them."""
        return data, test

    def like(self, data: Data, rows: Rows) -> Data:
        """New rows with targets as those that a run has, where the kind reads targets by them."""
        return data

    @abstractmethod
    def names(self, targets: Sequence[Any]) -> tuple[str, ...]:
        """The labels that occur, sorted; none where targets are numbers."""

    @abstractmethod
    def strata(self, targets: Sequence[Any]) -> list[str]:
        """A label for each row, which the folds and the sealed share have in like parts."""

    def held_out(self, folds: NDArray[np.int64], targets: Sequence[Any]) -> NDArray[np.int64]:
        """The fold of each row, of rows that are always learned from a number beyond the folds."""
        return folds

    def bound(self, groups: NDArray[np.int64], targets: Sequence[Any]) -> NDArray[np.int64]:
        """The groups of rows that no split parts, given those of near-duplicates."""
        return groups

    @abstractmethod
    def examples(self, rows: Rows) -> Any:
        """The rows as the builder wants them."""

    @abstractmethod
    def kept(self, ran: Ran, rows: Rows) -> Kept: ...

    @abstractmethod
    def score(self, kept: Kept, rows: Rows) -> float: ...

    @abstractmethod
    def stderr(self, kept: Kept, rows: Rows) -> float:
        """Standard error of the score, rows being a sample."""

    def each(self, kept: Kept, rows: Rows) -> NDArray[np.float64]:
        """(n,) How right each row is out of fold, 0 to 1; 1 is wholly right."""
        raise InputError(
            f"errors of kind {self.name} cannot be mended one by one. Wanted classify, multilabel, "
            "pair or tag. Design it again with these rows among the others."
        )

    @abstractmethod
    def fitted(self, kept: Kept, rows: Rows, task: TaskSpec) -> Fitted: ...

    @abstractmethod
    def row_score(self, answer: Mapping[str, Any], target: Any) -> float:
        """How right one answer is, 0 to 1: what a claim compares row by row."""

    @abstractmethod
    def sealed(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Any],
        texts: Sequence[str],
        names: Sequence[str],
        fitted: Fitted,
    ) -> dict[str, Any]:
        """The report's section on the sealed rows: n score low high, and what the kind has more."""

    @abstractmethod
    def total(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Any]
    ) -> tuple[float, float, float]:
        """The metric of answers in JSON, and its 95 % interval."""

    def total_of(
        self, answers: Sequence[Mapping[str, Any]], targets: Sequence[Any], chosen: Sequence[int]
    ) -> tuple[float, float, float]:
        """The same of the chosen rows, in a form in which parts compare with one another."""
        return self.total([answers[i] for i in chosen], [targets[i] for i in chosen])

    def fills(self, names: Sequence[str], inputs: Inputs) -> bool:
        """Are there phrases, listed or invented, for mentions in copies of rows?"""
        return False

    def shape(
        self, n_rows: int, names: Sequence[str], inputs: Inputs, limits: Limits, n_folds: int
    ) -> Shape:
        """What a ladder needs to know of a task."""
        n_more = len(inputs.unlabeled)
        return Shape(
            n_rows + n_more * (self.unlabeled == "rows"),
            self.n_outputs(names),
            limits,
            n_folds,
            self.name,
            n_passages=len(inputs.passages),
            n_lists=len(inputs.gazetteers),
            n_unlabeled=n_more * (self.unlabeled == "words"),
            fills=self.fills(names, inputs),
        )

    def beside_training(
        self,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[Any],
        texts: Sequence[str],
        rows: Rows,
    ) -> dict[str, Any]:
        """What more the sealed section says by holding sealed rows against those of training."""
        return {}

    def example(self, text: str) -> str:
        """A training text as it travels with the project, for its own tests and its timing."""
        return text[:500]

    def about(self, trained: Any, rows: Rows, *, int8: bool) -> dict[str, Any]:
        """What else the report says of the model that ships, beside the sealed rows."""
        return {}

    def n_outputs(self, names: Sequence[str]) -> int:
        """Of the network, for limits on its size."""
        return max(len(names), 1)

    def unknown(self, target: Any, names: Sequence[str]) -> bool:
        """Has a test target a label that training does not have?"""
        return False

    def predict_flags(self, names: Sequence[str]) -> list[str]:
        """Of the emitted predict.py, so that it says all that `sealed` reads."""
        return []

"""(spec, rows, fold, seed) -> what one round of a design trial measures.

fit on the other folds -> graph in float32 and int8 -> answers on the fold, size, latency
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.parts.search.passages import Passage
from mendel.spec import TextSpec

Progress = Callable[[float], None]
ALWAYS = 99  # the fold of rows that are learned from in every round
Kept = NDArray[np.float32]  # (n, M): what a kind of task keeps of its outputs, to score them again


@dataclass(frozen=True)
class Inputs:
    """What a task is given beside its rows; it is in every fold.

    outside      texts that are known to have none of the labels
    unlabeled    texts like the labelled ones
    gazetteers   name -> phrases that a tagger is told of
    teacher      folder of a pretrained encoder that says what unlabelled texts mean; "auto" = the
                 packaged one
    passages     of documents: what a search can find
    """

    outside: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    gazetteers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    teacher: str | None = None
    passages: tuple[Passage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inputs:
        gazetteers = {name: tuple(phrases) for name, phrases in data["gazetteers"].items()}
        passages = tuple(Passage(*fields) for fields in data.get("passages", ()))
        texts = tuple(data["outside"]), tuple(data["unlabeled"])
        return cls(*texts, gazetteers, data["teacher"], passages)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that trials may see: no sealed one is among them."""

    texts: tuple[str, ...]
    targets: tuple[Any, ...]  # plain JSON, as the kind of task has them
    names: tuple[str, ...]  # of the labels
    folds: NDArray[np.int64]  # (N,) fold of each row
    inputs: Inputs = Inputs()
    added: NDArray[np.bool_] | None = None  # (N,) came after an earlier design; None = no row did
    aside: NDArray[np.bool_] | None = None  # (N,) only choose, are never learned from; None = none

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        return self._at(np.flatnonzero(chosen))

    def learned(self, fold: int | None = None) -> Rows:
        """To learn from in a round; None = in the end."""
        chosen = np.ones(len(self.texts), bool) if fold is None else self.folds != fold
        return self.only(chosen if self.aside is None else chosen & ~self.aside)

    def taught(self, times: int) -> Rows:
        """To learn from: rows that were added are there so many times, with 0 not at all."""
        if self.added is None or times == 1:
            return self
        return self._at(np.repeat(np.arange(len(self.texts)), np.where(self.added, times, 1)))

    def _at(self, places: NDArray[np.int64]) -> Rows:
        texts = tuple(self.texts[i] for i in places.tolist())
        targets = tuple(self.targets[i] for i in places.tolist())
        added = None if self.added is None else self.added[places]
        aside = None if self.aside is None else self.aside[places]
        aside = None if aside is None or not aside.any() else aside
        return Rows(texts, targets, self.names, self.folds[places], self.inputs, added, aside)

    def save(self, folder: Path) -> None:
        flags = {"added": self.added, "aside": self.aside}
        up = {name: set(np.flatnonzero(flag)) for name, flag in flags.items() if flag is not None}
        columns = zip(self.texts, self.targets, self.folds.tolist(), strict=True)
        lines = (
            json.dumps(
                {"text": text, "target": target, "fold": fold}
                | {name: True for name, places in up.items() if i in places}
            )
            + "\n"
            for i, (text, target, fold) in enumerate(columns)
        )
        (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "labels.json").write_text(json.dumps(self.names), encoding="utf-8")
        inputs = json.dumps(self.inputs.to_dict())
        (folder / "inputs.json").write_text(inputs, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Rows:
        names = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        return cls(
            tuple(row["text"] for row in rows),
            tuple(row["target"] for row in rows),
            names,
            np.array([row["fold"] for row in rows], np.int64),
            Inputs.from_dict(json.loads((folder / "inputs.json").read_text(encoding="utf-8"))),
            *(_flag(rows, name) for name in ("added", "aside")),
        )


def _flag(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.bool_] | None:
    found = np.array([row.get(name, False) for row in rows], bool)
    return found if found.any() else None


@dataclass(frozen=True)
class Ran:
    """A trained model in one form, run on texts."""

    outputs: Any  # one for each text
    unseen: NDArray[np.float32]  # (n,) share of each text's n-grams that training has not seen
    n_bytes: int  # graph and vocabulary
    latency_ms: float  # median, one text, one thread, from the string
    about: Mapping[str, Any] = field(default_factory=dict)  # what the model keeps besides


class Builder(Protocol):
    """Who turns a spec and examples into a model: one for each family of networks."""

    def recipe(self, spec: TextSpec) -> Any:
        """The part's own view of a spec; raises SpecError for a field it does not have."""

    def fit(
        self,
        recipe: Any,
        examples: Any,
        *,
        seed: int,
        deadline: float = math.inf,
        progress: Progress = lambda share: None,
    ) -> Any:
        """raises   OutOfTime past the deadline (time.monotonic()); FloatingPointError"""

    def run(self, model: Any, texts: Sequence[str], *, int8: bool) -> Ran: ...

    def n_params(self, model: Any) -> int: ...

    def forms(self, recipe: Any) -> Sequence[str]:
        """The ways to write a model down: float32, int8, and others with int8 tables."""

    def in_form(self, model: Any, form: str) -> Any:
        """The model whose graph is that form: the same one, or one with less in it."""


class Learner(Protocol):
    """What a round needs to know of a kind of task."""

    @property
    def builder(self) -> Builder: ...

    def examples(self, rows: Rows) -> Any:
        """The rows as the builder wants them."""

    def kept(self, ran: Ran, rows: Rows) -> Kept: ...

    def score(self, kept: Kept, rows: Rows) -> float:
        """The metric; higher is better."""


@dataclass(frozen=True)
class Form:
    """One way to write a trained model down."""

    kept: Kept  # of the fold held out
    score: float
    n_bytes: int
    n_params: int
    latency_ms: float


@dataclass(frozen=True)
class Measured:
    """What one round found."""

    trained: Any
    forms: Mapping[str, Form]  # by name, float32 among them
    seconds: float  # of the fit
    readying_s: float  # until the rows were as the builder wants them: what teaching took


def measure_fold(
    kind: Learner,
    spec: TextSpec,
    rows: Rows,
    fold: int,
    *,
    seed: int,
    deadline: float = math.inf,
    progress: Progress = lambda share: None,
    times: int = 1,
) -> Measured:
    """Train on all folds but one, less what is set aside, and measure on that one.

    times    how often rows that were added are learnt from
    raises   OutOfTime past the deadline (time.monotonic()); FloatingPointError for a NaN loss
    """
    builder, held_out = kind.builder, rows.folds == fold
    began = time.monotonic()
    data = kind.examples(rows.learned(fold).taught(times))
    recipe = builder.recipe(spec)
    started = time.monotonic()  # what unlabelled text took to teach is no recipe's
    trained = builder.fit(recipe, data, seed=seed, deadline=deadline, progress=progress)
    seconds = time.monotonic() - started
    test = rows.only(held_out)
    forms = {}
    for name in builder.forms(recipe):
        model = builder.in_form(trained, name)
        ran = builder.run(model, test.texts, int8=name != "float32")
        kept = kind.kept(ran, test)
        n_params = builder.n_params(model)
        forms[name] = Form(kept, kind.score(kept, test), ran.n_bytes, n_params, ran.latency_ms)
    return Measured(trained, forms, seconds, started - began)

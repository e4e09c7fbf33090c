"""(spec, rows, fold, seed) -> what one round of a text model's trial measures.

fit on the other folds -> graph in float32 and int8 -> answers on the fold, size, latency
"""

from __future__ import annotations

import io
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mendel.parts.text.features import Featurizer
from mendel.parts.text.fit import Examples, Trained, fit
from mendel.parts.text.graph import build_graph
from mendel.parts.text.recipe import Recipe
from mendel.spec import SpecError, TextSpec

N_TIMED = 200  # texts whose latency is measured


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that trials may see: no sealed one is among them."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]  # (N,) number of each row's label
    names: tuple[str, ...]  # of the labels
    folds: NDArray[np.int64]  # (N,) fold of each row

    def examples(self, chosen: NDArray[np.bool_] | None = None) -> Examples:
        if chosen is None:
            return Examples(self.texts, self.labels, self.names)
        texts = [text for text, keep in zip(self.texts, chosen, strict=True) if keep]
        return Examples(texts, self.labels[chosen], self.names)

    def save(self, folder: Path) -> None:
        lines = (
            json.dumps({"text": t, "label": self.names[i], "fold": int(f)}) + "\n"
            for t, i, f in zip(self.texts, self.labels, self.folds, strict=True)
        )
        (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "labels.json").write_text(json.dumps(self.names), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Rows:
        names = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
        number = {name: i for i, name in enumerate(names)}
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        return cls(
            tuple(row["text"] for row in rows),
            np.array([number[row["label"]] for row in rows], np.int64),
            names,
            np.array([row["fold"] for row in rows], np.int64),
        )


@dataclass(frozen=True)
class Form:
    """One way to write a trained model down: float32 tables or int8 ones."""

    logits: NDArray[np.float32]  # (n, K) on the fold held out
    accuracy: float
    n_bytes: int  # graph and vocabulary
    latency_ms: float  # median, one text, one thread, from the string


@dataclass(frozen=True)
class Measured:
    """What one round found."""

    trained: Trained
    float32: Form
    int8: Form
    n_params: int
    seconds: float  # of the fit


def recipe_of(spec: TextSpec) -> Recipe:
    """The part's own view of a spec; raises SpecError for a field it does not have."""
    try:
        return Recipe.from_dict(spec.fields)
    except (ValueError, TypeError) as error:
        raise SpecError(f"TextSpec.fields: {error}") from None


def measure_fold(
    spec: TextSpec,
    rows: Rows,
    fold: int,
    *,
    seed: int,
    deadline: float = math.inf,
    progress: Callable[[float], None] = lambda share: None,
) -> Measured:
    """Train on all folds but one and measure on that one.

    raises   OutOfTime past the deadline (time.monotonic()); FloatingPointError for a NaN loss
    """
    held_out = rows.folds == fold
    started = time.monotonic()
    data = rows.examples(~held_out)
    trained = fit(recipe_of(spec), data, seed=seed, deadline=deadline, progress=progress)
    seconds = time.monotonic() - started
    test = rows.examples(held_out)
    forms = [_form(trained, test, int8) for int8 in (False, True)]
    return Measured(trained, forms[0], forms[1], count_params(trained), seconds)


def count_params(trained: Trained) -> int:
    return int(sum(tensor.size for tensor in trained.tensors.values()))


def _form(trained: Trained, test: Examples, int8: bool) -> Form:
    graph = build_graph(trained, int8=int8)
    runner = Runner(graph, trained.featurizer)
    logits = runner.logits(list(test.texts))
    vocabulary = io.BytesIO()
    trained.featurizer.save(vocabulary)
    return Form(
        logits,
        float((logits.argmax(1) == test.labels).mean()),
        len(graph) + len(vocabulary.getvalue()),
        runner.latency_ms(list(test.texts[:N_TIMED])),
    )


class Runner:
    """A graph and its featuriser on one thread, as the emitted project runs them."""

    def __init__(self, graph: bytes, featurizer: Featurizer) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._featurizer = featurizer

    def logits(self, texts: list[str], batch: int = 64) -> NDArray[np.float32]:
        """(n, K), in the order of the texts; batches hold texts of like length."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        found: list[Any] = [None] * len(texts)
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            arrays = self._featurizer.arrays([texts[i] for i in chosen])
            [logits] = self._session.run(None, {name: arrays[name] for name in self._inputs})
            for i, row in zip(chosen, logits, strict=True):
                found[i] = row
        return np.array(found, np.float32)

    def latency_ms(self, texts: list[str]) -> float:
        times = []
        for text in texts:
            started = time.perf_counter()
            self.logits([text])
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1000

"""Which of the candidates ships, in which form: by out-of-fold score within the limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mendel import judge
from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock, out_of_fold
from mendel.clocks.design.ladder import Standing
from mendel.emit.measure import fit_temperature, fit_threshold
from mendel.judge import Choice, Miss, Option
from mendel.parts.text.features import Config, Featurizer
from mendel.spec import Limits
from mendel.train.folds import Rows, recipe_of

Form = Literal["float32", "int8"]


@dataclass(frozen=True)
class Chosen:
    """The candidate that ships, in which form, and what its out-of-fold answers say."""

    standing: Standing
    form: Form
    choice: Choice
    labels: NDArray[np.int64]  # (n,) of the rows held out in some round
    logits: NDArray[np.float32]  # (n, K)
    temperature: float
    threshold: dict[str, Any]


def choose(clock: DesignClock) -> Chosen:
    """The smallest that is level with the best, among those that saw the most folds."""
    found = ladder.finalists(ladder.standings(clock.history.turns()))
    options: dict[str, tuple[Standing, Form, Option]] = {}
    forms: tuple[Form, ...] = ("float32", "int8")
    for standing in found:
        for form in forms:
            option = _option(clock, standing, form)
            options[option.name] = (standing, form, option)
    prefer = clock.run.spec.task.prefer
    choice = judge.select([option for _, _, option in options.values()], prefer=prefer)
    assert choice.option is not None  # a round without a finite score is a failed one
    standing, form, _ = options[choice.option.name]
    rows, logits = out_of_fold(clock.ledger, standing, form)
    labels = clock.rows.labels[rows]
    temperature = fit_temperature(logits, labels)
    threshold = fit_threshold(softmax(logits / temperature), labels)
    return Chosen(standing, form, choice, labels, logits, temperature, threshold)


def _option(clock: DesignClock, standing: Standing, form: Form) -> Option:
    facts = [turn.result.facts[form] for turn in standing.turns]
    sizes = np.bincount(clock.rows.folds, minlength=clock.shape.n_folds)[: len(facts)]
    score = float(np.average([fact["accuracy"] for fact in facts], weights=sizes))
    stderr = float(np.sqrt(max(score * (1 - score), 1e-9) / sizes.sum()))
    n_params, n_bytes = _final_size(clock, standing, facts[0]["n_bytes"])
    latency = float(np.median([fact["latency_ms"] for fact in facts]))
    misses = missed(clock.run.spec.task.limits, n_bytes, n_params, latency)
    return Option(f"{standing.spec.name} {form}", score, stderr, n_bytes, misses)


def _final_size(clock: DesignClock, standing: Standing, n_bytes: int) -> tuple[int, int]:
    """Parameters and bytes of the model on all rows, whose vocabulary is a little larger."""
    recipe = recipe_of(standing.spec)
    n_params = standing.turns[0].result.cost.n_params
    if recipe.family == "keywords":
        return n_params, n_bytes
    growth = _growth(recipe.config, clock.rows)
    return round(n_params * growth), round(n_bytes * growth)


@cache
def _growth(config: Config, rows: Rows) -> float:
    fold_texts = rows.examples(rows.folds != 0).texts
    sizes = [Featurizer.fit(config, texts).n_rows for texts in (fold_texts, rows.texts)]
    return sizes[1] / sizes[0]


def missed(limits: Limits, n_bytes: int, n_params: int, latency_ms: float) -> tuple[Miss, ...]:
    """The limits that are not met, and by how much."""
    found = [
        ("--max-size", n_bytes / limits.max_bytes),
        ("--max-params", n_params / limits.max_params),
        ("--max-latency", latency_ms / limits.max_latency_ms),
    ]
    return tuple(Miss(name, ratio - 1) for name, ratio in found if ratio > 1)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float64)

"""Which of the candidates ships, in which form: by out-of-fold score within the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mendel import judge
from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.ladder import Standing
from mendel.judge import Choice, Miss, Option
from mendel.kinds import Fitted, recipe_of
from mendel.spec import Limits


@dataclass(frozen=True)
class Chosen:
    """The candidate that ships, in which form, and what its out-of-fold answers say."""

    standing: Standing
    form: str  # as the builder names it
    choice: Choice
    fitted: Fitted


def choose(clock: DesignClock) -> Chosen:
    """The smallest that is level with the best, among those that saw the most folds."""
    found = ladder.finalists(ladder.standings(clock.history.turns()))
    options: dict[str, tuple[Standing, str, Option]] = {}
    for standing in found:
        for form in clock.kind.builder.forms(recipe_of(standing.spec)):
            option = _option(clock, standing, form)
            options[option.name] = (standing, form, option)
    prefer = clock.run.spec.task.prefer
    choice = judge.select([option for _, _, option in options.values()], prefer=prefer)
    assert choice.option is not None  # a round without a finite score is a failed one
    standing, form, _ = options[choice.option.name]
    rows, kept = clock.out_of_fold(standing, form)
    return Chosen(standing, form, choice, clock.kind.fitted(kept, rows, clock.run.spec.task))


def _option(clock: DesignClock, standing: Standing, form: str) -> Option:
    facts = [turn.result.facts[form] for turn in standing.turns]
    sizes = np.bincount(clock.rows.folds, minlength=clock.shape.n_folds)[: len(facts)]
    score = float(np.average([fact["score"] for fact in facts], weights=sizes))
    rows, kept = clock.out_of_fold(standing, form)
    n_params, n_bytes = _final_size(clock, standing, facts[0])
    latency = float(np.median([fact["latency_ms"] for fact in facts]))
    misses = missed(clock.run.spec.task.limits, n_bytes, n_params, latency)
    name = f"{standing.spec.name} {form}"
    return Option(name, score, clock.kind.stderr(kept, rows), n_bytes, misses)


def _final_size(
    clock: DesignClock, standing: Standing, first: Mapping[str, Any]
) -> tuple[int, int]:
    """Parameters and bytes of the model on all rows, whose vocabulary is a little larger."""
    growth = clock.kind.builder.growth(recipe_of(standing.spec), clock.rows)
    return round(first["n_params"] * growth), round(first["n_bytes"] * growth)


def missed(limits: Limits, n_bytes: int, n_params: int, latency_ms: float) -> tuple[Miss, ...]:
    """The limits that are not met, and by how much."""
    found = [
        ("--max-size", n_bytes / limits.max_bytes),
        ("--max-params", n_params / limits.max_params),
        ("--max-latency", latency_ms / limits.max_latency_ms),
    ]
    return tuple(Miss(name, ratio - 1) for name, ratio in found if ratio > 1)

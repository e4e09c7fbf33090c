"""Which of the candidates ships, in which form: by out-of-fold score within the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mendel import judge
from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.ladder import Standing, is_augmented
from mendel.judge import Choice, Miss, Option
from mendel.kinds import Fitted, recipe_of
from mendel.spec import Limits
from mendel.types import Decision, Verdict

Form = Literal["float32", "int8"]
STANDS = Verdict(Decision.KEEP, "nothing to judge")


@dataclass(frozen=True)
class Chosen:
    """The candidate that ships, in which form, and what its out-of-fold answers say."""

    standing: Standing
    form: Form
    choice: Choice
    fitted: Fitted
    judged: Mapping[str, Verdict]  # name of an augmented candidate -> may it be chosen?


def choose(clock: DesignClock) -> Chosen:
    """The smallest that is level with the best, among those that saw the most folds."""
    every = ladder.standings(clock.history.turns())
    judged = {s.spec.name: _judged(clock, s, every) for s in every if is_augmented(s.spec)}
    found = ladder.finalists([s for s in every if judged.get(s.spec.name, STANDS).keep])
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
    rows, kept = clock.out_of_fold(standing, form)
    fitted = clock.kind.fitted(kept, rows, clock.run.spec.task)
    return Chosen(standing, form, choice, fitted, judged)


def _judged(clock: DesignClock, standing: Standing, every: Sequence[Standing]) -> Verdict:
    """Altered copies of rows often hurt: they must be better than the same without, row by row."""
    name = ladder.plain_name(standing.spec)
    parent = next((other for other in every if other.spec.name == name), None)
    if parent is None:
        return Verdict(Decision.DISCARD, "the same without altered rows was not measured")
    n = min(len(standing.turns), len(parent.turns))  # rounds are folds, the same for all
    pair = [replace(s, turns=s.turns[:n]) for s in (standing, parent)]
    (rows, mine), (_, its) = (clock.out_of_fold(s, "float32") for s in pair)
    verdict = judge.stands(lambda kept: clock.kind.score(kept, rows), mine, its)
    return replace(verdict, reason=f"beside {name}, the same without: {verdict.reason}")


def _option(clock: DesignClock, standing: Standing, form: Form) -> Option:
    facts = [turn.result.facts[form] for turn in standing.turns]
    sizes = np.bincount(clock.rows.folds, minlength=clock.shape.n_folds)[: len(facts)]
    score = float(np.average([fact["score"] for fact in facts], weights=sizes))
    rows, kept = clock.out_of_fold(standing, form)
    n_params, n_bytes = _final_size(clock, standing, facts[0]["n_bytes"])
    latency = float(np.median([fact["latency_ms"] for fact in facts]))
    misses = missed(clock.run.spec.task.limits, n_bytes, n_params, latency)
    name = f"{standing.spec.name} {form}"
    return Option(name, score, clock.kind.stderr(kept, rows), n_bytes, misses)


def _final_size(clock: DesignClock, standing: Standing, n_bytes: int) -> tuple[int, int]:
    """Parameters and bytes of the model on all rows, whose vocabulary is a little larger."""
    growth = clock.kind.builder.growth(recipe_of(standing.spec), clock.rows)
    return round(standing.turns[0].result.cost.n_params * growth), round(n_bytes * growth)


def missed(limits: Limits, n_bytes: int, n_params: int, latency_ms: float) -> tuple[Miss, ...]:
    """The limits that are not met, and by how much."""
    found = [
        ("--max-size", n_bytes / limits.max_bytes),
        ("--max-params", n_params / limits.max_params),
        ("--max-latency", latency_ms / limits.max_latency_ms),
    ]
    return tuple(Miss(name, ratio - 1) for name, ratio in found if ratio > 1)

"""Which of the candidates ships, in which form: by out-of-fold score within the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mendel import judge
from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.ladder import Standing, is_augmented
from mendel.clocks.design.run import After
from mendel.judge import Choice, Miss, Option
from mendel.kinds import Fitted, recipe_of
from mendel.repair import Mended, Repair, repair
from mendel.spec import Limits
from mendel.train.folds import Kept, Rows
from mendel.types import Decision, InputError, Verdict

STANDS = Verdict(Decision.KEEP, "nothing to judge")


@dataclass(frozen=True)
class Chosen:
    """The candidate that ships, in which form, and what its out-of-fold answers say."""

    standing: Standing
    form: str  # as the builder names it
    choice: Choice
    fitted: Fitted
    n_rounds: int  # of each candidate, that the choice compared
    judged: Mapping[str, Verdict] = field(default_factory=dict)  # of augmented ones, by name
    repair: Repair | None = None  # of a run that mends errors: whether it may ship, and why


def choose(clock: DesignClock) -> Chosen:
    """The smallest that is level with the best, on the folds that all of them saw.

    Of a run that mends errors: what the gate of `mendel.repair` lets through.
    """
    after = clock.run.spec.after
    if after is not None and clock.run.spec.mends:
        return _mended(clock, after)
    every = ladder.standings(clock.history.turns())
    judged = {s.spec.name: _judged(clock, s, every) for s in every if is_augmented(s.spec)}
    standing_well = [s for s in every if judged.get(s.spec.name, STANDS).keep]
    found = ladder.finalists(standing_well or every)
    n = min(len(s.turns) for s in found)  # rounds are folds, the same for all
    options: dict[str, tuple[Standing, str, Option]] = {}
    for standing in found:
        for form in clock.kind.builder.forms(recipe_of(standing.spec)):
            option = _option(clock, replace(standing, turns=standing.turns[:n]), form)
            options[option.name] = (standing, form, option)
    prefer = clock.run.spec.task.prefer
    choice = judge.select([option for _, _, option in options.values()], prefer=prefer)
    assert choice.option is not None  # a round without a finite score is a failed one
    standing, form, _ = options[choice.option.name]
    rows, kept = clock.out_of_fold(standing, form)
    fitted = clock.kind.fitted(kept, rows, clock.run.spec.task)
    return Chosen(standing, form, choice, fitted, n, judged)


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


def _mended(clock: DesignClock, after: After) -> Chosen:
    """The candidate that fixes most errors without loss; where none may ship, the mildest."""
    turns = clock.history.turns()
    whole = [s for s in ladder.standings(turns) if len(s.turns) == clock.shape.n_folds]
    found = {s.times: s for s in whole}
    tried = [times for times in after.times if times and times in found]
    if 0 not in found or not tried:
        raise InputError(
            f"nothing can be judged: {len(whole)} of {len(after.times)} candidates have all "
            f"{clock.shape.n_folds} folds. Wanted the one without errors and one more. "
            "Raise --budget."
        )
    asked = repair(
        _looked(clock, found[0], after.form),
        [_looked(clock, found[times], after.form) for times in tried],
        margin=after.margin,
    )
    standing = next((s for s in whole if s.name == asked.chosen), found[tried[0]])
    old, kept = _old_rows(clock, standing, after.form)
    option = replace(
        _option(clock, standing, after.form),
        score=clock.kind.score(kept, old),
        stderr=clock.kind.stderr(kept, old),
    )
    fitted = clock.kind.fitted(kept, old, clock.run.spec.task)
    n, choice = len(standing.turns), Choice(option, asked.reason)
    return Chosen(standing, after.form, choice, fitted, n, repair=asked)


def _old_rows(clock: DesignClock, standing: Standing, form: str) -> tuple[Rows, Kept]:
    """Out of fold, without the errors: they were picked because they are hard."""
    rows, kept = clock.out_of_fold(standing, form)
    assert rows.added is not None
    return rows.only(~rows.added), kept[~rows.added]


def _looked(clock: DesignClock, standing: Standing, form: str) -> Mended:
    rows, kept = clock.out_of_fold(standing, form)
    scores = clock.kind.each(kept, rows)
    assert rows.added is not None
    return Mended(standing.name, scores[rows.added].tolist(), scores[~rows.added].tolist())


def _option(clock: DesignClock, standing: Standing, form: str) -> Option:
    facts = [turn.result.facts[form] for turn in standing.turns]
    sizes = np.bincount(clock.rows.folds, minlength=clock.shape.n_folds)[: len(facts)]
    score = float(np.average([fact["score"] for fact in facts], weights=sizes))
    rows, kept = clock.out_of_fold(standing, form)
    n_params, n_bytes = _final_size(clock, standing, facts[0])
    latency = float(np.median([fact["latency_ms"] for fact in facts]))
    misses = missed(clock.run.spec.task.limits, n_bytes, n_params, latency)
    name = f"{standing.name} {form}"
    return Option(name, score, clock.kind.stderr(kept, rows), n_bytes, misses)


def _final_size(
    clock: DesignClock, standing: Standing, first: Mapping[str, Any]
) -> tuple[int, int]:
    """Parameters and bytes of the model on all rows, whose vocabulary is a little larger."""
    if clock.rows.aside is not None:  # it is the model that was measured
        return first["n_params"], first["n_bytes"]
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

"""The menu: at most a dozen named plans for a model on a machine, and why others are not on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mendel.serve.protocols import Program
from mendel.spec import PlanSpec
from mendel.types import InputError, did_you_mean

MOST = 12
PLAIN = PlanSpec()
LOOKUPS = (2, 4, 8, 15)
MODELS = (2, 4, 8)
SHALLOWS = (2, 4)


class Menu(NamedTuple):
    """plans: by name, plain first; refused: by name, the reason."""

    plans: Mapping[str, PlanSpec]
    refused: Mapping[str, str]

    def pinned(self, name: str) -> PlanSpec:
        """Raises InputError that says why a plan is not there."""
        if name in self.plans:
            return self.plans[name]
        if name in self.refused:
            raise InputError(f"plan {name!r} is refused here: {self.refused[name]}.")
        raise InputError(
            f"no plan {name!r}. {did_you_mean(name, self.plans)} Known: {', '.join(self.plans)}."
        )


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def menu(
    program: Program,
    *,
    exits: Sequence[int] = (),
    n_cores: int | None = None,
    also: Iterable[PlanSpec] = (),
    has_draft: bool = False,
) -> Menu:
    """What this program can do on this machine.

    exits  depths at which the model was trained to predict, as `mendel train --early-exit` does
    also   plans of the user's, before the usual ones
    has_draft  a small model is there to guess
    """
    n_cores = cores() if n_cores is None else n_cores
    plans: dict[str, PlanSpec] = {}
    refused: dict[str, str] = {}
    for plan in (PLAIN, *also, *_usual(program, exits, n_cores)):
        reason = _reason(plan, program, exits, n_cores, has_draft)
        if reason is None and len(plans) == MOST and plan.name not in plans:
            reason = f"the menu has its {MOST} plans"
        if reason is not None:
            refused[plan.name] = reason
        else:
            plans[plan.name] = plan
    return Menu(plans, refused)


def _usual(program: Program, exits: Sequence[int], n_cores: int) -> list[PlanSpec]:
    lookups = [PlanSpec(draft="lookup", n_draft=n) for n in LOOKUPS]
    depths = tuple(exits) or (
        max(1, program.n_layers // 3),
    )  # refused, with the reason, if untrained
    models = [PlanSpec(draft="model", n_draft=n) for n in MODELS]
    shallows = [
        PlanSpec(draft="shallow", n_draft=n, depth=depth) for depth in depths for n in SHALLOWS
    ]
    two = [plan.model_copy(update={"threads": 2}) for plan in (PLAIN, lookups[1])]
    return [*lookups, *models, *shallows[:4], *two, PlanSpec(reuse=False)]


def _reason(
    plan: PlanSpec, program: Program, exits: Sequence[int], n_cores: int, has_draft: bool
) -> str | None:
    """Why not; None where there is nothing against it."""
    if plan.threads > n_cores:
        return f"{plan.threads} threads are more than the {n_cores} cores of this process"
    if plan.draft == "none":
        return None
    if plan.draft == "model" and not has_draft:
        return "there is no draft model. Give a small one of the same tokens by `--draft DIR`"
    if not program.cuts and program.n_undo <= plan.n_draft:
        return (
            f"this program takes back {program.n_undo} tokens of a run, and "
            f"{plan.n_draft} guesses need {plan.n_draft + 1}"
        )
    if plan.depth is not None and plan.depth >= program.n_layers:
        return f"depth={plan.depth} leaves nothing out of {program.n_layers} layers"
    if plan.depth is not None and plan.depth not in exits:
        return (
            f"the model was not trained to predict after {plan.depth} layers, so its guesses there "
            "are no good. Train it with `mendel train --early-exit`"
        )
    return None

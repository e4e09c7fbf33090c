"""Mend the errors of a shipped model: its recipe, its rows and the errors, judged before it ships.

errors -> those that are still wrong -> candidates that learn from them 0, 1, 3, 10 times -> gate
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mendel.clocks.design import ladder
from mendel.clocks.design.again import Before, join, planned, read_more
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.finish import Shipped
from mendel.clocks.design.prepare import check_free
from mendel.clocks.design.request import Plan, Request
from mendel.clocks.design.session import Observer, Silent, carry_out, resume
from mendel.clocks.workers import n_workers
from mendel.data.faults import Fault
from mendel.data.readers import Examples
from mendel.data.vault import Vault
from mendel.kinds import KINDS
from mendel.kinds.kind import Kind
from mendel.ledger import Ledger
from mendel.types import InputError, did_you_mean

TIMES = (0, 1, 3, 10)  # 0 is the control; then the mildest first
MARGIN = 0.01  # that old rows may lose: below it small data could never pass
FINISHING_S = 60.0


@dataclass(frozen=True)
class Wrong:
    """What a model gets wrong of rows that somebody says it gets wrong."""

    rows: Examples  # the errors
    n_right: int
    n_unsure: int  # the best label is right, but the model was too unsure to say it


def improve(
    was: Before,
    request: Request,
    ledger: Ledger,
    observer: Observer | None = None,
    *,
    margin: float = MARGIN,
) -> Shipped | None:
    """Mend errors; the project itself is not touched.

    request  of `request_of`; its `data` are rows that the model got wrong, with the right answers
    margin   how much of its score the model may lose on old rows, named before anything is
             measured; a run that is resumed keeps its own
    returns  None where the observer declined; a Shipped without model where the gate refuses,
             unless `request.yes`
    raises   InputError for what the user can mend: unknown labels, no errors, another kind
    """
    observer, began = observer or Silent(), time.monotonic()
    if request.resume:
        return resume(request, ledger, observer, mends=True)
    if not 0 < margin < 1:
        raise InputError(f"--margin {margin:g} is no margin. Wanted a share above 0, as 0.01.")
    if type(was.kind).each is Kind.each:
        was.kind.each(np.zeros((0, 1), np.float32), was.rows)  # says which kinds can
    check_free(request.out)
    observer.stage("asking the model about its errors")
    return carry_out(plan_repair(was, request, ledger, margin), ledger, observer, began)


def plan_repair(was: Before, request: Request, ledger: Ledger, margin: float) -> Plan:
    """The plan of a run that mends: errors as new rows, the recipe that shipped, and no other."""
    more = read_more(was, request, request.data)
    _check_labels(was, more)
    wrong = still_wrong(was, more)
    near = Vault(ledger).near(was.sealed, wrong.rows.texts)
    if near.all():
        why = f"{wrong.n_right} of {len(more.texts)} rows are answered rightly"
        raise InputError(
            f"{request.data} has no error that can be mended: {why}, {wrong.n_unsure} are right "
            f"but too unsure to be said, {int(near.sum())} say nearly what a sealed row says. "
            "Wanted rows that the model gets wrong."
        )
    joined = join(was.rows, wrong.rows.texts, wrong.rows.targets, near, again=True)
    after = was.after().model_copy(update={"times": TIMES, "margin": margin})
    plan = planned(was, request, wrong.rows, joined, was.rows.inputs, after)
    found = (
        ("error that is none", wrong.n_right, "the model gets it right: left out"),
        ("answer too unsure", wrong.n_unsure, "its best label is right: left out; see --reject"),
    )
    counted = tuple(Fault(kind, n, (), note) for kind, n, note in found if n)
    return replace(plan, faults=(*plan.faults, *counted), stages=_stages(plan, was, ledger))


def still_wrong(was: Before, more: Examples) -> Wrong:
    """The rows that the model gets wrong, by what it would say if it always named a label."""
    rate = was.kind.row_score
    said = [answer.to_dict() for answer in was.model.predict(more.texts)]
    named = [a.to_dict() for a in was.model.predict(more.texts, **_options(was.kind))]
    right = [rate(a, t) >= 1 for a, t in zip(said, more.targets, strict=True)]
    best = [rate(a, t) >= 1 for a, t in zip(named, more.targets, strict=True)]
    wrong = [i for i, fine in enumerate(best) if not fine]
    rows = replace(
        more,
        texts=tuple(more.texts[i] for i in wrong),
        targets=tuple(more.targets[i] for i in wrong),
    )
    return Wrong(rows, sum(right), sum(best) - sum(right))


def time_needed(was: Before, ledger: Ledger) -> float:
    """Seconds that mending probably takes, by what the rounds of the run before took."""
    clock = DesignClock(was.run, ledger, 0.0)
    shipped = {"keep": 1.0, **was.recipe.fields} | {"keep": 1.0}  # pruning takes no time
    like = [
        s
        for s in ladder.standings(clock.history.turns())
        if {"keep": 1.0, **s.spec.fields} == shipped
    ]
    took = [s.seconds + max(t.result.facts.get("readying_s", 0.0) for t in s.turns) for s in like]
    a_round = max(took, default=was.run.spec.budget_s / 20)
    return FINISHING_S + 2 * a_round * len(TIMES) * clock.shape.n_folds / n_workers()


def _options(kind: Kind) -> dict[str, Any]:
    """For those kinds that may say nothing: name the best all the same."""
    return {"abstain": False} if isinstance(kind, type(KINDS["classify"])) else {}


def _check_labels(was: Before, more: Examples) -> None:
    known = was.rows.names
    rows = [t for t in more.targets if was.kind.unknown(t, known)]
    if not rows:
        return
    names: Sequence[str] = [n for n in was.kind.names(rows) if n not in known]
    raise InputError(
        f"{len(rows)} errors have labels that the model does not know: {', '.join(names[:5])}. "
        f"{did_you_mean(names[0], known)} Mend the labels; for new ones use "
        "`mendel redesign --data`."
    )


def _stages(plan: Plan, was: Before, ledger: Ledger) -> tuple[tuple[str, float], ...]:
    needed = time_needed(was, ledger)
    n = len(TIMES) - 1
    return (
        ("ask the model, find near-duplicates, split", plan.stages[0][1]),
        (f"train {n} candidates and a control on every fold", needed - FINISHING_S),
        ("judge; then train on all rows, pack, test, report", FINISHING_S / 2),
    )

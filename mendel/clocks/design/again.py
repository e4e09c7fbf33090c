"""Design anew from a shipped project: its rows and more, the same sealed rows, the same limits.

project -> Before (its run, its rows) -> joined with new rows -> Plan -> a new run
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design import ladder
from mendel.clocks.design.cost import prices
from mendel.clocks.design.finish import Shipped
from mendel.clocks.design.given import language_faults, read_inputs
from mendel.clocks.design.prepare import check_free, form_of, shape_of, stages_of
from mendel.clocks.design.request import Again, Plan, Request
from mendel.clocks.design.run import After, Run
from mendel.clocks.design.session import Observer, Silent, carry_out, design
from mendel.clocks.design.sources import sources
from mendel.data.columns import Columns
from mendel.data.faults import Fault
from mendel.data.readers import Examples, read_examples
from mendel.data.records import COLUMN as RECORD
from mendel.data.targets import NO_TABLE, TaskKind, as_json
from mendel.data.vault import Sealed, Vault
from mendel.emit.runtime import load_model
from mendel.kinds import KINDS, Kind
from mendel.ledger import Ledger
from mendel.propose import Start, traits_of
from mendel.spec import Limits, TextSpec
from mendel.train.folds import Inputs, Rows
from mendel.train.outside import OUTSIDE
from mendel.types import InputError, did_you_mean, digest

AS_BEFORE = ", as before"
FROM_BEFORE = "What shipped before is tried first; where more may be tried, the ladder follows."


@dataclass(frozen=True)
class Before:
    """A shipped project, and what its run learnt from."""

    project: Path
    run: Run
    rows: Rows
    model: Any  # as `mendel.emit.runtime.load_model` gives it

    @property
    def kind(self) -> Kind:
        return KINDS[self.run.spec.task.kind]

    @property
    def sealed(self) -> Sealed:
        return Sealed(self.run.spec.sealed, self.run.spec.n_sealed)

    @property
    def recipe(self) -> TextSpec:
        return TextSpec(part=self.kind.builder.part, fields=self.model.agent["recipe"])

    @property
    def form(self) -> str:
        """In which it shipped; reports of an older mendel know two forms only."""
        report = json.loads((self.project / "report.json").read_text(encoding="utf-8"))
        usual = "int8" if self.model.agent["int8"] else "float32"
        known = self.kind.builder.forms(self.kind.builder.recipe(self.recipe))
        told = report.get("shipped", {}).get("form")
        return told if told in known else usual

    def after(self) -> After:
        return After(
            run=self.run.spec.id,
            project=str(self.project.resolve()),
            task=self.run.line.task,
            first=self.recipe,
            form=self.form,
        )


@dataclass(frozen=True)
class Joined:
    """Old rows and new ones; what was not simply added is counted."""

    texts: tuple[str, ...]
    targets: tuple[Any, ...]  # plain JSON
    added: NDArray[np.bool_]  # (N,)
    n_known: int  # new rows that were there before
    n_near: int  # new rows left out: they say nearly what a sealed one says
    n_relabelled: int  # old rows whose text has another label now


def before(project: Path, ledger: Ledger) -> Before:
    """The project and its run; raises InputError where one of them is not there."""
    model = load_model(project)
    run = Run.that_made(ledger, project)
    if run is None:
        raise InputError(
            f"the run that made {project} is not in {ledger.folder}: removed, or made elsewhere. "
            "Wanted its rows. Put old and new rows in one file and give that to `mendel design`."
        )
    if not (run.folder / "inputs.json").exists():
        raise InputError(
            f"run {run.spec.id} was made by an older mendel, which kept its rows otherwise. "
            "Put old and new rows in one file and give that to `mendel design`."
        )
    return Before(project, run, Rows.load(run.folder).learned(), model)


def read_more(was: Before, request: Request, path: Path) -> Examples:
    """New rows of the same kind; one label or one row is enough."""
    kind: TaskKind = was.run.spec.task.kind
    if kind in NO_TABLE:
        raise InputError(
            f"{was.project} is of kind {kind}, whose data is no table of answers to add to. "
            "Wanted another kind. Give all texts to `mendel design`."
        )
    found = read_examples(
        path,
        kind=kind,
        text_column=request.text_column,
        second_column=request.second_column,
        label_column=request.label_column,
        joins=True,
        usual=_columns(was),
    )
    found = was.kind.like(found, was.rows)
    return replace(found, targets=tuple(as_json(target) for target in found.targets))


def join(
    rows: Rows,
    texts: Sequence[str],
    targets: Sequence[Any],
    near: NDArray[np.bool_],
    *,
    again: bool = False,
) -> Joined:
    """The old rows and the new: of a text that has another label now, the old rows go.

    near    (n,) new rows to leave out
    again   old rows whose text comes again count as new ones, though their label is the same
    """
    told = {text: target for text, target, out in zip(texts, targets, near, strict=True) if not out}
    old = list(zip(rows.texts, rows.targets, strict=True))
    same = [(text, target) for text, target in old if told.get(text, target) == target]
    kept = [(text, target) for text, target in same if not (again and text in told)]
    known = {text for text, _ in kept}
    new = [(text, target) for text, target in told.items() if text not in known]
    whole = [*kept, *new]
    return Joined(
        tuple(text for text, _ in whole),
        tuple(target for _, target in whole),
        np.arange(len(whole)) >= len(kept),
        n_known=len(told) - len(new),
        n_near=int(near.sum()),
        n_relabelled=len(old) - len(same),
    )


def redesign(
    was: Before, request: Request, ledger: Ledger, observer: Observer | None = None
) -> Shipped | None:
    """Design again from a shipped project and more rows; the project itself is not touched.

    request  of `request_of`; its `data` are the new rows
    returns  None where the observer declined the plan
    raises   InputError for what the user can mend
    """
    observer, began = observer or Silent(), time.monotonic()
    if request.resume:
        return design(request, ledger, observer)
    check_free(request.out)
    observer.stage("joining old rows and new ones")
    return carry_out(plan_again(was, request, ledger), ledger, observer, began)


def request_of(was: Before, **changed: Any) -> Request:
    """What was asked of the run before, with what is asked otherwise now; None = as before."""
    spec = was.run.spec
    asked: dict[str, Any] = {
        "description": spec.task.description,
        "kind": spec.task.kind,
        "budget_s": spec.budget_s,
        "limits": spec.task.limits,
        "prefer": spec.task.prefer,
        "coverage": spec.task.coverage,
        "reject": spec.task.reject,
        "seed": spec.train.seed,
        "order": spec.task.order,
        "outside_label": spec.outside_label,
        **spec.prices,
    }
    return Request(**asked | {name: value for name, value in changed.items() if value is not None})


def limits_of(
    was: Before, max_bytes: float | None, max_latency_ms: float | None, max_params: float | None
) -> Limits:
    """Those of before, but for what is given now."""
    asked = {
        "max_bytes": max_bytes and max(int(max_bytes), 1),
        "max_latency_ms": max_latency_ms,
        "max_params": max_params and max(int(max_params), 1),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return Limits.parse(was.run.spec.task.limits.to_dict() | given)


def next_to(project: Path) -> Path:
    """DIR-2 beside DIR, DIR-3 beside DIR-2: the first that is free. A killed run leaves it free."""
    project = project.resolve()
    stem, _, number = project.name.rpartition("-")
    name, n = (stem, int(number)) if stem and number.isdigit() else (project.name, 1)
    while (place := project.parent / f"{name}-{n + 1}").exists():
        n += 1
    return place


def plan_again(was: Before, request: Request, ledger: Ledger) -> Plan:
    """The plan of a run on old rows and new ones, with the sealed rows of before."""
    more = read_more(was, request, request.data)
    named = replace(request, outside_label=_outside_label(was, request, more))
    more, given = read_inputs(named, was.kind, more)
    vault = Vault(ledger)
    joined = join(was.rows, more.texts, more.targets, vault.near(was.sealed, more.texts))
    _check_new(joined, given, request.data)
    inputs = _inputs(was.rows.inputs, given, was.sealed, vault)
    return planned(was, request, more, joined, inputs, was.after())


def _columns(was: Before) -> Columns:
    """Where the rows of before had their texts and answers."""
    task = was.run.spec.task
    made = task.kind == "extract" and task.data.label_column == RECORD  # of a column a field
    label = "" if made else task.data.label_column
    return Columns(task.data.text_column, task.data.second_column, label)


def _outside_label(was: Before, request: Request, more: Examples) -> str | None:
    """As given; else as before, or as `mendel label` writes it, where new rows have that."""
    asked = request.outside_label
    if asked is not None and asked != was.run.spec.outside_label:
        return asked
    return next((name for name in (asked, OUTSIDE) if name in more.targets), None)


def planned(
    was: Before, request: Request, more: Examples, joined: Joined, inputs: Inputs, after: After
) -> Plan:
    """The plan card's facts, and what the run keeps of the one before.

    more     the new rows as they were read
    inputs   what the task is given beside rows, without what is nearly sealed
    """
    kind = was.kind
    taken = {text.strip() for text in (*joined.texts, *inputs.outside)}  # labelled by now
    rest = tuple(text for text in inputs.unlabeled if text.strip() not in taken)
    inputs = replace(inputs, unlabeled=rest)
    labels = kind.names(joined.targets)
    data = replace(
        more,
        texts=joined.texts,
        targets=joined.targets,
        digest=digest([joined.texts, joined.targets]),
        notes=(*more.notes, *_notes(was, joined, labels)),
        provenance=_provenance(was, more),
    )
    shape = shape_of(request, kind, len(data.texts), labels, inputs)
    ladder.check_limits(shape, request.budget_s)
    spec = was.run.spec
    return Plan(
        request=request,
        kind=kind,
        data=data,
        test=None,
        validation=None,
        labels=labels,
        inputs=inputs,
        faults=(*more.faults, *_faults(joined), *language_faults(data, inputs)),
        sealed_from=spec.sealed_from.removesuffix(AS_BEFORE) + AS_BEFORE,
        stages=stages_of(request, shape),
        form=form_of(request, kind, labels),
        sources=(*spec.sources, *sources(request)),
        prices=prices(request),
        traits=traits_of(request.description, shape, data.texts, kind.strata(data.targets)),
        start=Start(why=(FROM_BEFORE,)),
        again=Again(after, was.sealed, spec.near_duplicates, joined.added),
    )


def _inputs(old: Inputs, new: Inputs, sealed: Sealed, vault: Vault) -> Inputs:
    """Both, without what says nearly what is sealed."""

    def apart(texts: Sequence[str]) -> tuple[str, ...]:
        if not texts:
            return ()
        near = vault.near(sealed, texts).tolist()
        return tuple(text for text, out in zip(texts, near, strict=True) if not out)

    return Inputs(
        outside=tuple(dict.fromkeys((*old.outside, *apart(new.outside)))),
        unlabeled=tuple(dict.fromkeys((*old.unlabeled, *apart(new.unlabeled)))),
        gazetteers={**old.gazetteers, **new.gazetteers},
        teacher=new.teacher or old.teacher,
        passages=old.passages,
    )


def _check_new(joined: Joined, given: Inputs, path: Path) -> None:
    if joined.added.any() or joined.n_relabelled or given != Inputs():
        return
    raise InputError(
        f"{path} has nothing new: {joined.n_known} rows are those of before, {joined.n_near} say "
        "nearly what a sealed row says. Wanted rows that the design before did not have. Add some."
    )


def _notes(was: Before, joined: Joined, labels: Sequence[str]) -> list[str]:
    known = set(was.rows.names)
    fresh = [name for name in labels if name not in known]
    told = [f"{int((~joined.added).sum()):,} rows of before and {int(joined.added.sum()):,} new"]
    if fresh:
        hint = did_you_mean(fresh[0], known)
        told.append(f"labels that are new: {', '.join(fresh[:8])}. {hint}".strip())
    return told


def _faults(joined: Joined) -> list[Fault]:
    found = (
        ("new row known before", joined.n_known, "counted once"),
        ("new row near a sealed one", joined.n_near, "left out of training"),
        ("old row with another label now", joined.n_relabelled, "the new label holds"),
    )
    return [Fault(kind, n, (), note) for kind, n, note in found if n]


def _provenance(was: Before, more: Examples) -> str:
    """The sealed rows are those of before: so is what is said of them, unless the new differ."""
    old = was.run.spec.origin
    return old if more.provenance in (None, old) else "mixed"

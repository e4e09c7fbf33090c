"""From a description and files to a run that can begin: read, check, seal, split.

Request -> plan (nothing written yet) -> prepare -> Run
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mendel.clocks.design import ladder
from mendel.clocks.design.closing import Ending, closing_s
from mendel.clocks.design.cost import prices
from mendel.clocks.design.documents import documents_of, search_rows
from mendel.clocks.design.given import language_faults, read_inputs
from mendel.clocks.design.request import Plan, Provenance, Request
from mendel.clocks.design.run import Run, RunSpec
from mendel.clocks.design.seal import SEALED_SHARE, Split, seal
from mendel.clocks.design.sources import sources
from mendel.clocks.design.validation import rows_of, rows_to_choose_by
from mendel.clocks.workers import new_run_id
from mendel.data.items import read_items
from mendel.data.label_forms import LabelForm, label_form
from mendel.data.readers import Examples, read_examples
from mendel.data.splits import assign_folds
from mendel.data.tables import Fault, as_error
from mendel.data.targets import NO_TABLE, TaskKind
from mendel.kinds import KINDS, Classify, Kind, Shape
from mendel.ledger import Ledger
from mendel.parts.search.documents import Documents
from mendel.propose import Past, start_from, traits_of
from mendel.spec import DataSpec, FoldSpec, TaskSpec
from mendel.train.folds import Inputs, Rows
from mendel.train.outside import OUTSIDE
from mendel.types import InputError

MIN_ROWS = 20
N_FOLDS, FEW_FOLDS = 5, 3
MANY_ROWS = 12_000  # a third of so many tells recipes half a point apart


def plan(request: Request, earlier: Sequence[Past] = ()) -> Plan:
    """Read the files, refuse what cannot work, and decide where to start.

    earlier  runs that the start may be learned from
    raises   InputError for hard faults, impossible limits, an occupied --out, and under --strict
             for soft faults too
    """
    if not request.description.strip():
        raise InputError("the description is empty. Wanted a sentence that says what to do.")
    _check_numbers(request)
    check_free(request.out)
    documents = documents_of(request)
    if documents is None:
        data = _read(request, request.data, None if request.kind == "auto" else request.kind)
    else:
        data = search_rows(request, documents, request.queries)
    kind = KINDS[data.kind]
    test = _read_test(request, data.kind, documents)
    data, inputs = read_inputs(request, kind, data, documents)
    data, test = kind.told(data, test)
    validation = _read_validation(request, kind, data, test)
    more = validation.targets if validation and request.learn_validation else ()
    labels = kind.names((*data.targets, *more))
    _check_labels(request, kind, data, labels)
    if test is not None and labels and not set(kind.names(test.targets)) & set(labels):
        raise InputError(
            f"{request.test} shares no label with {request.data}: it has "
            f"{kind.names(test.targets)[:1]} where the data has {labels[0]!r}. Wanted the same "
            "names. Check --label-column and spelling."
        )
    if len(data.texts) < MIN_ROWS:
        raise InputError(
            f"{request.queries or request.data} has {len(data.texts)} usable rows. "
            f"Wanted at least {MIN_ROWS}, better 20 of each label. Add rows."
        )
    shape = shape_of(request, kind, len(data.texts), labels, inputs)
    ladder.check_limits(shape, request.budget_s)
    tested = _test_faults(kind, labels, test, request.outside_label)
    choosing = validation.faults if validation else ()
    faults = (*data.faults, *tested, *choosing, *language_faults(data, inputs))
    if request.strict and faults:
        raise as_error(faults)
    share = f"{SEALED_SHARE:.0%} of the data, held out"
    sealed_from = share if request.test is None else f"--test {request.test.name}"
    traits = traits_of(request.description, shape, data.texts, kind.strata(data.targets))
    return Plan(
        request=request,
        kind=kind,
        data=data,
        test=test,
        validation=validation,
        labels=labels,
        form=form_of(request, kind, labels),
        inputs=inputs,
        faults=faults,
        sealed_from=sealed_from,
        stages=stages_of(request, shape),
        sources=sources(request),
        prices=prices(request),
        traits=traits,
        start=start_from(traits, earlier, _looking_s(request, shape)),
    )


def prepare(plan: Plan, ledger: Ledger, started: float | None = None) -> Run:
    """Seal the test rows, split the others into folds, write the run down.

    started   unix seconds when the user began to wait; None = now
    raises    InputError where the rows cannot be split
    """
    request, again = plan.request, plan.again
    split = seal(plan, ledger)
    shape = shape_of(request, plan.kind, len(split.texts), plan.labels, split.inputs)
    rows = _rows(plan, split, shape.n_folds)
    n_learned = len(rows.learned().texts)
    spec = RunSpec(
        id=new_run_id(),
        task=_task(plan, split, n_learned),
        train=FoldSpec(seed=request.seed, n_folds=shape.n_folds),
        budget_s=request.budget_s,
        out=str(request.out.resolve()),
        command=request.command,
        started=started or time.time(),
        sealed=split.sealed.digest,
        n_sealed=split.sealed.n_rows,
        sealed_from=plan.sealed_from,
        outside_label=request.outside_label,
        n_validation=len(rows.texts) - len(split.texts),
        near_duplicates=split.near,
        origin=_origin(request, plan.data, plan.test),
        faults=tuple(asdict(fault) for fault in plan.faults),
        sources=plan.sources,
        prices=plan.prices,
        after=again.after if again else None,
        traits=plan.traits.model_copy(update={"n_rows": shape.n_rows, "n_folds": shape.n_folds}),
        start=plan.start,
    )
    run = Run.create(ledger, spec)
    rows.save(run.folder)
    run.commit()
    return run


def _rows(plan: Plan, split: Split, n_folds: int) -> Rows:
    """The rows that trials may see, in folds."""
    kind, given = plan.kind, plan.validation
    if given is not None:
        return rows_of(plan, split, given, n_folds)
    n_parts = N_FOLDS if kind.n_folds < N_FOLDS else n_folds
    strata = kind.strata(split.targets)
    folds = assign_folds(strata, split.groups, n_folds=n_parts, seed=plan.request.seed)
    folds = kind.held_out(folds, split.targets).astype(np.int64)
    kept = tuple(split.texts), tuple(split.targets)
    added = plan.again.added if plan.again else None
    return Rows(*kept, plan.labels, folds, split.inputs, added)


def _task(plan: Plan, split: Split, n_rows: int) -> TaskSpec:
    request = plan.request
    data = DataSpec(
        digest=plan.data.digest,
        n_rows=n_rows,
        text_column=plan.data.text_column or "text",
        label_column=plan.data.label_column or "label",
        second_column=plan.data.second_column,
        provenance=_provenance(_origin(request, plan.data, plan.test)),
        sealed=split.sealed.digest,
    )
    return TaskSpec(
        description=request.description.strip(),
        kind=plan.data.kind,
        labels=plan.labels,
        order=request.order,
        data=data,
        limits=request.limits,
        coverage=request.coverage,
        reject=request.reject,
        prefer=request.prefer,
    )


def check_free(out: Path) -> None:
    """Refuse a place where the project could not appear; raises InputError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"--out {out} is occupied. Wanted a new or empty folder. "
            "Give another --out, or remove it yourself."
        )
    above = next(folder for folder in out.resolve().parents if folder.exists())
    if out.resolve() == Path.cwd() or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(
            f"--out {out} cannot be made. Wanted a new folder, not the current one, in a place "
            f"that you may write to, which {above} must be. Give another --out."
        )


def _check_numbers(request: Request) -> None:
    if not 0 <= request.seed < 2**31:
        raise InputError(f"--seed {request.seed} is out of range. Wanted 0 to {2**31 - 1}.")
    for flag, share in (("--coverage", request.coverage), ("--reject", request.reject)):
        if not 0 < share < 1:
            raise InputError(f"{flag} {share} is out of range. Wanted a share above 0, below 1.")
    if request.prefer not in ("accuracy", "size"):
        raise InputError(f"prefer={request.prefer!r} is unknown. Wanted accuracy or size.")


def _read(request: Request, path: Path, kind: TaskKind | None, *, joins: bool = False) -> Examples:
    if kind == "generate":
        return read_items(path, text_column=request.text_column)
    return read_examples(
        path,
        kind=kind,
        text_column=request.text_column,
        second_column=request.second_column,
        label_column=request.label_column,
        joins=joins,
    )


def _read_test(request: Request, kind: TaskKind, documents: Documents | None) -> Examples | None:
    if request.test is None:
        return None
    if documents is not None:
        return search_rows(request, documents, request.test)
    return _read(request, request.test, kind, joins=True)  # a label's only row counts too


def _read_validation(
    request: Request, kind: Kind, data: Examples, test: Examples | None
) -> Examples | None:
    if request.validation is None:
        if request.learn_validation:
            raise InputError("--learn-validation has nothing to learn from. Give --validation.")
        return None
    if kind.name in NO_TABLE:
        raise InputError(f"--validation is for rows with answers. Got kind {kind.name}.")
    _, found = kind.told(data, _read(request, request.validation, data.kind, joins=True))
    assert found is not None
    return rows_to_choose_by(request, kind, found, data, test)


def _check_labels(request: Request, kind: Kind, data: Examples, labels: Sequence[str]) -> None:
    if isinstance(kind, Classify) and len(labels) < 2:
        raise InputError(
            f"{request.data} has one label, {labels[:1]}, besides --outside-label. Wanted two or "
            "more. Leave out --outside-label: then it is a label like the other."
        )
    if OUTSIDE in labels:
        raise InputError(
            f"a label is called {OUTSIDE!r}, which is the name of no label at all. Wanted another. "
            f"Rename it, or say --outside-label '{OUTSIDE}'."
        )
    if kind.name == "regress" and data.second_column:
        raise InputError(
            f"{request.data} has two texts and a number a row. Wanted one text a number. Name one "
            "column by --text-column, join the two, or give the numbers as labels (--kind pair)."
        )


def form_of(request: Request, kind: Kind, labels: Sequence[str]) -> LabelForm:
    if isinstance(kind, Classify):
        return label_form(labels, request.order)
    if request.order:
        raise InputError(f"--order is for tasks with one label a text. Got kind {kind.name}.")
    return LabelForm()


def _test_faults(
    kind: Kind, labels: Sequence[str], test: Examples | None, none: str | None
) -> list[Fault]:
    """The test file's own faults, and its rows whose label training does not have."""
    if test is None:
        return []
    rows = [i + 1 for i, t in enumerate(test.targets) if t != none and kind.unknown(t, labels)]
    note = "counted as errors: no model can know a label without a training row"
    unknown = [Fault("test label unknown to training", len(rows), tuple(rows[:5]), note)]
    own = [Fault(f"test file: {f.kind}", f.count, f.rows, f.note) for f in test.faults]
    return own + (unknown if rows else [])


def _n_folds(request: Request, kind: Kind, n_rows: int, inputs: Inputs) -> int:
    """Fewer of many rows; and where unlabelled text teaches, for each fold is taught anew."""
    if request.validation is not None:
        return FEW_FOLDS if request.learn_validation else 1
    taught = inputs.unlabeled and kind.unlabeled == "rows"
    return min(FEW_FOLDS, kind.n_folds) if taught or n_rows > MANY_ROWS else kind.n_folds


def shape_of(
    request: Request, kind: Kind, n_rows: int, labels: Sequence[str], inputs: Inputs
) -> Shape:
    """What a ladder needs to know of what is asked."""
    n_folds = _n_folds(request, kind, n_rows, inputs)
    return kind.shape(n_rows, labels, inputs, request.limits, n_folds)


def stages_of(request: Request, shape: Shape) -> tuple[tuple[str, float], ...]:
    looking = _looking_s(request, shape)
    return (
        ("read, find near-duplicates, seal, split", _reading_s(shape)),
        ("climb the ladder: keywords, linear, networks, mutations", looking),
        ("train the chosen one on all rows, pack, test, report", _closing_s(shape)),
    )


def _looking_s(request: Request, shape: Shape) -> float:
    """Seconds for training before the end begins, as far as one can tell beforehand."""
    return max(request.budget_s - _closing_s(shape) - _reading_s(shape), 0.0)


def _reading_s(shape: Shape) -> float:
    return 2 + (shape.n_rows + shape.n_unlabeled) * 4e-4


def _closing_s(shape: Shape) -> float:
    start = KINDS[shape.kind].builder.starting_point(shape)
    ending = Ending(round(SEALED_SHARE * shape.n_rows))  # a test file may have other than that
    return ladder.estimate_s(start, shape, []) + closing_s(shape, [], ending)


def _origin(request: Request, *files: Examples | None) -> str:
    """Where the rows come from, in the words of the user or of the files."""
    told = {f.provenance for f in files if f is not None and f.provenance}
    if request.kind == "retrieve" and not (request.queries or request.test):
        return "generated"  # the queries are, wherever the documents come from
    return request.provenance or ("mixed" if len(told) > 1 else next(iter(told), "unknown"))


def _provenance(origin: str) -> Provenance:
    """The kind that the words name by their first: "written for this example" is written."""
    known: tuple[Provenance, ...] = ("collected", "written", "generated", "mixed", "unknown")
    first = (origin.split() or [""])[0].strip(",.;:").lower()
    return next((p for p in known if p == first), "unknown")

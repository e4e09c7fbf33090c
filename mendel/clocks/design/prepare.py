"""From a description and files to a run that can begin: read, check, seal, split.

Request -> plan (nothing written yet) -> prepare -> Run
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design import ladder
from mendel.clocks.design.run import Run, RunSpec, new_run_id
from mendel.data.encoder import Encoder
from mendel.data.readers import Examples, read_examples
from mendel.data.splits import assign_folds, holdout, near_duplicate_groups
from mendel.data.tables import Fault, as_error
from mendel.data.targets import TaskKind
from mendel.data.texts import read_texts
from mendel.data.vault import Sealed, Vault
from mendel.kinds import KINDS, Classify, Kind, Shape
from mendel.ledger import Ledger
from mendel.spec import DataSpec, FoldSpec, Limits, TaskSpec
from mendel.train.folds import Inputs, Rows
from mendel.train.outside import OUTSIDE
from mendel.types import InputError

Provenance = Literal["collected", "written", "generated", "mixed", "unknown"]
Item = TypeVar("Item")
MIN_ROWS = 20
N_FOLDS, FEW_FOLDS = 5, 3
SEALED_SHARE = 0.15  # of the data, where no test file is given


@dataclass(frozen=True)
class Request:
    """What a user asks of one design run; the CLI's flags are these fields.

    budget_s    wall-clock seconds for everything, report and packing included
    outside     a file of texts that have none of the labels
    outside_label   rows with this label are such texts, in the data and in the test file
    unlabeled   a file of texts like the labelled ones, without labels
    teacher     folder of a sentence encoder that labels them; "auto" = the one that pip installs
    gazetteers  name and file of phrases, one a line, that a tagger is told of
    coverage    how often sets of labels and intervals are to hold the truth
    reject      share of texts whose right answer abstention may cost
    provenance  where the rows come from; None = as the file says
    """

    description: str
    data: Path
    test: Path | None = None
    text_column: str | None = None
    second_column: str | None = None
    label_column: str | None = None
    provenance: Provenance | None = None
    budget_s: float = 600.0
    limits: Limits = field(default_factory=Limits)
    prefer: Literal["accuracy", "size"] = "accuracy"
    seed: int = 0
    out: Path = Path("mendel-model")
    kind: TaskKind | Literal["auto"] = "auto"
    outside: Path | None = None
    outside_label: str | None = None
    unlabeled: Path | None = None
    teacher: str | None = None
    gazetteers: tuple[tuple[str, Path], ...] = ()
    coverage: float = 0.95
    reject: float = 0.01
    resume: bool = False
    strict: bool = False
    yes: bool = False
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """What will be done, before anything is written: the plan card prints it."""

    request: Request
    kind: Kind
    data: Examples
    test: Examples | None
    labels: tuple[str, ...]
    inputs: Inputs
    faults: tuple[Fault, ...]
    sealed_from: str
    stages: tuple[tuple[str, float], ...]  # name, seconds expected


def plan(request: Request) -> Plan:
    """Read the files and refuse what cannot work.

    raises   InputError for hard faults, impossible limits, an occupied --out, and under --strict
             for soft faults too
    """
    if not request.description.strip():
        raise InputError("the description is empty. Wanted a sentence that says what to do.")
    _check_numbers(request)
    check_free(request.out)
    data = _read(request, request.data, None if request.kind == "auto" else request.kind)
    kind = KINDS[data.kind]
    test = None if request.test is None else _read(request, request.test, data.kind)
    data, inputs = _inputs(request, kind, data)
    labels = kind.names(data.targets)
    _check_labels(request, kind, data, labels)
    if test is not None and labels and not set(kind.names(test.targets)) & set(labels):
        raise InputError(
            f"{request.test} shares no label with {request.data}: it has "
            f"{kind.names(test.targets)[:1]} where the data has {labels[0]!r}. Wanted the same "
            "names. Check --label-column and spelling."
        )
    if len(data.texts) < MIN_ROWS:
        raise InputError(
            f"{request.data} has {len(data.texts)} usable rows. Wanted at least {MIN_ROWS}, "
            "better 20 of each label. Add rows."
        )
    n_rows = len(data.texts) + len(inputs.unlabeled)
    shape = _shape(request, kind, n_rows, labels)
    ladder.check_limits(shape, request.budget_s)
    tested = _test_faults(kind, labels, test, request.outside_label)
    faults = (*data.faults, *tested, *_language_faults(data, inputs))
    if request.strict and faults:
        raise as_error(faults)
    share = f"{SEALED_SHARE:.0%} of the data, held out"
    sealed_from = share if request.test is None else f"--test {request.test.name}"
    stages = _stages(request, shape)
    return Plan(request, kind, data, test, labels, inputs, faults, sealed_from, stages)


@dataclass(frozen=True)
class Split:
    """The rows to learn from; the others are in the vault."""

    texts: list[str]
    targets: list[Any]
    groups: NDArray[np.int64]  # of near-duplicates
    inputs: Inputs  # to learn from: what is nearly sealed is not among them
    sealed: Sealed
    near: tuple[int, ...]  # sealed rows, by place, that have a near-duplicate here


def prepare(plan: Plan, ledger: Ledger, started: float | None = None) -> Run:
    """Seal the test rows, split the others into folds, write the run down.

    started   unix seconds when the user began to wait; None = now
    raises    InputError where the rows cannot be split
    """
    request, train = plan.request, _folds(plan.request)
    split = seal(plan, ledger)
    strata = plan.kind.strata(split.targets)
    folds = assign_folds(strata, split.groups, n_folds=train.n_folds, seed=request.seed)
    spec = RunSpec(
        id=new_run_id(),
        task=_task(plan, split),
        train=train,
        budget_s=request.budget_s,
        out=str(request.out.resolve()),
        command=request.command,
        started=started or time.time(),
        sealed=split.sealed.digest,
        n_sealed=split.sealed.n_rows,
        sealed_from=plan.sealed_from,
        near_duplicates=split.near,
        origin=_origin(request, plan.data, plan.test),
        faults=tuple(asdict(fault) for fault in plan.faults),
    )
    run = Run.create(ledger, spec)
    kept = tuple(split.texts), tuple(split.targets)
    Rows(*kept, plan.labels, folds.astype(np.int64), split.inputs).save(run.folder)
    run.commit()
    return run


def seal(plan: Plan, ledger: Ledger) -> Split:
    """Put the test rows into the vault: those of the test file, or a share of the data."""
    texts, targets = list(plan.data.texts), list(plan.data.targets)
    test_texts = [] if plan.test is None else list(plan.test.texts)
    groups = near_duplicate_groups([*texts, *test_texts])
    mine = groups[: len(texts)]
    vault = Vault(ledger)
    none = plan.request.outside_label
    if plan.test is not None:
        near = np.flatnonzero(np.isin(groups[len(texts) :], mine)).tolist()
        wanted = [None if none is not None and t == none else t for t in plan.test.targets]
        given = None in wanted  # the test file has texts without a label of its own
        outside, more = (
            (plan.inputs.outside, ()) if given else _hold_out_outside(plan.inputs.outside)
        )
        sealed_texts = [*test_texts, *more]
        sealed = vault.seal(sealed_texts, [*wanted, *[None] * len(more)])
        inputs = _apart(replace(plan.inputs, outside=outside), sealed_texts)
        return Split(texts, targets, mine, inputs, sealed, tuple(near))
    # from the data, not from --seed: other seeds do not get other test rows to choose among
    strata = np.array(plan.kind.strata(targets), object)
    held = _hold_out(strata, mine, seed=int(plan.data.digest[:8], 16) % 2**31)
    outside, more = _hold_out_outside(plan.inputs.outside)
    wanted = [*_only(targets, held), *[None] * len(more)]
    sealed_texts = [*_only(texts, held), *more]
    sealed = vault.seal(sealed_texts, wanted)
    near = np.flatnonzero(np.isin(mine[held], mine[~held])).tolist()
    kept = _only(texts, ~held), _only(targets, ~held)
    inputs = _apart(replace(plan.inputs, outside=outside), sealed_texts)
    return Split(*kept, mine[~held], inputs, sealed, tuple(near))


def _apart(inputs: Inputs, sealed: Sequence[str]) -> Inputs:
    """Without texts that are nearly sealed ones; what has no label is not unlabelled."""
    outside = _other_than(inputs.outside, sealed)
    unlabeled = _other_than(inputs.unlabeled, [*sealed, *outside])
    return replace(inputs, outside=outside, unlabeled=unlabeled)


def _other_than(texts: tuple[str, ...], others: Sequence[str]) -> tuple[str, ...]:
    if not texts:
        return texts
    groups = near_duplicate_groups([*others, *texts])
    taken = set(groups[: len(others)].tolist())
    mine = groups[len(others) :].tolist()
    return tuple(t for t, group in zip(texts, mine, strict=True) if group not in taken)


def _inputs(request: Request, kind: Kind, data: Examples) -> tuple[Examples, Inputs]:
    """The rows that have a label, and what else the task is given."""
    for flag, given in (
        ("--outside", request.outside or request.outside_label),
        ("--unlabeled", request.unlabeled),
    ):
        if given and kind.name != "classify":
            raise InputError(f"{flag} is for tasks with one label a text. Got kind {kind.name}.")
    if request.gazetteers and kind.name != "tag":
        raise InputError(f"--gazetteer is for kind tag. Got kind {kind.name}.")
    if request.teacher and not request.unlabeled:
        raise InputError("--teacher labels unlabelled text. Wanted some: give --unlabeled FILE.")
    if request.teacher:
        Encoder.load(request.teacher)  # one of the wrong form is refused before training
    data, rest = _without(data, request.outside_label)
    return data, Inputs(
        outside=(*(read_texts(request.outside).texts if request.outside else ()), *rest),
        unlabeled=read_texts(request.unlabeled).texts if request.unlabeled else (),
        gazetteers={name: read_texts(file).texts for name, file in request.gazetteers},
        teacher=request.teacher,
    )


def _without(data: Examples, none: str | None) -> tuple[Examples, list[str]]:
    """The rows but those of a label that says "none of these", and the texts of those."""
    if none is None:
        return data, []
    if none not in data.targets:
        names = ", ".join(sorted(set(data.labels))[:8])
        raise InputError(f"--outside-label {none!r} is no label of the data. It has {names}, ...")
    pairs = list(zip(data.texts, data.labels, strict=True))
    kept = [(text, label) for text, label in pairs if label != none]
    texts, targets = zip(*kept, strict=True) if kept else ((), ())
    rest = [text for text, label in pairs if label == none]
    return replace(data, texts=texts, targets=targets), rest


def _hold_out_outside(texts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every fifth is sealed, to say how many are found; equal ones stay together."""
    groups = near_duplicate_groups(texts)
    held = [int(group) % 5 == 4 for group in groups]
    pairs = list(zip(texts, held, strict=True))
    return tuple(t for t, h in pairs if not h), tuple(t for t, h in pairs if h)


def _task(plan: Plan, split: Split) -> TaskSpec:
    request = plan.request
    data = DataSpec(
        digest=plan.data.digest,
        n_rows=len(split.texts),
        text_column=plan.data.text_column or "text",
        label_column=plan.data.label_column or "label",
        provenance=_provenance(_origin(request, plan.data, plan.test)),
        sealed=split.sealed.digest,
    )
    return TaskSpec(
        description=request.description.strip(),
        kind=plan.data.kind,
        labels=plan.labels,
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


def _read(request: Request, path: Path, kind: TaskKind | None) -> Examples:
    return read_examples(
        path,
        kind=kind,
        text_column=request.text_column,
        second_column=request.second_column,
        label_column=request.label_column,
    )


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


def _language_faults(data: Examples, inputs: Inputs) -> list[Fault]:
    if not inputs.unlabeled:
        return []
    # imported here: scikit-learn takes seconds, and most runs have no such text
    from mendel.train.few.view import in_another_language

    if not in_another_language(data.texts, inputs.unlabeled):
        return []
    note = "kept, and worth little: give texts like the labelled ones"
    return [Fault("unlabelled text in another language", len(inputs.unlabeled), (), note)]


def _folds(request: Request) -> FoldSpec:
    """Fewer where unlabelled text teaches: each fold is taught anew, which takes its time."""
    return FoldSpec(seed=request.seed, n_folds=FEW_FOLDS if request.unlabeled else N_FOLDS)


def _shape(request: Request, kind: Kind, n_rows: int, labels: Sequence[str]) -> Shape:
    n_folds = _folds(request).n_folds
    return Shape(n_rows, kind.n_outputs(labels), request.limits, n_folds, kind.name)


def _stages(request: Request, shape: Shape) -> tuple[tuple[str, float], ...]:
    start = KINDS[shape.kind].builder.starting_point(shape)
    closing = ladder.estimate_s(start, shape, []) + ladder.closing_s(shape, [])
    reading = 2 + shape.n_rows * 4e-4
    looking = max(request.budget_s - closing - reading, 0.0)
    return (
        ("read, find near-duplicates, seal, split", reading),
        ("climb the ladder: keywords, linear, networks, mutations", looking),
        ("train the chosen one on all rows, pack, test, report", closing),
    )


def _origin(request: Request, *files: Examples | None) -> str:
    """Where the rows come from, in the words of the user or of the files."""
    told = {f.provenance for f in files if f is not None and f.provenance}
    return request.provenance or ("mixed" if len(told) > 1 else next(iter(told), "unknown"))


def _provenance(origin: str) -> Provenance:
    """The kind that the words name by their first: "written for this example" is written."""
    known: tuple[Provenance, ...] = ("collected", "written", "generated", "mixed", "unknown")
    first = (origin.split() or [""])[0].strip(",.;:").lower()
    return next((p for p in known if p == first), "unknown")


def _hold_out(
    labels: NDArray[np.object_], groups: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """The rows to seal: the usual share, more of a set so small that it would give none."""
    for share in (SEALED_SHARE, 0.3, 0.45):
        held = holdout(list(labels), groups, share=share, seed=seed)
        held = _keep_every_label(held, labels, groups)
        if held.any():
            return held
    raise InputError(
        f"{len(labels)} rows leave none to seal: they are near-duplicates of one another, or each "
        "label has too few. Wanted rows that differ. Add some, or give a --test file."
    )


def _keep_every_label(
    held: NDArray[np.bool_], labels: NDArray[np.object_], groups: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """A label whose rows were all held out gets them back, near-duplicates with them."""
    gone = set(labels[held]) - set(labels[~held])
    back = np.unique(groups[np.isin(labels.astype(str), sorted(gone))])
    return held & ~np.isin(groups, back)


def _only(items: Sequence[Item], chosen: NDArray[np.bool_]) -> list[Item]:
    return [item for item, keep in zip(items, chosen, strict=True) if keep]

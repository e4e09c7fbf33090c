"""What a task is given beside its rows: outside and unlabelled texts, a teacher, gazetteers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mendel.clocks.design.request import Request
from mendel.data.encoder import Encoder
from mendel.data.readers import Examples
from mendel.data.tables import Fault
from mendel.data.texts import read_texts
from mendel.kinds import Kind
from mendel.parts.search.documents import Documents
from mendel.train.folds import Inputs
from mendel.types import InputError


def read_inputs(
    request: Request, kind: Kind, data: Examples, documents: Documents | None = None
) -> tuple[Examples, Inputs]:
    """The rows that have a label, and what else the task is given."""
    for flag, given in (
        ("--outside", request.outside or request.outside_label),
        ("--teacher", request.teacher),
    ):
        if given and kind.name != "classify":
            raise InputError(f"{flag} is for tasks with one label a text. Got kind {kind.name}.")
    if request.unlabeled and not kind.unlabeled:
        raise InputError(
            f"--unlabeled is for kinds classify, tag and extract. Got kind {kind.name}."
        )
    if request.gazetteers and kind.name not in ("tag", "extract"):
        raise InputError(f"--gazetteer is for kinds tag and extract. Got kind {kind.name}.")
    if request.teacher and not request.unlabeled:
        raise InputError("--teacher labels unlabelled text. Wanted some: give --unlabeled FILE.")
    if request.teacher:
        Encoder.load(request.teacher)  # one of the wrong form is refused before training
    data, rest = _without(data, request.outside_label)
    faults: list[Fault] = []
    inputs = Inputs(
        outside=(*_texts("outside texts", request.outside, faults), *rest),
        unlabeled=_texts("unlabelled texts", request.unlabeled, faults),
        gazetteers={name: read_texts(file).texts for name, file in request.gazetteers},
        teacher=request.teacher,
        passages=documents.passages if documents else (),
    )
    return replace(data, faults=(*data.faults, *faults)), inputs


def _texts(what: str, path: Path | None, faults: list[Fault]) -> tuple[str, ...]:
    """The texts of a file, whose own faults join those of the rows."""
    if path is None:
        return ()
    found = read_texts(path)
    faults += [replace(fault, kind=f"{what}: {fault.kind}") for fault in found.faults]
    return found.texts


def _without(data: Examples, none: str | None) -> tuple[Examples, list[str]]:
    """The rows but those of a label that says "none of these", and the texts of those."""
    if none is None:
        return data, []
    if none not in data.targets:
        names = ", ".join(sorted(set(data.labels))[:8])
        raise InputError(f"--outside-label {none!r} is no label of the data. It has {names}, ...")
    kept = [i for i, label in enumerate(data.labels) if label != none]
    rest = [t for t, label in zip(data.texts, data.labels, strict=True) if label == none]
    return data.only(kept), rest


def language_faults(data: Examples, inputs: Inputs) -> list[Fault]:
    if not inputs.unlabeled:
        return []
    # imported here: scikit-learn takes seconds, and most runs have no such text
    from mendel.train.few.view import in_another_language

    if not in_another_language(data.texts, inputs.unlabeled):
        return []
    note = "kept, and worth little: give texts like the labelled ones"
    return [Fault("unlabelled text in another language", len(inputs.unlabeled), (), note)]

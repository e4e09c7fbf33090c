"""What a user asks of a design run, and what will be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design.run import After
from mendel.data.label_forms import LabelForm
from mendel.data.readers import Examples
from mendel.data.tables import Fault
from mendel.data.targets import TaskKind
from mendel.data.vault import Sealed
from mendel.kinds import Kind
from mendel.propose import Start, Traits
from mendel.spec import Limits
from mendel.train.folds import Inputs

Provenance = Literal["collected", "written", "generated", "mixed", "unknown"]


@dataclass(frozen=True)
class Request:
    """What a user asks of one design run; the CLI's flags are these fields.

    budget_s    wall-clock seconds for everything, report and packing included
    validation  rows to choose by, like those that the model will meet; learn_validation: they are
                learned from too, each time but the one that they are asked
    outside     a file of texts that have none of the labels
    outside_label   rows with this label are such texts, in the data and in the test file
    unlabeled   a file of texts without labels, like the labelled ones; of taggers any texts
    teacher     folder of a sentence encoder that labels them; "auto" = the one that pip installs
    gazetteers  name and file of phrases, one a line, that a tagger is told of
    order       the labels from the least to the most, where they are steps of an order
    queries     for kind retrieve, where `data` is a folder of documents: what is asked, and the
                file, answer or passage that is wanted; None = made from the documents
    coverage    how often sets of labels and intervals are to hold the truth
    reject      share of texts whose right answer abstention may cost
    provenance  where the rows come from; None = as the file says
    licences    name (of an input: data, test, ..., or of a gazetteer) and licence
    tdp_w       watts of the processor that will answer; euro_per_kwh: price of electricity
    api_price   euro a call of what would be used instead; None = not compared
    cold        begin as if the ledger knew no earlier task
    explain     who watches is shown what the run starts from and why
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
    validation: Path | None = None
    learn_validation: bool = False
    outside: Path | None = None
    outside_label: str | None = None
    unlabeled: Path | None = None
    teacher: str | None = None
    gazetteers: tuple[tuple[str, Path], ...] = ()
    order: tuple[str, ...] = ()
    queries: Path | None = None
    coverage: float = 0.95
    reject: float = 0.01
    licences: tuple[tuple[str, str], ...] = ()
    tdp_w: float = 15.0
    euro_per_kwh: float = 0.30
    api_price: float | None = None
    cold: bool = False
    explain: bool = False
    resume: bool = False
    strict: bool = False
    yes: bool = False
    command: str = ""


@dataclass(frozen=True)
class Again:
    """What a run keeps of the one that it goes on from."""

    after: After
    sealed: Sealed
    near: tuple[int, ...]  # sealed rows, by place, that have a near-duplicate in training
    added: NDArray[np.bool_]  # (N,) rows that are new


@dataclass(frozen=True)
class Plan:
    """What will be done, before anything is written: the plan card prints it."""

    request: Request
    kind: Kind
    data: Examples
    test: Examples | None
    validation: Examples | None
    labels: tuple[str, ...]
    form: LabelForm  # how the labels are related
    inputs: Inputs
    faults: tuple[Fault, ...]
    sealed_from: str
    stages: tuple[tuple[str, float], ...]  # name, seconds expected
    sources: tuple[dict[str, Any], ...]  # name file bytes sha256 licence
    prices: dict[str, Any]
    traits: Traits
    start: Start  # what is tried in which order, and why
    again: Again | None = None

"""The Python API: what the command line does, as functions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mendel.clocks.design.finish import Shipped
from mendel.clocks.design.prepare import check_free
from mendel.clocks.design.request import Provenance, Request
from mendel.clocks.design.session import Observer
from mendel.clocks.design.session import design as run_design
from mendel.data.targets import TaskKind
from mendel.emit.runtime import load_model
from mendel.ledger import Ledger
from mendel.spec import Limits
from mendel.types import InputError


@dataclass(frozen=True)
class Design:
    """A designed model: the emitted project in `folder` and what is known of it."""

    folder: Path
    report: dict[str, Any]

    def predict(self, texts: str | Sequence[str], **options: Any) -> list[Any]:
        """One answer for each text; what it holds depends on the kind of task (`to_dict`).

        options   those of the kind, as the project's answers.py has them: record={...} of extract
        """
        asked = [texts] if isinstance(texts, str) else list(texts)
        found: list[Any] = self._model.predict(asked, **options)
        return found

    def explain(self, text: str) -> list[dict[str, Any]]:
        """The words that decided an answer, weightiest first: explain.py in the project.

        raises   ValueError for a kind of model that cannot say why
        """
        found: list[dict[str, Any]] = self._model.explain(text)
        return found

    def save(self, folder: str | Path) -> Path:
        """Copy the project to a new or empty folder; raises InputError where it is occupied."""
        target = Path(folder)
        check_free(target)
        shutil.copytree(self.folder, target, dirs_exist_ok=True)
        return target

    @cached_property
    def _model(self) -> Any:
        return load_model(self.folder)


def design(
    description: str,
    *,
    data: str | Path,
    test: str | Path | None = None,
    out: str | Path = "mendel-model",
    budget_s: float = 600.0,
    limits: Limits | None = None,
    prefer: Literal["accuracy", "size"] = "accuracy",
    seed: int = 0,
    kind: TaskKind | Literal["auto"] = "auto",
    text_column: str | None = None,
    second_column: str | None = None,
    validation: str | Path | None = None,
    learn_validation: bool = False,
    outside: str | Path | None = None,
    outside_label: str | None = None,
    unlabeled: str | Path | None = None,
    teacher: str | None = None,
    gazetteers: Mapping[str, str | Path] | None = None,
    order: Sequence[str] = (),
    queries: str | Path | None = None,
    coverage: float = 0.95,
    reject: float = 0.01,
    label_column: str | None = None,
    provenance: Provenance | None = None,
    licences: Mapping[str, str] | None = None,
    tdp_w: float = 15.0,
    euro_per_kwh: float = 0.30,
    api_price: float | None = None,
    cold: bool = False,
    resume: bool = False,
    strict: bool = False,
    observer: Observer | None = None,
) -> Design:
    """Design, train and prove a model for texts; the project is written to `out`.

    data test    files of texts with what is wanted for each; `test` is sealed until the end
    kind         what an answer is; auto = guessed from the data
    validation   rows like those it will meet, which choose; learn_validation: and are learned from
    outside      texts that have none of the labels; outside_label: rows with this label are such
    unlabeled    texts like the labelled ones; teacher: a sentence encoder that labels them
    gazetteers   name -> file of phrases, one a line, that a tagger is told of
    order        the labels from the least to the most, where they are steps of an order
    queries      for kind retrieve, whose `data` is a folder: what is asked, and the file wanted
    coverage     how often sets of labels and intervals are to hold the truth
    reject       share of texts whose right answer abstention may cost
    licences     of data, test, outside, unlabeled, teacher, or of a gazetteer by its name
    tdp_w euro_per_kwh api_price   what the report reckons the cost of an answer by
    cold         begin as if the ledger knew no earlier task
    budget_s     wall-clock seconds for everything
    returns      the design; where no model met every limit, the nearest (see report["limits"])
    raises       InputError for what the caller can mend
    cost         up to `budget_s` on all cores (at most 4)
    """
    request = Request(
        description=description,
        data=Path(data),
        test=None if test is None else Path(test),
        kind=kind,
        validation=None if validation is None else Path(validation),
        learn_validation=learn_validation,
        outside=None if outside is None else Path(outside),
        outside_label=outside_label,
        unlabeled=None if unlabeled is None else Path(unlabeled),
        teacher=teacher,
        queries=None if queries is None else Path(queries),
        gazetteers=tuple((name, Path(file)) for name, file in (gazetteers or {}).items()),
        order=tuple(order),
        coverage=coverage,
        reject=reject,
        text_column=text_column,
        second_column=second_column,
        label_column=label_column,
        provenance=provenance,
        licences=tuple((licences or {}).items()),
        tdp_w=tdp_w,
        euro_per_kwh=euro_per_kwh,
        api_price=api_price,
        budget_s=budget_s,
        limits=limits or Limits(),
        prefer=prefer,
        seed=seed,
        out=Path(out),
        cold=cold,
        resume=resume,
        strict=strict,
        yes=True,
        command="mendel.design(...)",
    )
    ledger = Ledger()
    try:
        shipped: Shipped | None = run_design(request, ledger, observer)
    finally:
        ledger.close()
    if shipped is None:
        raise InputError("the observer declined the plan; nothing was designed.")
    return Design(shipped.folder, shipped.report)

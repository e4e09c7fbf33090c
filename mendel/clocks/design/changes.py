"""What changes for those who use a model when another one takes its place: a report's section.

Texts of sealed rows are never shown; of them only how many answers became right or wrong is told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.closing import MOST
from mendel.data.readers import read_examples
from mendel.data.targets import NO_TABLE, TaskKind, as_json
from mendel.data.texts import read_texts
from mendel.data.vault import Opening
from mendel.emit.diff import diff, labelled
from mendel.emit.runtime import load_model
from mendel.kinds import KINDS
from mendel.types import InputError

BEFORE = "the model before"


def command_before(clock: DesignClock) -> list[str] | None:
    """How the model before answers the sealed texts: our code reads its files as data.

    returns   None where there is none, or its folder is gone
    """
    after = clock.run.spec.after
    if after is None or not Path(after.project, "agent.json").exists():
        return None
    flags = clock.kind.predict_flags(clock.run.spec.task.labels[:1])
    return [sys.executable, "-m", "mendel", "predict", after.project, *flags]


def changes(clock: DesignClock, project: Path, opening: Opening) -> dict[str, Any] | None:
    """Old answers beside new ones; None where there is no project to compare with."""
    after = clock.run.spec.after
    if after is None or BEFORE not in opening.answers:
        return None
    old, new = load_model(after.project), load_model(project)
    rate, groups = clock.kind.row_score, []
    for name, note, texts, targets in _groups(clock, new):
        if texts:
            found = diff(old, new, texts, targets=targets, rate=rate)
            groups.append({"name": name, "note": note, **found})
    mine, its = opening.answers[BEFORE], opening.answers["this model"]
    sealed = labelled(mine, its, opening.targets, rate)
    return {"before": Path(after.project).name, "groups": groups, "sealed": sealed}


def between(
    old: Path,
    new: Path,
    *,
    texts: Path | None = None,
    data: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """What changes between two projects on a file of texts, or of rows with what is right.

    raises   InputError unless one of `texts` and `data` is given
    """
    if (texts is None) == (data is None):
        got = "neither" if texts is None else "both"
        raise InputError(f"what to ask the two projects? Got {got}. Give --texts or --data.")
    models = load_model(old), load_model(new)
    if texts is not None:
        found = read_texts(texts, text_column=text_column)
        return diff(*models, found.texts, progress=progress)
    assert data is not None
    kind: TaskKind = models[0].agent["kind"]
    if kind in NO_TABLE:
        raise InputError(f"kind {kind} has no table of answers. Got --data. Give --texts.")
    rows = read_examples(
        data, kind=kind, text_column=text_column, label_column=label_column, joins=True
    )
    rows, _ = KINDS[kind].told(rows, None)
    targets, rate = [as_json(target) for target in rows.targets], KINDS[kind].row_score
    return diff(*models, rows.texts, targets=targets, rate=rate, progress=progress)


def _groups(
    clock: DesignClock, new: Any
) -> list[tuple[str, str, Sequence[str], Sequence[Any] | None]]:
    """Name, note, texts, and what is right where somebody said so."""
    rows = clock.rows
    added = rows.only(rows.added) if rows.added is not None else None
    found: list[tuple[str, str, Sequence[str], Sequence[Any] | None]] = []
    if added is not None:
        note = "the new model has learnt from these, so it is no test of it"
        found.append(("new rows", note, added.texts[:MOST], added.targets[:MOST]))
    found.append(
        ("unlabelled texts", "nobody said what is right", rows.inputs.unlabeled[:MOST], None)
    )
    golden = _travelling(Path(new.folder))
    found.append(("texts that travel with the project", "rows of training", golden, None))
    return found


def _travelling(project: Path) -> list[str]:
    texts: list[str] = json.loads((project / "golden.json").read_bytes())["texts"]
    return texts

"""Rows that choose: what is learned from them, what is refused, and a run that they decide."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mendel
from mendel.clocks.design.again import before
from mendel.clocks.design.prepare import plan, prepare
from mendel.clocks.design.request import Request
from mendel.clocks.design.run import Run
from mendel.kinds import KINDS
from mendel.ledger import Ledger
from mendel.spec import TextSpec
from mendel.train import folds
from mendel.train.folds import ALWAYS, Rows
from mendel.types import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
ROWS = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]


def write(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Every third row chooses."""
    data = write(tmp_path / "data.jsonl", [row for i, row in enumerate(ROWS) if i % 3])
    validation = write(tmp_path / "validation.jsonl", ROWS[::3])
    return Request(
        "Route messages", data, out=tmp_path / "model", budget_s=30, validation=validation
    )


def test_rows_that_choose_are_never_learned_from(request_: Request, ledger: Ledger) -> None:
    run = prepare(plan(request_), ledger)
    rows = Rows.load(run.folder)
    assert rows.aside is not None and int(rows.aside.sum()) == run.spec.n_validation > 50
    assert run.spec.train.n_folds == 1
    told = {row["text"] for row in ROWS[::3]}
    for fold in (0, None):
        learned = rows.learned(fold)
        assert not told & set(learned.texts)
        assert len(learned.texts) == run.spec.task.data.n_rows
    assert set(rows.folds[rows.aside].tolist()) == {0}


def test_a_round_fits_on_the_one_and_is_measured_on_the_other(
    request_: Request, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows.load(prepare(plan(request_), ledger).folder)
    kind = KINDS["classify"]
    seen: list[Sequence[str]] = []
    fit = kind.builder.fit
    monkeypatch.setattr(
        kind.builder,
        "fit",
        lambda r, data, **more: (seen.append(data.texts), fit(r, data, **more))[1],
    )
    spec = TextSpec(part="text", fields={"family": "keywords"})
    measured = folds.measure_fold(kind, spec, rows, 0, seed=0)
    assert rows.aside is not None
    assert len(measured.forms["float32"].kept) == rows.aside.sum()
    assert not {t for t, aside in zip(rows.texts, rows.aside, strict=True) if aside} & set(seen[0])


def test_rows_that_choose_may_be_learned_from_in_the_rounds_that_do_not_ask_them(
    request_: Request, ledger: Ledger
) -> None:
    run = prepare(plan(replace(request_, learn_validation=True)), ledger)
    rows = Rows.load(run.folder)
    assert rows.aside is None and run.spec.train.n_folds == 3
    chooses = rows.folds != ALWAYS
    assert chooses.sum() == run.spec.n_validation
    for fold in range(3):
        learned = set(rows.learned(fold).texts)
        asked = {t for t, f in zip(rows.texts, rows.folds, strict=True) if f == fold}
        assert asked and not asked & learned
        assert len(learned) == len(set(rows.texts)) - len(asked)
    assert len(rows.learned().texts) == len(rows.texts)


def test_what_is_nearly_a_row_of_the_data_or_sealed_does_not_choose(
    request_: Request, ledger: Ledger, tmp_path: Path
) -> None:
    again = [ROWS[1], ROWS[2]]
    sealed = ROWS[::3][:5]
    others = [
        {**row, "text": f"{row['text']} ({i * i} of all)"} for i, row in enumerate(ROWS[3:40])
    ]
    test = write(tmp_path / "test.jsonl", [*sealed, *others])
    more = write(tmp_path / "more.jsonl", [*ROWS[::3], *again])
    made = plan(replace(request_, validation=more, test=test))
    [fault] = [f for f in made.faults if f.kind == "validation row nearly in the data"]
    assert fault.count >= 2
    rows = Rows.load(prepare(made, ledger).folder)
    assert rows.aside is not None
    choose = {t for t, aside in zip(rows.texts, rows.aside, strict=True) if aside}
    assert not choose & {row["text"] for row in (*again, *sealed)} and len(choose) > 50


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS[::3][:10], "Wanted at least 20"),
        ([row for i, row in enumerate(ROWS) if i % 3], "Wanted at least 20"),
        ([*ROWS[::3], {"text": "something quite else", "label": "No such"}], "No such"),
    ],
)
def test_too_few_rows_or_a_label_of_their_own_are_refused(
    rows: list[dict[str, Any]], says: str, request_: Request, tmp_path: Path
) -> None:
    file = write(tmp_path / "other.jsonl", rows)
    with pytest.raises(InputError, match=says):
        plan(replace(request_, validation=file))


def test_the_test_file_itself_cannot_choose(request_: Request) -> None:
    with pytest.raises(InputError, match="Wanted at least 20"):
        plan(replace(request_, test=request_.validation))


def test_a_label_of_their_own_is_learned_where_they_are_learned_from(
    request_: Request, tmp_path: Path
) -> None:
    own = [{"text": f"quite another thing {i} {i * i}", "label": "No such"} for i in range(6)]
    file = write(tmp_path / "other.jsonl", [*ROWS[::3], *own])
    asked = replace(request_, validation=file, learn_validation=True)
    assert "No such" in plan(asked).labels


def test_a_run_is_decided_by_them_and_ships_the_model_that_was_measured(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENDEL_HOME", str(tmp_path / "home"))
    found = mendel.design(
        "Route messages",
        data=request_.data,
        validation=request_.validation,
        out=tmp_path / "model",
        budget_s=25,
    )
    shipped = found.report["shipped"]
    assert "of --validation" in shipped["fitted_on"] and "choose" in shipped["trained_on"]
    [folder] = (tmp_path / "home" / "runs").iterdir()
    n_validation = Run.load(folder).spec.n_validation
    assert found.report["data"]["given"]["rows that choose"] == n_validation
    was = before(tmp_path / "model", Ledger(folder=tmp_path / "home"))
    assert was.rows.aside is None
    assert np.all(was.rows.folds == ALWAYS)
    assert found.predict(["my parcel has not come"])

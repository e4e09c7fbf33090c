"""What is decided before training: the seal, the splits, the line, and what counts as verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.clocks.design.prepare import plan, prepare
from mendel.clocks.design.report import _status
from mendel.clocks.design.request import Request
from mendel.clocks.design.seal import _hold_out
from mendel.ledger import Ledger
from mendel.types import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request("Route messages", EXAMPLE, out=tmp_path / "model", budget_s=30)


def test_other_seeds_and_words_get_the_same_sealed_rows_and_the_same_error_budget(
    request_: Request, ledger: Ledger
) -> None:
    runs = [
        prepare(plan(replace(request_, seed=seed, description=words, provenance=origin)), ledger)
        for seed, words, origin in (
            (0, "Route messages", None),
            (7, "Route messages", "collected"),
            (0, "Sort them", "written"),
        )
    ]
    assert len({run.spec.sealed for run in runs}) == 1
    assert len({run.line.task for run in runs}) == 1
    assert len({run.line.run for run in runs}) == 3


def test_no_sealed_row_has_a_near_duplicate_among_the_others(
    request_: Request, ledger: Ledger
) -> None:
    assert prepare(plan(request_), ledger).spec.near_duplicates == ()


groups_and_labels = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abcd")), min_size=20, max_size=60
)


@given(groups_and_labels, st.integers(0, 1000))
@settings(deadline=None)
def test_holding_out_never_splits_a_group_and_never_takes_a_whole_label(
    rows: list[tuple[int, str]], seed: int
) -> None:
    groups = np.array([group for group, _ in rows])
    labels = np.array([label for _, label in rows], object)
    try:
        held = _hold_out(labels, groups, seed)
    except InputError as error:
        assert "near-duplicates" in str(error)
        return
    assert held.any() and not set(groups[held]) & set(groups[~held])
    assert set(labels) == set(labels[~held])


def test_a_test_file_that_shares_no_label_is_refused_before_training(
    request_: Request, tmp_path: Path
) -> None:
    test = tmp_path / "test.jsonl"
    rows = [{"text": f"message {i}", "label": f"Other {i % 2}"} for i in range(40)]
    test.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="shares no label"):
        plan(replace(request_, test=test))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seed": -1}, "--seed"), ({"prefer": "speed"}, "prefer"), ({"description": " "}, "empty")],
)
def test_a_request_that_makes_no_sense_is_refused(
    change: dict[str, Any], says: str, request_: Request
) -> None:
    with pytest.raises(InputError, match=says):
        plan(replace(request_, **change))


def test_faults_of_what_is_given_besides_the_rows_are_on_the_plan(
    request_: Request, tmp_path: Path
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("where is my parcel\n\nwhere is my parcel\nmy invoice is wrong\n", "utf-8")
    found = {f.kind: f.count for f in plan(replace(request_, unlabeled=more)).faults}
    assert found["unlabelled texts: empty-line"] == 1
    assert found["unlabelled texts: duplicate"] == 1


def test_a_place_below_a_file_is_refused_before_training(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        plan(replace(request_, out=tmp_path / "file" / "model"))


def status(kind: str, n: int, near: int, origin: str = "") -> dict[str, Any]:
    data = SimpleNamespace(provenance=kind)
    spec = SimpleNamespace(
        task=SimpleNamespace(data=data), origin=origin or kind, near_duplicates=tuple(range(near))
    )
    return _status(
        SimpleNamespace(  # type: ignore[arg-type]
            clock=SimpleNamespace(run=SimpleNamespace(spec=spec)),
            opening=SimpleNamespace(targets=["label"] * n),
        )
    )


def test_only_fifty_rows_from_real_use_that_training_has_not_seen_verify() -> None:
    assert status("collected", 50, 0)["verified"]
    assert not status("collected", 49, 0)["verified"]
    assert not status("collected", 80, 80)["verified"], "the test file is the training file"
    for kind in ("unknown", "written", "generated", "mixed"):
        assert not status(kind, 5000, 0)["verified"]
    assert (
        "written for this example" in status("written", 90, 0, "written for this example")["reason"]
    )

"""Guesses ahead, the menu of plans, and the proof that each plan gives the plain answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.serve import prove
from mendel.serve.drafts import LONGEST_REST, Length, Lookup
from mendel.serve.plans import MOST, Menu, menu
from mendel.serve.protocols import F32, Piece
from mendel.serve.reference import Reference
from mendel.spec import PlanSpec
from mendel.types import InputError

from .serve_models import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
LOOKUP = PlanSpec(draft="lookup", n_draft=4)


def test_what_followed_last_time_is_guessed() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 9, 1, 2, 3])
    assert lookup.guess(2) == [4, 5]
    lookup.add(4)
    assert lookup.guess(2) == [5, 9]
    lookup.add(7)
    assert lookup.guess(2) == []


def test_a_text_that_repeats_itself_is_guessed_beyond_its_end() -> None:
    assert Lookup([7, 1, 2, 1, 2, 1, 2]).guess(5) == [1, 2, 1, 2, 1]


def test_the_longer_match_is_taken_before_the_later_one() -> None:
    assert Lookup([1, 2, 3, 4, 8, 2, 3, 5, 1, 2, 3]).guess(1) == [4]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 59))
@settings(max_examples=200, deadline=None)
def test_an_index_made_at_once_is_the_one_that_grew(ids: list[int], n: int) -> None:
    whole, grown = Lookup(ids), Lookup(ids[: 1 + n % len(ids)])
    for id in ids[1 + n % len(ids) :]:
        grown.add(id)
    assert whole.ids == grown.ids == ids
    assert whole._ends == grown._ends


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 15))
@settings(max_examples=200, deadline=None)
def test_a_guess_is_what_came_after_the_same_two_tokens(ids: list[int], n: int) -> None:
    guess = Lookup(ids).guess(n)
    if guess:
        assert len(guess) == n
        suffix = ids[-2:]
        places = [i for i in range(2, len(ids)) if ids[i - 2 : i] == suffix]
        assert guess[0] in {ids[i] for i in places}
    else:
        assert all(ids[i - 2 : i] != ids[-2:] for i in range(2, len(ids)))


def test_guesses_get_shorter_where_they_are_wrong_rest_and_come_back() -> None:
    length = Length(8)
    asked = []
    for _ in range(300):
        n = length.next()
        asked.append(n)
        if n:
            length.heard(n, 0)
    assert asked[0] == 8 and max(asked[3:]) == 1
    assert 0 < sum(asked[100:]) <= 1 + 200 // LONGEST_REST + 4
    length.heard(1, 1)
    grown = []
    for _ in range(5):
        grown.append(length.next())
        length.heard(grown[-1], grown[-1])
    assert grown[-1] == 8


def test_the_menu_is_short_begins_with_plain_and_names_what_it_refuses() -> None:
    found = menu(Reference(tiny(n_layers=4)), exits=(1, 2), n_cores=1)
    assert next(iter(found.plans)) == "plain" and len(found.plans) <= MOST
    assert {"lookup-4", "shallow-1x4", "shallow-2x2", "plain-fresh"} <= set(found.plans)
    assert "1 cores" in found.refused["plain-t2"]
    untrained = menu(Reference(tiny(n_layers=4)), n_cores=2)
    assert "--early-exit" in untrained.refused["shallow-1x2"]
    with pytest.raises(InputError, match="early-exit"):
        untrained.pinned("shallow-1x2")
    with pytest.raises(InputError, match="Did you mean 'lookup-4'"):
        untrained.pinned("lokup-4")


def test_a_program_that_takes_nothing_back_has_no_plans_that_guess() -> None:
    class Rigid(Reference):
        n_undo = 0

    found = menu(Rigid(tiny("a recurrence")), exits=(1,), n_cores=2)
    assert set(found.plans) == {"plain", "plain-t2", "plain-fresh"}
    assert "takes back 0 tokens" in found.refused["lookup-4"]


class Sloppy(Reference):
    """Other bits for tokens that come in company, as most kernels have."""

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        self.n_runs = getattr(self, "n_runs", 0) + 1
        found = super().run(pieces, depth=depth, threads=threads)
        for piece, logits in zip(pieces, found, strict=True):
            if 1 < len(piece.ids) <= 8 and piece.n_wanted > 1:  # a draft that is checked
                logits *= 1.0000002
        return found


def test_a_plan_that_changes_one_bit_is_refused_and_the_others_stay(tmp_path: Path) -> None:
    program = Sloppy(tiny())
    plans = {plan.name: plan for plan in (PlanSpec(), LOOKUP)}
    found = prove.proven(program, Menu(plans, {}), folder=tmp_path)
    assert list(found.plans) == ["plain"]
    assert "log-probability" in found.refused["lookup-4"]


def test_a_proof_is_made_once_for_a_model_and_again_for_another(tmp_path: Path) -> None:
    program, plans = Sloppy(tiny("a recurrence", n_layers=1)), {"plain": PlanSpec()}
    for _ in range(2):
        assert list(prove.proven(program, Menu(plans, {}), folder=tmp_path).plans) == ["plain"]
        n_runs, program.n_runs = program.n_runs, 0
    assert n_runs == 0
    other = Sloppy(tiny("a recurrence", n_layers=1, seed=1))
    prove.proven(other, Menu(plans, {}), folder=tmp_path)
    assert other.n_runs > 0 and len(list(tmp_path.iterdir())) == 2


def test_a_proof_that_takes_too_long_is_left_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, menu = Reference(tiny()), Menu({p.name: p for p in (PlanSpec(), LOOKUP)}, {})
    monkeypatch.setattr(prove, "LIMIT_S", 0.0)
    monkeypatch.setattr(prove, "LIMIT_TIMES", 0.0)
    found = prove.proven(program, menu, folder=tmp_path)
    assert list(found.plans) == ["plain"] and "busy" in found.refused["lookup-4"]
    monkeypatch.setattr(prove, "LIMIT_S", 600.0)
    told: list[tuple[int, int, str]] = []
    again = prove.proven(program, menu, folder=tmp_path, tell=lambda *at: told.append(at))
    assert list(again.plans) == ["plain", "lookup-4"]
    assert told == [(0, 2, "plain"), (1, 2, "lookup-4")]


def test_a_damaged_proof_is_made_again(tmp_path: Path) -> None:
    program, plans = Sloppy(tiny(n_layers=1)), {"plain": PlanSpec()}
    prove.proven(program, Menu(plans, {}), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text("{", encoding="utf-8")
    program.n_runs = 0
    assert prove.proven(program, Menu(plans, {}), folder=tmp_path).plans
    assert program.n_runs > 0

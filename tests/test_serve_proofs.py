"""The start of a server is short: threads are looked at first, proofs have their time in all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mendel.serve import prove
from mendel.serve.plans import Menu
from mendel.serve.protocols import F32, Piece
from mendel.serve.reference import Reference
from mendel.serve.threads import no_faster
from mendel.spec import PlanSpec

from .serve_models import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
TWO = PlanSpec(threads=2)
LOOKUPS = tuple(PlanSpec(draft="lookup", n_draft=n) for n in (2, 4, 8))


class Threaded(Reference):
    """Each run takes the seconds that its threads take here, by a clock of its own."""

    def __init__(self, *seconds: float) -> None:
        super().__init__(tiny(n_layers=1))
        self.seconds, self.asked, self.now = seconds, list[int](), 0.0

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        self.asked.append(threads)
        self.now += self.seconds[threads - 1]
        return super().run(pieces, depth=depth, threads=threads)


def ticking(program: Threaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """What threads.py sees of time is the program's own."""
    monkeypatch.setattr("mendel.serve.threads.time", type("Clock", (), {
        "perf_counter": staticmethod(lambda: program.now)
    }))  # fmt: skip


def test_threads_are_worth_a_proof_only_where_a_step_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seconds, reason in [
        ((0.010, 0.006), None),
        ((0.010, 0.010), "hardly faster"),
        ((0.010, 0.015), "slower here"),
    ]:
        program = Threaded(*seconds)
        ticking(program, monkeypatch)
        found = no_faster(program, 2)
        assert found is None if reason is None else reason in str(found)
        assert program.now < 0.3 + 4 * max(seconds) and program.asked.count(2) > 2
        assert program.n_bytes == 0


def test_two_threads_on_a_busy_core_are_given_up_after_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = Threaded(0.001, 1.0)
    ticking(program, monkeypatch)
    assert "slower here: a step by 2 threads takes 1000.00 ms" in str(no_faster(program, 2))
    assert program.asked.count(2) == 1


def test_a_plan_of_slow_threads_is_named_without_a_proof_and_seen_again_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, menu = Threaded(0.001, 1.0), Menu({"plain": PlanSpec(), TWO.name: TWO}, {})
    ticking(program, monkeypatch)
    for n_looks in (1, 0):
        program.asked.clear()
        found = prove.proven(program, menu, folder=tmp_path, drops_slow=True)
        assert list(found.plans) == ["plain"] and "slower here" in found.refused[TWO.name]
        assert program.asked.count(2) == n_looks
    program.asked.clear()
    monkeypatch.setattr(prove, "DAY_S", 1e12)  # it is another one
    program.seconds = (0.001, 0.0005)
    assert TWO.name in prove.proven(program, menu, folder=tmp_path, drops_slow=True).plans
    n = program.asked.count(2)
    assert n > 100, "it was proven, too"
    prove.proven(program, menu, folder=tmp_path, drops_slow=True)
    assert program.asked.count(2) == n


def test_who_pins_a_plan_of_slow_threads_has_it(tmp_path: Path) -> None:
    program = Threaded(0.001, 1.0)
    assert TWO.name in prove.proven(program, Menu({TWO.name: TWO}, {}), folder=tmp_path).plans


def test_proofs_have_their_time_in_all_and_the_next_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Threaded(0.0)
    plans = {plan.name: plan for plan in (PlanSpec(), *LOOKUPS)}
    monkeypatch.setattr(prove, "TOTAL_S", 0.0)
    known = ["plain"]
    for plan in LOOKUPS:  # one more at each start
        known.append(plan.name)
        found = prove.proven(program, Menu(plans, {}), folder=tmp_path)
        assert list(found.plans) == known
        assert found.plans.keys() | found.refused.keys() == set(plans)
        assert all("next start" in reason for reason in found.refused.values())
    program.asked.clear()
    prove.proven(program, Menu(plans, {}), folder=tmp_path)
    assert not program.asked

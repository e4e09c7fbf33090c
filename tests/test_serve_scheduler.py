"""Whose turn it is: fair to tenants, and no row of a batch is left empty."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.serve.job import Job
from mendel.serve.protocols import Request
from mendel.serve.scheduler import QUANTUM, Scheduler


class Read:
    """A text that takes what it is given."""

    def __init__(self) -> None:
        self.n = 0


def scheduler(*lines: tuple[str, int], max_running: int = 100) -> Scheduler:
    """(tenant, tokens of its prompt) of jobs that came in this order."""
    found = Scheduler(max_running)
    for i, (tenant, n) in enumerate(lines):
        found.wait(Job(Request(f"{tenant}{i}", (1,) * n, 1, tenant=tenant), print))
    while (job := found.next()) is not None:
        job.text = Read()  # type: ignore[assignment]
    return found


def go_on(scheduler: Scheduler, budget: int) -> Counter[str]:
    rows: Counter[str] = Counter()
    for job, n in scheduler.chunks(budget, lambda job: len(job.ids)):
        assert job.text is not None and n > 0
        job.text.n += n  # type: ignore[misc]
        rows[job.request.tenant] += n
    return rows


def test_one_tenant_with_many_long_prompts_has_no_more_rows_than_another() -> None:
    found = scheduler(*[("greedy", 5000)] * 10, ("modest", 5000))
    rows = sum((go_on(found, 48) for _ in range(50)), Counter())
    assert abs(rows["greedy"] - rows["modest"]) <= 2 * QUANTUM
    assert rows.total() == 50 * 48


def test_a_tenant_that_was_away_has_saved_nothing() -> None:
    found = scheduler(("a", 5000), ("b", 40))
    for _ in range(40):
        go_on(found, 32)
    newcomer = scheduler(("b", 5000)).running.popitem()[1]
    found.running[newcomer.request.id] = newcomer
    rows = sum((go_on(found, 32) for _ in range(10)), Counter())
    assert abs(rows["a"] - rows["b"]) <= 2 * QUANTUM


def test_inside_a_tenant_a_short_prompt_does_not_wait_for_long_ones() -> None:
    found = scheduler(("", 10_000), ("", 10_000), ("", 20))
    job = found.running["2"]
    for _ in range(3):
        go_on(found, 64)
    assert job.n_lacking == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 90)), min_size=1, max_size=12),
    st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_every_row_is_used_while_there_is_something_to_read(
    lines: list[tuple[str, int]], budget: int
) -> None:
    found = scheduler(*lines)
    while lacking := sum(job.n_lacking for job in found.running.values() if job.n_lacking > 1):
        assert go_on(found, budget).total() == min(budget, lacking)


def test_the_tenant_with_the_fewest_running_is_admitted_first() -> None:
    found = scheduler(*[("a", 5)] * 4, ("b", 5), ("b", 5), max_running=4)
    assert Counter(job.request.tenant for job in found.running.values()) == {"a": 2, "b": 2}


def test_a_tenant_is_not_kept_out_by_texts_of_another_that_do_not_end() -> None:
    found = scheduler(*[("greedy", 5)] * 6, max_running=4)
    assert len(found.running) == 4
    modest = Job(Request("m0", (1,), 1, tenant="modest"), print)
    found.wait(modest)
    found.wait(Job(Request("m1", (1,), 1, tenant="modest"), print))
    assert found.next() is modest
    assert found.next() is None, "one is enough while it is crowded"
    found.end(modest)
    assert found.next() is not None


def test_tenants_come_in_beyond_the_batch_up_to_twice_as_many() -> None:
    found = scheduler(*[(f"t{i}", 5) for i in range(9)], max_running=3)
    assert len(found.running) == 6


def test_who_was_set_back_does_not_come_in_again_before_somebody_ends() -> None:
    found = scheduler(("a", 5), ("b", 5), max_running=4)
    found.set_back(found.running["b1"])
    assert found.next() is None, "it would be set back again, and again"
    found.wait(Job(Request("c", (1,), 1, tenant="c"), print))
    newcomer = found.next()
    assert newcomer is not None and newcomer.request.id == "c"
    found.end(newcomer)
    back = found.next()
    assert back is not None and back.request.id == "b1"


def test_who_was_set_back_comes_before_all_others_of_the_tenant() -> None:
    found = scheduler(("a", 5), ("a", 5), ("a", 5), max_running=2)
    youngest = found.running["a1"]
    found.set_back(youngest)
    assert found.next() is None, "there is no room before somebody ends"
    found.end(found.running["a0"])
    assert found.next() is youngest


@pytest.mark.parametrize("id", ("a0", "a2", "nobody"))
def test_a_job_is_found_wherever_it_is(id: str) -> None:
    found = scheduler(("a", 5), ("a", 5), ("a", 5), max_running=1)
    job = found.find(id)
    assert (job.request.id if job else "nobody") == id
    assert found.n_waiting == (1 if id == "a2" else 2)

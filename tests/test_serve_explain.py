"""An explanation says what made the difference: model, plan, company, or plan and company."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mendel.generate import Sampler
from mendel.serve.engine import Engine
from mendel.serve.explain import COMPANY, explain, first_difference, time_by
from mendel.serve.protocols import End, Fixed, Listener, Request, Token
from mendel.serve.reference import Reference
from mendel.serve.watched import Finished, Ring, Watched
from mendel.spec import PlanSpec
from mendel.types import InputError

from .serve_models import VOCAB, tiny
from .test_serve_observe import TRACE

pytestmark = pytest.mark.usefixtures("one_thread")
LOOKUP = PlanSpec(draft="lookup", n_draft=4)
PLANS = {plan.name: plan for plan in (PlanSpec(), LOOKUP)}


def request(i: int) -> Request:
    ids = np.random.default_rng(i).integers(0, VOCAB, 6).tolist()
    return Request(f"r{i}", tuple(ids * 3), 10, Sampler(0.7 if i % 2 else 0.0, 0.9, i))


def served(engine: Watched, asked: list[Request]) -> None:
    ended = threading.Semaphore(0)
    for each in asked:
        engine.submit(each, lambda e: ended.release() if isinstance(e, End) else None)
    for _ in asked:
        assert ended.acquire(timeout=60)


def test_an_exact_plan_is_found_to_make_no_difference_to_the_tokens() -> None:
    ring = Ring()
    engine = Engine(Reference(tiny()), PLANS, Fixed(LOOKUP.name))
    try:
        served(Watched(engine, [ring.add]), [request(i) for i in range(5)])
        told = explain(engine, ring, "r3")
        assert told["tokens_by"] == "nothing"
        assert told["as_served"]["tokens_equal"]
        ways = {(row["plan"], row["company"]) for row in told["replays"]}
        assert ways == {(p, n) for p in PLANS for n in (0, COMPANY)}
        assert all(row["tokens_equal"] and row["work_ms"] > 0 for row in told["replays"])
        assert len(ring) == 5  # replays are not kept
        seen = engine.stats()
        assert seen.n_done == 5 and seen.n_cached <= 5, "it leaves nothing behind"
    finally:
        engine.close()


def test_what_was_cut_off_is_replayed_no_further_and_in_company_of_its_own_tenant_alone() -> None:
    ring = Ring()
    with_others = [replace(request(i), tenant="ann" if i < 3 else "bob") for i in range(6)]
    engine = Engine(Reference(tiny()), PLANS, Fixed(LOOKUP.name))
    try:
        watched = Watched(engine, [ring.add])
        served(watched, with_others)
        begun, ended = threading.Event(), threading.Event()

        def listen(event: Token | End) -> None:
            (ended if isinstance(event, End) else begun).set()

        watched.submit(Request("endless", (1, 2), 100_000, tenant="ann"), listen)
        assert begun.wait(60)
        watched.cancel("endless")
        assert ended.wait(60)
        before = engine.stats().n_rows
        told = explain(engine, ring, "endless")
        assert told["as_served"]["tokens_equal"] and told["tokens_by"] == "nothing"
        assert {row["company"] for row in told["replays"]} == {0, COMPANY}
        told = explain(engine, ring, "r4")  # bob has two others
        assert {row["company"] for row in told["replays"]} == {0, 2}
        assert engine.stats().n_rows > before
    finally:
        engine.close()


class Anything:
    """A grammar that allows all, and would be large."""

    is_done = False

    def allowed(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.ones(VOCAB, np.bool_)

    def accept(self, id: int) -> None: ...


def test_a_grammar_is_not_kept_and_its_request_is_not_explained() -> None:
    ring, grammar = Ring(), Anything()
    engine = Engine(Reference(tiny()), PLANS, Fixed(LOOKUP.name))
    try:
        served(Watched(engine, [ring.add]), [replace(request(1), grammar=grammar)])
        kept, gone = ring.get("r1"), weakref.ref(grammar)
        assert kept is not None and len(kept.ids) == 10
        del grammar
        end = time.monotonic() + 60
        while gone() is not None:
            gc.collect()
            assert time.monotonic() < end
            time.sleep(0.01)
        with pytest.raises(InputError, match="form"):
            explain(engine, ring, "r1")
    finally:
        engine.close()


class Planted:
    """An engine that does what a table says: tokens and seconds by plan and company."""

    def __init__(self, ids: Callable[[str, int], list[int]], s: Callable[[str, int], float]):
        self.ids, self.s = ids, s
        self.n = 0

    def submit(self, request: Request, listener: Listener) -> None:
        if "beside" in request.id:
            self.n += 1
            return
        plan, n, self.n = str(request.plan), self.n, 0
        ids = self.ids(plan, n)
        for id in ids:
            listener(Token(id))
        trace = replace(TRACE, id=request.id, plan=plan, n_out=len(ids), work_s=self.s(plan, n))
        listener(End("length", trace))

    def cancel(self, id: str) -> None: ...

    def stats(self) -> None: ...

    def close(self, drain_s: float = 0.0) -> None: ...


def planted(
    ids: Callable[[str, int], list[int]] = lambda p, n: [1, 2, 3, 4],
    s: Callable[[str, int], float] = lambda p, n: 1.0,
    was: tuple[int, ...] = (1, 2, 3, 4),
) -> dict:
    ring = Ring()
    for i in range(4):
        end = End("length", replace(TRACE, plan="lookup-4", n_out=4))
        ring.add(Finished(replace(request(i), id=f"r{i}"), was, end))
    return explain(Planted(ids, s), ring, "r0")


def other(wrong: bool) -> list[int]:
    return [1, 2, 9, 4] if wrong else [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("cause", "wrong"),
    [
        ("nothing", lambda plan, n: False),
        ("plan", lambda plan, n: plan == "lookup-4"),
        ("company", lambda plan, n: n > 0),
        ("interaction", lambda plan, n: plan == "lookup-4" and n > 0),
    ],
)
def test_it_names_what_changed_the_tokens_and_where(
    cause: str, wrong: Callable[[str, int], bool]
) -> None:
    told = planted(lambda plan, n: other(wrong(plan, n)))
    assert told["tokens_by"] == cause
    for row in told["replays"]:
        is_wrong = wrong(row["plan"], row["company"])
        assert row["first_difference"] == (2 if is_wrong else None)


@pytest.mark.parametrize("wrong", [False, True])
def test_log_probabilities_are_compared_bit_for_bit_where_they_were_asked_for(wrong: bool) -> None:
    def logprob(plan: str) -> float:
        return float(np.nextafter(-0.5, -1.0)) if wrong and plan == "lookup-4" else -0.5

    class Told(Planted):
        def submit(self, request: Request, listener: Listener) -> None:
            def hear(event: Token | End) -> None:
                is_token = isinstance(event, Token)
                listener(Token(event.id, logprob(str(request.plan))) if is_token else event)

            super().submit(request, hear)

    ring, n = Ring(), 4
    end = End("length", replace(TRACE, plan="lookup-4", n_out=n))
    ids = tuple(range(1, n + 1))
    tokens = tuple(Token(id, logprob("lookup-4")) for id in ids)
    ring.add(Finished(replace(request(0), n_logprobs=0), ids, end, tokens))
    told = explain(Told(lambda p, n: list(ids), lambda p, n: 1.0), ring, "r0")
    assert told["tokens_by"] == ("plan" if wrong else "nothing")
    assert told["as_served"]["tokens_equal"] and told["as_served"]["logprobs_equal"] is not wrong
    for row in told["replays"]:
        assert row["tokens_equal"]
        assert row["logprobs_equal"] is not (wrong and row["plan"] == "lookup-4")


def test_a_model_that_says_something_else_now_is_named() -> None:
    told = planted(was=(1, 2, 3, 7))
    assert told["tokens_by"] == "model"
    assert told["as_served"]["first_difference"] == 3


@pytest.mark.parametrize(
    ("cause", "seconds", "factor"),
    [
        ("model", lambda plan, n: 1.0, 1.0),
        ("plan", lambda plan, n: 0.5 if plan == "lookup-4" else 1.0, 0.5),
        ("company", lambda plan, n: 0.6 if n else 1.0, 0.6),
        ("interaction", lambda plan, n: 3.0 if n and plan == "lookup-4" else 1.0, 3.0),
    ],
)
def test_it_names_what_changed_the_time_and_by_how_much(
    cause: str, seconds: Callable[[str, int], float], factor: float
) -> None:
    told = planted(s=seconds)
    assert told["time_by"] == cause
    assert told["effects"].get(cause, 1.0) == pytest.approx(factor)
    assert cause == "model" or f"{max(factor, 1 / factor):.2f} times" in told["says"]


def test_an_unknown_request_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="not among the 0"):
        explain(Planted(lambda p, n: [], lambda p, n: 1.0), Ring(), "r9")


def test_the_ring_keeps_the_newest_within_its_bounds() -> None:
    ring = Ring(most=3, most_tokens=70)
    for i in range(6):
        ring.add(Finished(request(i), (1, 2), End("length", TRACE)))
    assert ring.get("r5") is not None and ring.get("r0") is None
    assert len(ring) == 3 and ring.n_tokens == 60
    ring.add(Finished(replace(request(6), prompt=(1,) * 60), (), End("length", TRACE)))
    assert len(ring) == 1 and ring.n_tokens == 60
    ring.add(Finished(replace(request(6), prompt=(1,) * 10), (), End("length", TRACE)))
    assert len(ring) == 1 and ring.n_tokens == 10


def test_the_first_difference_is_also_where_one_ends() -> None:
    assert first_difference((1, 2), (1, 2, 3)) == 2
    assert first_difference((1, 2), (1, 2)) is None
    assert time_by({"plan": 0.05, "company": -0.05, "interaction": 0.0}) == "model"

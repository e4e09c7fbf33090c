"""The engine: the same tokens alone, batched, cached, guessed ahead and set back; fair; bounded."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mendel.generate import Sampler, generate
from mendel.serve.engine import Engine
from mendel.serve.protocols import (
    F32,
    Choice,
    Features,
    Fixed,
    Overloaded,
    Piece,
    PoolFull,
    Program,
    Request,
    Token,
    Trace,
)
from mendel.serve.prove import plain
from mendel.serve.reference import Reference
from mendel.spec import PlanSpec
from mendel.types import InputError

from .serve_models import SPECS, VOCAB, Heard, ask, running, stories, tiny

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY, DRAWN = Sampler(), Sampler(0.9, 0.95, seed=11)
LOOKUP = PlanSpec(draft="lookup", n_draft=4)
SHALLOW = PlanSpec(draft="shallow", n_draft=3, depth=1)
PLANS = (PlanSpec(), PlanSpec(reuse=False), LOOKUP, SHALLOW)


def requests(
    n: int, *, sampler: Sampler = GREEDY, n_tokens: int = 12, **more: Any
) -> list[Request]:
    """Prompts of 3 to 60 tokens, of which many begin alike and repeat themselves."""
    draw = random.Random(4)
    common = [draw.randrange(VOCAB) for _ in range(40)]
    found = []
    for i in range(n):
        own = [draw.randrange(VOCAB) for _ in range(draw.randrange(3, 20))]
        prompt = [*common, *own] if i % 2 else own * (1 + i % 3)
        found.append(
            Request(
                id=f"r{i}", prompt=tuple(prompt), n_tokens=n_tokens, sampler=sampler,
                n_logprobs=2, **more,
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("sampler", (GREEDY, DRAWN), ids=("greedy", "drawn"))
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("name", SPECS)
def test_every_plan_gives_the_plain_tokens_and_their_very_probabilities(
    name: str, plan: PlanSpec, sampler: Sampler
) -> None:
    program = Reference(tiny(name))
    asked = requests(4, sampler=sampler)
    wanted = [plain(program, request) for request in asked]
    with running(program, plan, chunk_rows=24) as engine:
        alone = [ask(engine, [request])[0] for request in asked]
        again = ask(engine, asked)  # batched, and cached where the plan reuses
        stats = engine.stats()
    assert [heard.tokens for heard in alone] == wanted
    assert [heard.tokens for heard in again] == wanted
    assert (stats.n_hits > 0) == plan.reuse
    assert (stats.n_drafted > 0) == (plan.n_draft > 0)
    assert program.n_bytes == 0


@pytest.mark.parametrize("name", SPECS)
def test_a_text_is_the_one_that_generate_writes(name: str) -> None:
    model = tiny(name)
    for request in requests(3, sampler=DRAWN):
        with running(Reference(model), LOOKUP) as engine:
            (heard,) = ask(engine, [request])
        wanted = generate(model, request.prompt, n_tokens=12, temperature=0.9, top_p=0.95, seed=11)
        assert heard.ids == list(wanted)


def test_a_real_model_writes_its_story_under_every_plan() -> None:
    model = stories()
    request = Request("s", (1, 403, 407, 261, 378), 40)
    wanted = list(generate(model, request.prompt, n_tokens=40))
    for plan in PLANS:
        with running(Reference(model), plan) as engine:
            assert ask(engine, [request])[0].ids == wanted


def test_bf16_texts_do_not_depend_on_the_plan_either() -> None:
    program = Reference(tiny("a hybrid"), "bf16")
    asked = requests(4, sampler=DRAWN)
    wanted = [plain(program, request) for request in asked]
    for plan in (LOOKUP, SHALLOW):
        with running(program, plan) as engine:
            assert [heard.tokens for heard in ask(engine, asked)] == wanted


def test_guesses_are_right_often_where_the_text_repeats_itself() -> None:
    program = Reference(tiny())
    request = Request("r", tuple([3, 5, 7, 9, 11] * 6), 60)
    with running(program, LOOKUP) as engine:
        trace = ask(engine, [request])[0].end.trace
    assert trace.n_accepted > 0.5 * trace.n_drafted > 0
    assert trace.n_steps < 59 == trace.n_out - 1


def test_texts_set_back_for_want_of_room_are_the_same() -> None:
    asked = requests(8, sampler=DRAWN, n_tokens=30)
    free = Reference(tiny())
    wanted = [plain(free, request) for request in asked]
    tight = Reference(tiny(), capacity_bytes=90_000)
    with running(tight, chunk_rows=32) as engine:
        heard = ask(engine, asked)
        assert engine.stats().n_set_back > 0
    assert [one.tokens for one in heard] == wanted


def test_200_streams_at_once_are_all_right_and_none_is_lost() -> None:
    program = Reference(tiny(n_layers=1))
    asked = [
        Request(f"r{i}", (i % VOCAB, i * 7 % VOCAB, i // 20), 6, Sampler(1.0, 1.0, seed=i))
        for i in range(200)
    ]
    with running(program) as engine:
        heard = ask(engine, asked)
    assert [one.tokens for one in heard] == [plain(program, request) for request in asked]


def test_a_stop_id_ends_a_text_and_is_not_given_under_any_plan() -> None:
    program = Reference(tiny())
    whole = [token.id for token in plain(program, Request("r", (3, 5, 3, 5, 3), 30))]
    last = whole[10]
    wanted = whole[: whole.index(last)]
    for plan in PLANS:
        with running(program, plan) as engine:
            request = Request("r", (3, 5, 3, 5, 3), 30, stop=frozenset({last}))
            (heard,) = ask(engine, [request])
        assert (heard.ids, heard.end.reason) == (wanted, "stop")


class Alternating:
    """Even ids and odd ids in turn, n of them."""

    def __init__(self, n: int) -> None:
        self.taken: list[int] = []
        self.n = n

    def allowed(self) -> Any:
        return np.arange(VOCAB) % 2 == len(self.taken) % 2

    def accept(self, id: int) -> None:
        self.taken.append(id)

    @property
    def is_done(self) -> bool:
        return len(self.taken) == self.n


def test_a_grammar_decides_token_by_token_and_drafts_do_not_escape_it() -> None:
    program = Reference(tiny())
    found = []
    for plan in PLANS:
        grammar = Alternating(15)
        request = Request("r", (3, 5, 3, 5, 3), 40, DRAWN, n_logprobs=0, grammar=grammar)
        with running(program, plan) as engine:
            (heard,) = ask(engine, [request])
        assert heard.ids == grammar.taken and heard.end.reason == "stop"
        assert [id % 2 for id in heard.ids] == [i % 2 for i in range(15)]
        found.append(heard.tokens)
    assert all(tokens == found[0] for tokens in found)


def test_a_cancelled_request_ends_and_the_others_go_on() -> None:
    program = Reference(tiny())
    long, other = Request("long", (1, 2, 3), 5000), Request("other", (4, 5), 20)
    with running(program) as engine:
        heard = Heard()
        engine.submit(long, heard)
        assert heard.begun.wait(30)
        another = Heard()
        engine.submit(other, another)
        engine.cancel("long")
        assert heard.end.reason == "cancelled"
        assert [token.id for token in another.tokens][:1] is not None
        assert another.ids == [token.id for token in plain(program, other)]
    assert program.n_bytes == 0


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    with running(Reference(tiny()), max_queue=2, max_running=1) as engine:
        first = Heard()
        engine.submit(Request("first", (1,), 5000), first)
        assert first.begun.wait(30)
        waiting = [Heard(), Heard()]
        for i, heard in enumerate(waiting):
            engine.submit(Request(f"w{i}", (2,), 2), heard)
        with pytest.raises(Overloaded) as refused:
            engine.submit(Request("late", (3,), 2), Heard())
        assert 1 <= refused.value.retry_after_s <= 60
        engine.cancel("first")
        assert [heard.end.reason for heard in waiting] == ["length", "length"]
        assert engine.stats().n_refused == 1


def test_a_tenant_that_fills_the_queue_leaves_places_for_others() -> None:
    with running(Reference(tiny()), max_queue=8, max_running=1) as engine:
        first = Heard()
        engine.submit(Request("first", (1,), 50_000, tenant="greedy"), first)
        assert first.begun.wait(30)
        waiting: list[Heard] = []

        def flood(tenant: str) -> int:
            """How many of ten are taken."""
            taken = 0
            for i in range(10):
                try:
                    engine.submit(
                        Request(f"{tenant}-{i}", (2,), 1, tenant=tenant), heard := Heard()
                    )
                except Overloaded as refused:
                    assert "wait" in str(refused)
                    continue
                waiting.append(heard)
                taken += 1
            return taken

        assert flood("greedy") == 4
        assert flood("another") >= 2
        engine.cancel("first")
        assert {heard.end.reason for heard in waiting} == {"length"}


@pytest.mark.parametrize(
    ("request_", "word"),
    (
        (Request("r", (), 3), "empty"),
        (Request("r", (VOCAB,), 3), "vocab"),
        (Request("r", (-1,), 3), "vocab"),
        (Request("r", (1,), 0), "n_tokens"),
        (Request("r", (1,) * 250, 7), "context"),
        (Request("r", (1,), 3, plan="lokup-4"), "lookup-4"),
        (Request("r", (1,), 3, n_logprobs=99), "n_logprobs"),
    ),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_served_is_refused_at_once(request_: Request, word: str) -> None:
    with (
        running(Reference(tiny("learned positions")), LOOKUP) as engine,
        pytest.raises(InputError, match=word),
    ):
        engine.submit(request_, Heard())


def test_a_text_that_no_memory_would_hold_is_refused_at_once() -> None:
    program = Reference(tiny(), capacity_bytes=200_000)
    with running(program) as engine:
        with pytest.raises(InputError, match="MiB"):
            engine.submit(Request("r", (1, 2), 100_000), Heard())
        assert ask(engine, [Request("r", (1, 2), 50)])[0].end.reason == "length"


def test_a_text_fills_its_context_to_the_last_place_under_every_plan() -> None:
    program = Reference(tiny("learned positions"))
    request = Request("r", tuple([3, 5, 7] * 70), 46)
    wanted = plain(program, request)
    for plan in PLANS:
        with running(program, plan) as engine:
            assert ask(engine, [request])[0].ids == [token.id for token in wanted]


class Failing(Reference):
    """Fails on one id, as a broken kernel would."""

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        if any(13 in piece.ids for piece in pieces):
            raise RuntimeError("illegal instruction")
        return super().run(pieces, depth=depth, threads=threads)


def test_a_program_that_fails_fails_the_requests_in_it_and_the_engine_lives() -> None:
    program = Failing(tiny())
    with running(program) as engine:
        (bad,) = ask(engine, [Request("bad", (13,), 5)])
        assert bad.end.reason == "failed" and "illegal instruction" in str(bad.end.error)
        good = Request("good", (1,), 1)
        assert ask(engine, [good])[0].ids == [token.id for token in plain(program, good)]
        assert engine.stats().n_failed == 1
    assert program.n_bytes == 0


def test_logits_that_are_no_numbers_fail_their_request_with_the_reason() -> None:
    model = tiny()
    with torch.no_grad():
        model.embedding.tokens.weight[9] = float("nan")
    with running(Reference(model)) as engine:
        bad, good = ask(engine, [Request("bad", (9,), 5), Request("good", (1,), 1)])
        assert bad.end.reason == "failed" and "weights are broken" in str(bad.end.error)
        assert good.end.reason == "length"


def test_a_listener_that_fails_ends_its_own_request_only() -> None:
    def deaf(_: object) -> None:
        raise OSError("gone")

    program = Reference(tiny())
    request = Request("r", (1, 2), 10)
    with running(program) as engine:
        engine.submit(Request("deaf", (1, 2), 500), deaf)
        assert ask(engine, [request])[0].tokens == plain(program, request)
        engine.close(10)
    assert program.n_bytes == 0


class Broken:
    def choose(self, features: Features) -> Choice:
        raise ZeroDivisionError

    def done(self, trace: Trace) -> None:
        raise ZeroDivisionError


def test_a_chooser_that_fails_costs_nobody_an_answer() -> None:
    program = Reference(tiny())
    engine = Engine(program, {"plain": PlanSpec(), LOOKUP.name: LOOKUP}, Broken())
    (heard,) = ask(engine, [Request("r", (1, 2), 4)])
    engine.close()
    assert heard.end.trace.plan == "plain" and heard.end.trace.arm == "baseline"


class Listening(Fixed):
    def __init__(self, plan: str) -> None:
        super().__init__(plan)
        self.features: list[Features] = []
        self.traces: list[Trace] = []

    def choose(self, features: Features) -> Choice:
        self.features.append(features)
        return super().choose(features)

    def done(self, trace: Trace) -> None:
        self.traces.append(trace)


def test_the_chooser_hears_of_every_request_before_and_after() -> None:
    chooser = Listening("plain")
    engine = Engine(Reference(tiny()), {"plain": PlanSpec()}, chooser)
    prompt = tuple([1, 2, 3, 4] * 20)
    for i in range(2):
        ask(engine, [Request(f"r{i}", prompt, 5, DRAWN)])
    stats = engine.stats()
    engine.close()
    cold, warm = chooser.features
    assert (cold.n_prompt, cold.n_cached, warm.n_cached) == (80, 0, 79)
    assert cold.sampled and not cold.constrained and cold.overlap > 0.9
    assert [trace.n_out for trace in chooser.traces] == [5, 5]
    for trace in chooser.traces:
        assert 0 < trace.work_s <= trace.first_token_s + trace.decode_s
        assert trace.n_steps == 4
    assert sum(trace.work_s for trace in chooser.traces) == pytest.approx(stats.work_s)


def test_what_a_step_cost_is_shared_by_rows() -> None:
    chooser = Listening("plain-fresh")
    engine = Engine(Reference(tiny()), {"plain-fresh": PlanSpec(reuse=False)}, chooser)
    many = Request("many", tuple(range(VOCAB)) * 20, 1)
    few = Request("few", (1, 2), 1)
    ask(engine, [many, few])
    stats = engine.stats()
    engine.close()
    cost = {trace.id: trace.work_s for trace in chooser.traces}
    assert cost["many"] > cost["few"] > 0
    assert sum(cost.values()) == pytest.approx(stats.work_s)


def test_a_tenant_with_long_prompts_does_not_keep_others_waiting() -> None:
    """Steps, not seconds: by the end of the short one, few of the long rows may have been run."""
    program = Reference(tiny())
    order: list[str] = []

    def listener(name: str) -> Callable[[object], None]:
        def hear(event: object) -> None:
            if not isinstance(event, Token):
                order.append(name)

        return hear

    engine = Engine(
        program, {"plain": PlanSpec()}, Fixed("plain"), cache_bytes=0, max_running=4, chunk_rows=8
    )
    gate = Heard()
    engine.submit(Request("gate", (1,), 5000), gate)
    assert gate.begun.wait(30)
    last = threading.Event()
    for i in range(6):
        engine.submit(
            Request(f"long{i}", tuple(range(20)) * 20, 1, tenant="a"), listener(f"long{i}")
        )

    def short(event: object) -> None:
        if not isinstance(event, Token):
            order.append("short")
            last.set()

    engine.submit(Request("short", (5, 6, 7), 1, tenant="b"), short)
    assert last.wait(60)
    engine.cancel("gate")
    engine.close(60)
    assert order.index("short") <= 2, order


def test_close_lets_those_end_who_are_here_and_takes_no_more() -> None:
    engine = Engine(Reference(tiny()), {"plain": PlanSpec()}, Fixed("plain"))
    heard = [Heard() for _ in range(3)]
    for i, one in enumerate(heard):
        engine.submit(Request(f"r{i}", (i,), 20), one)
    assert engine.close(60) == 0
    assert [len(one.ids) for one in heard] == [20, 20, 20]
    with pytest.raises(Overloaded, match="closing"):
        engine.submit(Request("late", (1,), 2), Heard())


def test_close_cuts_off_those_who_do_not_end_in_time() -> None:
    engine = Engine(Reference(tiny()), {"plain": PlanSpec()}, Fixed("plain"))
    heard = Heard()
    engine.submit(Request("r", (1,), 100_000), heard)
    assert heard.begun.wait(30)
    assert engine.close(0.05) == 1
    assert heard.end.reason == "cancelled"


def test_nothing_is_left_of_requests_that_ended() -> None:
    program = Reference(tiny(n_layers=1))
    with running(program, LOOKUP, cache_bytes=20_000, max_queue=500) as engine:
        for i in range(3):
            heard = [Heard() for _ in range(60)]
            for j, one in enumerate(heard):
                request = Request(f"{i}-{j}", (j % VOCAB,) * (1 + j), 4, tenant=f"t{i}-{j}")
                engine.submit(request, one)
                if j % 5 == 0:
                    engine.cancel(request.id)
            reasons = {one.end.reason for one in heard}
            assert reasons <= {"length", "cancelled"} and "length" in reasons
        held = (engine._known, engine._arrived, engine._cancelled, engine.scheduler.all())
        assert not any(held)
        assert not engine.scheduler._waiting and len(engine.scheduler._deficits) <= 60
        cache = engine.cache
        assert len(cache._holders) <= sum(len(e.hashes) for e in cache._entries.values())
        assert sum(map(len, cache._ends.values())) == len(cache)
    assert not cache._holders and not cache._ends and program.n_bytes == 0


@pytest.mark.parametrize("name", ("llama", "a window", "a recurrence"))
def test_the_kernels_give_their_plain_tokens_under_every_plan(name: str) -> None:
    pytest.importorskip("numba")
    from mendel.serve import numerics

    program = numerics.program(tiny(name), dtype="float32", capacity_bytes=2**24)
    asked = requests(6, sampler=DRAWN)
    wanted = [plain(program, request) for request in asked]
    for plan in PLANS:
        with running(program, plan, chunk_rows=24) as engine:
            for _ in range(2):
                assert [heard.tokens for heard in ask(engine, asked)] == wanted
    assert program.n_bytes == 0


def test_a_second_close_does_not_wait_for_the_first() -> None:
    engine = Engine(Reference(tiny()), {"plain": PlanSpec()}, Fixed("plain"))
    heard = Heard()
    engine.submit(Request("r", (1,), 1_000_000), heard)
    assert heard.begun.wait(30)
    patient = threading.Thread(target=engine.close, args=(3600,))
    patient.start()
    assert engine.close() == 1
    patient.join(60)
    assert not patient.is_alive() and heard.end.reason == "cancelled"


@pytest.mark.parametrize("name", ("a window", "a recurrence"))
def test_kernels_with_little_room_set_back_and_stay_exact(name: str) -> None:
    pytest.importorskip("numba")
    from mendel.serve import numerics
    from mendel.serve.footprint import measured

    free = numerics.program(tiny(name), dtype="float32", capacity_bytes=2**26)
    asked = requests(16, sampler=DRAWN, n_tokens=60)
    wanted = [plain(free, request) for request in asked]
    room = int(2.2 * measured(free).of(260)) + 2**17
    tight = numerics.program(tiny(name), dtype="float32", capacity_bytes=room)
    with running(tight, LOOKUP, cache_bytes=room // 3, chunk_rows=32) as engine:
        heard = ask(engine, asked)
        assert engine.stats().n_set_back > 0
    assert [one.tokens for one in heard] == wanted


def test_an_engine_closes_whenever_it_is_told_to() -> None:
    """The race between going to sleep and being woken for the last time, often."""
    program = Reference(tiny(n_layers=1))
    for i in range(60):
        engine = Engine(program, {"plain": PlanSpec()}, Fixed("plain"))
        if i % 2:
            ask(engine, [Request("r", (1,), 1)])
        engine.close()
        assert not engine._thread.is_alive()


@pytest.mark.parametrize("name", ("llama", "a window", "a recurrence", "a hybrid"))
def test_kernels_tell_what_a_text_takes(name: str) -> None:
    pytest.importorskip("numba")
    from mendel.serve import numerics

    program = numerics.program(tiny(name), dtype="float32", capacity_bytes=2**24)
    text = program.text()
    for n in range(1, 140):
        program.run([Piece(text, [n % VOCAB])])
        rest, most = program.bytes_of(n)
        assert rest <= program.n_bytes <= most
        if program.cuts or name == "a window":
            assert program.n_bytes == rest
    text.free()


@pytest.mark.parametrize("name", ("a window", "a recurrence"))
def test_a_long_text_that_fits_is_served_and_one_that_does_not_is_refused_at_once(
    name: str,
) -> None:
    """Memory of a window or a recurrence grows no more: a line through two short texts says so."""
    pytest.importorskip("numba")
    from mendel.serve import numerics
    from mendel.serve.footprint import measured

    free = numerics.program(tiny(name), dtype="float32", capacity_bytes=2**26)
    footprint = measured(free)
    room = max(int(footprint.most(600)), int(footprint.of(128)) + 3 * 2**14)
    assert footprint.fits(room) > 10_000
    request = Request("r", tuple(range(20)) * 20, 200)
    wanted = plain(free, request)
    tight = numerics.program(tiny(name), dtype="float32", capacity_bytes=room)
    with running(tight, LOOKUP) as engine:
        assert ask(engine, [request])[0].tokens == wanted


def test_a_text_that_just_fits_is_served_and_one_more_token_is_refused_at_once() -> None:
    pytest.importorskip("numba")
    from mendel.serve import numerics
    from mendel.serve.footprint import measured

    free = numerics.program(tiny(), dtype="float32", capacity_bytes=2**24)
    room = int(measured(free).most(160))  # whole pages
    program = numerics.program(tiny(), dtype="float32", capacity_bytes=room)
    with running(program, LOOKUP) as engine:
        most = engine.footprint.fits(room)
        request = Request("r", tuple(range(20)) * 5, most + 1 - 100)
        assert ask(engine, [request])[0].tokens == plain(free, request)
        with pytest.raises(InputError, match=f"about {most} tokens"):
            engine.submit(Request("s", request.prompt, most + 2 - 100), Heard())


class Late(deque[Any]):
    """Another thread asks and leaves just when the engine has seen that nobody came."""

    then: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        is_some, then = len(self) > 0, self.then
        if not is_some and then is not None:
            self.then = None
            then()
        return is_some


def test_who_leaves_at_once_is_cancelled() -> None:
    with running(Reference(tiny()), PlanSpec()) as engine:
        late, heard = Late(), Heard()

        def comes_and_leaves() -> None:
            engine.submit(Request("gone", (1, 2, 3), 50), heard)
            engine.cancel("gone")

        engine._arrived, late.then = late, comes_and_leaves
        engine._wake.set()
        assert heard.end.reason == "cancelled"


class Full:
    """Has no room at the n-th run from now on."""

    def __init__(self, inner: Program) -> None:
        self._inner, self.left = inner, -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, *args: Any, **known: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise PoolFull("no room")
        return self._inner.run(*args, **known)


def warmed(engine: Engine, ids: Sequence[int], until: Callable[[], bool]) -> None:
    assert engine.warm(ids)
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, "it was not warmed within a minute"
        time.sleep(0.005)


def test_what_was_warmed_and_thrown_away_counts_as_wasted() -> None:
    program: Any = Full(Reference(tiny("learned positions")))
    with running(program, PlanSpec(), warm_share=1e9) as engine:
        ask(engine, [Request("a", (1, 2, 3), 4)])
        program.left = 3  # two chunks are computed, the third has no room
        warmed(engine, [i % VOCAB for i in range(120)], lambda: program.left <= 0)
        ask(engine, [Request("b", (9, 8, 7), 4)])
        seen = engine.stats()
        assert seen.warm_s > 0 and seen.wasted_s >= 0.9 * seen.warm_s


def test_what_was_warmed_is_useful_as_far_as_it_is_taken() -> None:
    program = Reference(tiny(context=256))
    with running(program, PlanSpec(), warm_share=1e9) as engine:
        system = [i % 7 for i in range(64)]  # many talks begin with it
        ask(engine, [Request("a", (*system, 9, 9), 2)])
        foreseen = [*system, *(i % 9 + 10 for i in range(100))]
        warmed(engine, foreseen, lambda: bool(engine.stats().n_warmed))
        wasted_s = engine.stats().wasted_s
        assert wasted_s > 0
        ask(engine, [Request("b", (*system, 20, 21, 22), 2)])  # another talk
        assert engine.stats().wasted_s == wasted_s
        ask(engine, [Request("c", tuple(foreseen[:120]), 2)])
        assert 0 < engine.stats().wasted_s < 0.7 * wasted_s
        ask(engine, [Request("d", (*foreseen, 20), 2)])
        assert engine.stats().wasted_s < 0.1 * wasted_s


def test_what_goes_beyond_the_context_is_warmed_as_far_as_that() -> None:
    with running(Reference(tiny("learned positions")), PlanSpec(), warm_share=1e9) as engine:
        ask(engine, [Request("a", (1, 2, 3), 4)])
        assert engine.program.context == 256
        warmed(engine, [1] * 300, lambda: bool(engine.stats().n_warmed))

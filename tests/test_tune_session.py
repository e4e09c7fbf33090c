"""The tuner beside a real engine: profile, choices, turns."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mendel.clocks.tune import session
from mendel.clocks.tune.profile import (
    Measured,
    Profile,
    _Asker,
    kept,
    kinds,
    machine,
    profile,
    surviving,
)
from mendel.clocks.tune.session import Tuner
from mendel.ledger import Ledger
from mendel.serve.engine import Engine
from mendel.serve.protocols import End, Fixed, Listener, Request
from mendel.serve.reference import Reference
from mendel.serve.watched import Finished, Watched
from mendel.spec import PlanSpec
from mendel.types import InputError, Kind

from .serve_models import VOCAB, ask, tiny
from .test_serve_observe import FEATURES, TRACE

pytestmark = pytest.mark.usefixtures("one_thread")
MENU = {
    plan.name: plan
    for plan in (
        PlanSpec(),
        PlanSpec(draft="lookup", n_draft=4),
        PlanSpec(draft="lookup", n_draft=8),
        PlanSpec(draft="shallow", n_draft=3, depth=1),
    )
}


def requests(n: int, begin: int = 0) -> list[Request]:
    found = []
    for i in range(begin, begin + n):
        ids = np.random.default_rng(i).integers(0, VOCAB, 5).tolist()
        found.append(Request(f"r{i}", tuple(ids * (1 + i % 4)), 6))
    return found


def test_a_server_that_tunes_itself_gives_the_plain_tokens_and_leaves_turns(
    ledger: Ledger,
) -> None:
    program = Reference(tiny())
    plain = Engine(program, MENU, Fixed("plain"))
    wanted = [heard.ids for heard in ask(plain, requests(60))]
    plain.close()
    tuner = Tuner(ledger, program.digest, MENU, chance=1)
    engine = Engine(program, MENU, tuner.chooser)
    try:
        found = tuner.profile(engine, vocab=VOCAB, context=64, budget_s=0.5)
        assert {row.plan for row in found.rows} == set(MENU)
        tuner.begin()
        got: list[Sequence[int]] = []
        for i in range(0, 60, 5):
            got += [heard.ids for heard in ask(engine, requests(60)[i : i + 5])]
        assert got == wanted
        status = tuner.status()
        assert sum(status["arms"].values()) == 60
        assert status["saved"]["n"] > 0
        json.dumps(status, allow_nan=True)
    finally:
        engine.close()
        tuner.close()
    assert ledger.turns(tuner.clock.line, kinds=[Kind.START])


def test_a_profile_is_measured_once_for_a_model_machine_and_menu(tmp_path: Path) -> None:
    engine = Engine(Reference(tiny()), MENU, Fixed("plain"))
    calls = []

    def measure() -> Profile:
        calls.append(1)
        return profile(engine, list(MENU), vocab=VOCAB, context=64, budget_s=0.1)

    try:
        first = kept(tmp_path, "1" * 64, MENU, measure)
        assert kept(tmp_path, "1" * 64, MENU, measure) == first
        assert len(calls) == 1
        kept(tmp_path, "2" * 64, MENU, measure)
        kept(tmp_path, "1" * 64, {"plain": MENU["plain"]}, measure)
        assert len(calls) == 3
        for file in tmp_path.glob("*.json"):
            file.write_text(file.read_text()[:50])
        assert kept(tmp_path, "1" * 64, MENU, measure).rows
        assert len(calls) == 4
    finally:
        engine.close()
    assert machine() == machine()


def test_a_profile_keeps_to_its_budget_and_meets_every_plan(tmp_path: Path) -> None:
    engine = Engine(Reference(tiny()), MENU, Fixed("plain"))
    try:
        began = time.perf_counter()
        found = profile(engine, list(MENU), vocab=VOCAB, context=64, budget_s=0.01, limit_s=600)
        least = time.perf_counter() - began
    finally:
        engine.close()
    met = {(row.kind, row.plan) for row in found.rows}
    assert met == {(kind, plan) for kind in kinds(VOCAB, 64) for plan in MENU}
    assert {row.n for row in found.rows} <= {1, 2}  # it does not go on, nor with what is hopeless
    assert found.seconds <= least


def test_a_profile_ends_at_its_limit_whatever_it_has_not_met() -> None:
    engine = Engine(Reference(tiny()), MENU, Fixed("plain"))
    asked: list[Request] = []
    watched = Watched(engine, [lambda one: asked.append(one.request)])
    try:
        found = profile(watched, list(MENU), vocab=VOCAB, context=64, limit_s=0.0)
        assert len(asked) == 2, "the first plan, once to make ready"
        seen = engine.stats()
        assert seen.n_done == seen.n_cached == 0, "it is nobody's traffic, and leaves nothing"
    finally:
        engine.close()
    assert [row.plan for row in found.rows] == ["plain"]
    assert surviving(found, MENU, "plain") == ["plain"]


def test_a_plan_that_fails_in_the_profile_is_named() -> None:
    engine = Engine(Reference(tiny()), {"plain": PlanSpec()}, Fixed("plain"))
    try:
        with pytest.raises(InputError, match="lookup-4"):
            profile(engine, ["plain", "lookup-4"], vocab=VOCAB, context=64, budget_s=0.1)
    finally:
        engine.close()


def test_a_disk_that_is_full_stops_neither_the_tuner_nor_its_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tuner, full = Tuner(ledger, "5" * 64, MENU), threading.Event()

    def turn() -> None:
        if len(caplog.records) >= 3:
            full.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session, "LEAST_S", 0.005)
    monkeypatch.setattr(session, "MOST_S", 0.005)
    monkeypatch.setattr(tuner.driver, "turn", turn)
    news = [True]  # once: what could not be written is still owed later
    monkeypatch.setattr(tuner.clock, "has_news", lambda: bool(news and news.pop()))
    tuner.begin()
    assert full.wait(60)
    tuner.close()
    waits = [r.args[0] for r in caplog.records if r.args]
    assert waits[:3] == [0.01, 0.02, 0.04], "it is tried again, ever later"
    assert "last turn" in caplog.text


def test_a_plan_whose_proof_waits_does_not_make_another_line(ledger: Ledger) -> None:
    fewer = {name: MENU[name] for name in list(MENU)[:2]}
    lines = []
    for plans, menu in ((MENU, None), (fewer, list(MENU)), (fewer, None)):
        tuner = Tuner(ledger, "6" * 64, plans, "deterministic", menu=menu)
        lines.append(tuner.clock.line)
        tuner.close()
    assert lines[0] == lines[1] != lines[2]


class Stuck:
    """An engine whose answers under one plan do not come until they are cancelled."""

    def __init__(self, engine: Engine, plan: str) -> None:
        self.engine, self.plan = engine, plan
        self.held: dict[str, Listener] = {}

    def submit(self, request: Request, listener: Listener) -> None:
        if request.plan == self.plan:
            self.held[request.id] = listener
        else:
            self.engine.submit(request, listener)

    def cancel(self, id: str) -> None:
        self.held.pop(id)(End("cancelled", TRACE))


def test_a_plan_that_does_not_answer_is_left_out_and_the_profile_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Asker, "wait_s", 2.0)
    engine = Engine(Reference(tiny()), MENU, Fixed("plain"))
    try:
        stuck = Stuck(engine, "lookup-8")

        def measure() -> Profile:
            return profile(stuck, list(MENU), vocab=VOCAB, context=64, budget_s=0.01, limit_s=600)

        found = kept(tmp_path, "4" * 64, MENU, measure)
        assert "lookup-8" not in {row.plan for row in found.rows}
        assert "lookup-8" not in surviving(found, MENU, "plain") and not list(tmp_path.iterdir())
        with pytest.raises(InputError, match="busy"):
            profile(Stuck(engine, "plain"), ["plain"], vocab=VOCAB, context=64)
    finally:
        engine.close()


def rows(plan: str, **ys: float) -> list[Measured]:
    return [Measured(kind, plan, FEATURES, y, 3) for kind, y in ys.items()]


def test_a_plan_is_dropped_only_for_one_of_its_kind_that_is_faster_everywhere() -> None:
    found = Profile(
        (
            *rows("plain", free=0.0, copy=0.0),
            *rows("lookup-4", free=1.0, copy=1.0),
            *rows("lookup-8", free=1.3, copy=1.2),
            *rows("shallow-1x3", free=2.0, copy=2.0),
        ),
        1.0,
    )
    assert surviving(found, MENU, "plain") == ["plain", "lookup-4", "shallow-1x3"]
    silent = Profile(found.rows[:4], 1.0)  # two plans did not answer in time
    assert surviving(silent, MENU, "plain") == ["plain", "lookup-4"]
    near = Profile((*found.rows[:4], *rows("lookup-8", free=1.3, copy=0.9)), 1.0)
    assert "lookup-8" in surviving(near, MENU, "plain")
    assert surviving(found, MENU, "lookup-8")[2] == "lookup-8"


@pytest.mark.parametrize("context", [None, 16, 64, 300, 2048])
def test_texts_of_a_profile_fit_the_context(context: int | None) -> None:
    for request in kinds(VOCAB, context, [[1, 2, 3] * 10]).values():
        assert request.prompt and request.n_tokens >= 1
        assert context is None or len(request.prompt) + request.n_tokens <= context
        assert max(request.prompt) < VOCAB


def test_a_profile_teaches_what_is_dear_before_the_first_request(ledger: Ledger) -> None:
    tuner = Tuner(ledger, "3" * 64, MENU)
    for plan, y in (("plain", 0.0), ("lookup-4", 0.1), ("lookup-8", 2.0), ("shallow-1x3", -0.5)):
        for _ in range(4):
            tuner.chooser.told(FEATURES, plan, y)
    tuner.chooser.choose(replace(FEATURES, n_prompt=110))
    [row] = tuner.status()["classes"].values()
    cost = row["ms_per_unit"]
    assert min(cost, key=cost.__getitem__) == "shallow-1x3"
    assert max(cost, key=cost.__getitem__) == "lookup-8"
    assert tuner.chooser.live() == {next(iter(tuner.chooser.live())): "plain"}  # not yet looked at
    tuner.close()


def test_what_the_asker_says_of_the_next_prompt_is_what_is_warmed(ledger: Ledger) -> None:
    class Taken:
        block, warmed = 1, list[tuple[int, ...]]()

        def warm(self, ids: Sequence[int], tenant: str = "") -> bool:
            self.warmed.append(tuple(ids))
            return True

    tuner, taken = Tuner(ledger, "4" * 64, MENU), Taken()
    heard = []

    def then(output: tuple[int, ...], reason: str) -> tuple[int, ...]:
        heard.append((output, reason))
        return (*range(40), *range(7))

    trace = replace(TRACE, reason="cancelled", features=replace(FEATURES, n_cached=0))
    asked = Request("a", tuple(range(40)), 60, then=then)
    tuner.heard(Finished(asked, (9,) * 60, End("cancelled", trace)))
    assert tuner.foresight.tick(taken) == 1
    assert heard == [((9,) * 60, "cancelled")]
    assert taken.warmed == [(*range(40), *range(7))]
    tuner.close()

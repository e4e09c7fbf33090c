"""Probes: a rival that becomes faster is found when nobody is served, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.classes import units
from mendel.clocks.tune.probe import MOST_TOKENS, Probes
from mendel.serve.engine import Engine
from mendel.serve.protocols import Choice, End, Features, Fixed, Listener, Request
from mendel.serve.reference import Reference
from mendel.serve.watched import Finished, Watched
from mendel.spec import PlanSpec
from tests.serve_models import VOCAB, ask, tiny
from tests.tune_machine import COSTS, PLANS, Cost, features, run, straight, trace


class Machine:
    """An engine that serves at once, at what a table says now."""

    def __init__(self, f: Features, cost: Callable[[str], float]) -> None:
        self.f, self.cost, self.chance = f, cost, np.random.default_rng(0)
        self.requests: list[Request] = []

    def submit(self, request: Request, listener: Listener) -> None:
        self.requests.append(request)
        plan, n_out = str(request.plan), request.n_tokens
        ms = units(self.f, n_out) * self.cost(plan) * float(self.chance.lognormal(0, 0.1))
        listener(End("length", trace(request.id, self.f, Choice(plan, "pinned"), n_out, ms)))

    def cancel(self, id: str) -> None: ...


def ended(f: Features, id: str = "r", **fields: object) -> Finished:
    request = Request(id, (1,) * f.n_prompt, f.n_tokens, **fields)  # type: ignore[arg-type]
    return Finished(request, (1,) * 40, End("stop", trace(id, f, Choice("plain", "chosen"), 40, 9)))


def until_seen(seed: int, *, with_probes: bool) -> int:
    """Requests after a rival alone became twice as fast, until it is live; an idle moment in 8."""
    f = features("chat", np.random.default_rng(seed))
    chooser = Tuned(PLANS, "plain", chance=seed)
    faster = False

    def now(plan: str) -> float:
        return 0.35 if faster and plan == "lookup-8" else COSTS["chat"][plan]

    cost: Cost = lambda i, kind, plan: now(plan)  # noqa: E731
    run(chooser, ["chat"] * 800, cost=cost, seed=seed, tick=straight(chooser))
    faster = True
    probes = Probes(Machine(f, now), chooser, lambda: 0)
    promote = straight(chooser)
    for n in range(0, 1600, 8):
        if "lookup-8" in chooser.live().values():
            return n
        run(chooser, ["chat"] * 8, cost=cost, seed=seed + n, tick=promote)
        if with_probes:
            probes._began -= 1e6  # there was time enough
            probes.heard(ended(f))
            probes.tick()
            promote()
    return 1600


def test_a_rival_that_alone_becomes_faster_is_found_by_probes_within_300_requests() -> None:
    found = [until_seen(seed, with_probes=True) for seed in range(4)]
    without = [until_seen(seed, with_probes=False) for seed in range(4)]
    assert max(found) <= 300
    assert np.mean(found) < np.mean(without)


def test_a_tuner_that_rests_is_woken_by_a_probe() -> None:
    f = features("chat", np.random.default_rng(0))
    chooser = Tuned(PLANS, "plain", chance=0)
    flat: Cost = lambda i, kind, plan: 1.0 if plan == "plain" else 1.3  # noqa: E731
    run(chooser, ["chat"] * 1000, cost=flat, tick=straight(chooser))
    assert not chooser.switch.on
    machine = Machine(f, lambda plan: 0.4 if plan == "lookup-4" else 1.2)
    probes = Probes(machine, chooser, lambda: 0)
    for _ in range(60):
        probes._began -= 1e6
        probes.heard(ended(f))
        probes.tick()
    assert chooser.switch.on
    straight(chooser)()
    assert set(chooser.live().values()) == {"lookup-4"}


def test_nothing_is_probed_while_anybody_is_served_or_where_there_is_no_time() -> None:
    f, here = features("chat", np.random.default_rng(0)), 1
    chooser = Tuned(PLANS, "plain")
    chooser.choose(f)
    machine = Machine(f, lambda plan: 1.0)
    probes = Probes(machine, chooser, lambda: here)
    probes.heard(ended(f))
    assert not probes.tick()
    here = 0
    probes.spent_s = 1e6
    assert not probes.tick()
    assert not machine.requests
    probes.spent_s = 0.0
    assert probes.tick()
    assert {r.n_tokens for r in machine.requests} == {min(f.n_tokens, MOST_TOKENS)}
    assert not probes.tick()  # a text is probed once
    probes.heard(ended(f, plan="plain"))  # pinned by its asker
    assert not probes.tick()


class Slow:
    """An engine that ends a request only when it is cancelled."""

    def __init__(self) -> None:
        self.listeners: dict[str, Listener] = {}
        self.here = 0

    def submit(self, request: Request, listener: Listener) -> None:
        self.listeners[request.id] = listener
        self.here = 2  # the probe, and somebody who came just now

    def cancel(self, id: str) -> None:
        made = replace(trace(id, features("chat", np.random.default_rng(0)),
                             Choice("plain", "pinned"), 1, 1.0), reason="cancelled")  # fmt: skip
        self.here = 1
        self.listeners.pop(id)(End("cancelled", made))


def test_a_probe_makes_way_for_whoever_comes() -> None:
    f, engine = features("chat", np.random.default_rng(0)), Slow()
    chooser = Tuned(PLANS, "plain")
    chooser.choose(f)
    before = chooser.beliefs.mean.copy()
    probes = Probes(engine, chooser, lambda: engine.here)
    probes.heard(ended(f))
    assert not probes.tick()
    assert probes.n_cancelled == 1 and not engine.listeners
    assert np.array_equal(chooser.beliefs.mean, before)  # half a probe tells nothing


@pytest.mark.usefixtures("one_thread")
def test_an_engine_runs_a_request_again_and_its_class_hears_of_it() -> None:
    plans = {p.name: p for p in (PlanSpec(), PlanSpec(draft="lookup", n_draft=4))}
    chooser = Tuned(list(plans), "plain")
    engine = Engine(Reference(tiny()), plans, Fixed("plain"))
    engine.chooser = chooser

    def n_here() -> int:
        return engine.stats().n_running + engine.stats().n_queued

    probes = Probes(engine, chooser, n_here)
    try:
        prompt = tuple(np.random.default_rng(0).integers(0, VOCAB, 20).tolist())
        ask(Watched(engine, [probes.heard]), [Request("a", prompt, 6)])  # type: ignore[arg-type]
        while n_here():
            pass
        assert probes.tick()
        assert chooser.beliefs.seen[1].sum() == 1
        assert engine.stats().n_done == 1  # nobody asked for the probe's runs
        probes.heard(ended(features("chat", np.random.default_rng(0))))
        engine.close()
        assert not probes.tick()  # an engine that closes takes no probe, and that is no fault
    finally:
        engine.close()

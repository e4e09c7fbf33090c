"""The tuner of one server, put together: chooser, clock, ledger, profile, planner.

engine <-> chooser      tick: chooser --wanted--> driver --turn--> ledger, chooser
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from mendel.blobs import locked
from mendel.clocks.tune.chooser import Mode, Tuned
from mendel.clocks.tune.clock import TuneClock, line_of
from mendel.clocks.tune.foresight import Foresight, Said
from mendel.clocks.tune.planner import Challenge
from mendel.clocks.tune.probe import Probes
from mendel.clocks.tune.profile import BUDGET_S, Profile, Serves, kept, machine, profile, surviving
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.serve.engine import Engine
from mendel.serve.protocols import Tell
from mendel.serve.watched import Finished
from mendel.spec import PlanSpec
from mendel.types import Digest, InputError, Line, digest

log = logging.getLogger(__name__)
LEAST_S, MOST_S = 0.25, 1.0  # between two ticks: sooner where much has ended
LONGEST_S = 60.0  # between two tries to write
MOST_RUNS = 16  # servers of one model on one machine
TURNS = 8  # of one tick, at most


class Tuner:
    """Chooses plans and tells the ledger; one for each server.

    ledger    where promotions are turns
    model     digest of model, dtype and kernels
    plans     the menu, each proven exact here; the baseline is among them
    menu      names that the line goes by, those included whose proof waits for another start; None:
              those of plans
    mode      deterministic: the champion's plans, and nothing is learned or promoted
    raises    InputError for no plan, or too many servers
    """

    def __init__(
        self,
        ledger: Ledger,
        model: Digest,
        plans: Mapping[str, PlanSpec],
        mode: Mode = "exact",
        *,
        menu: Sequence[str] | None = None,
        baseline: str | None = None,
        chance: int = 0,
    ) -> None:
        if not plans:
            raise InputError("no plans. Wanted at least one. Give {'plain': PlanSpec()}.")
        self.ledger, self.model, self.plans, self.mode = ledger, model, dict(plans), mode
        baseline = baseline or next((n for n in ("plain",) if n in plans), next(iter(plans)))
        self.chooser = Tuned(list(plans), baseline, mode=mode, chance=chance)
        self._held = ExitStack()
        names = list(plans if menu is None else menu)
        line = line_of(model, names, machine(), self._run(ledger.folder / "serve"))
        folder = ledger.folder / "serve" / "lines" / line.task[:12] / line.run
        self.clock = TuneClock(line, self.chooser, folder)
        self.driver = Driver(self.clock, ledger)
        self.driver.start()
        nets = Line("tune", digest([line.task, "planner"]), line.run)
        self.challenge = Challenge(nets, self.chooser, ledger, folder)
        self.foresight = Foresight()
        self.probes: Probes | None = None
        self.measured: Profile | None = None
        self._owes = False  # a turn that could not be written
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _run(self, folder: Path) -> str:
        """A line of its own for each server that runs now: live and champion are one."""
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(MOST_RUNS):
            run = "main" if n == 0 else f"server-{n + 1}"
            file = folder / f"{self.model[:12]}-{run}.lock"
            try:
                self._held.enter_context(locked(file, "taken"))
                return run
            except InputError:
                continue
        raise InputError(f"{MOST_RUNS} servers of this model run here. Stop one.")

    # -- at the start --

    def profile(
        self,
        engine: Serves,
        *,
        vocab: int,
        context: int | None = None,
        samples: Sequence[Sequence[int]] = (),
        budget_s: float = BUDGET_S,
        tell: Tell | None = None,
    ) -> Profile:
        """Measure each plan on this machine, or read what an earlier start measured."""

        def measure() -> Profile:
            names = list(self.plans)
            return profile(
                engine, names, vocab=vocab, context=context, samples=samples, budget_s=budget_s,
                tell=tell,
            )  # fmt: skip

        found = kept(self.ledger.folder / "serve" / "profiles", self.model, self.plans, measure)
        self.measured = found
        if self.mode == "exact":
            stay = surviving(found, self.plans, self.chooser.plans[self.chooser.base])
            self.chooser.drop(set(self.plans) - set(stay) - self.chooser.used())
            for row in found.rows:
                self.chooser.told(row.features, row.plan, row.y)
        return found

    # -- while it serves --

    def begin(self, engine: Engine | None = None) -> None:
        """Tick on a thread of its own until close(); with an engine, use its idle time too: warm
        what is foreseen, and probe rivals."""
        if engine is not None:
            self.foresight.begin(engine)
            if self.mode == "exact":
                self.probes = Probes(engine, self.chooser, lambda: n_here(engine))
        if self.mode == "exact" and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tuner", daemon=True)
            self._thread.start()

    def heard(self, one: Finished) -> None:
        """A request has ended, from the engine's thread: what may follow it?"""
        trace, then = one.trace, one.request.then
        known = None if then is None else partial(then, one.ids, trace.reason)
        n_cached = trace.features.n_cached
        said = Said(one.request.prompt, one.ids, trace.tenant, n_cached, trace.reason, known)
        self.foresight.heard(said)
        if self.probes is not None:
            self.probes.heard(one)

    def tick(self) -> int:
        """Write down what the chooser wants; returns the number of turns."""
        if self.mode == "deterministic":
            return 0
        n, self._owes = 0, self.clock.has_news() or self._owes
        while self._owes and n < TURNS:
            wrote = self.driver.turn() is not None
            n += wrote
            self._owes = wrote and self.clock.has_news()
        self.challenge.tick()
        if self.probes is not None:
            self.probes.tick()
        return n

    def close(self) -> None:
        """End the thread, and leave a summary of what was looked at."""
        self._stop.set()
        self.chooser.news.set()
        self.foresight.close()
        if self._thread is not None:
            self._thread.join()
        if self.mode == "exact":
            self.clock.closing = True
            try:
                self.driver.turn()
            except Exception:
                log.exception("the tuner could not write its last turn")
        self._held.close()

    def _work(self) -> None:
        wait_s = LEAST_S
        while not self._stop.wait(wait_s):
            self.chooser.news.wait(MOST_S - LEAST_S)
            self.chooser.news.clear()
            try:
                self.tick()
                wait_s = LEAST_S
            except Exception:  # a full disk stops no answer; it is tried again, ever later
                wait_s = min(2 * wait_s, LONGEST_S)
                log.exception("the tuner could not write its turns; again in %.0f s", wait_s)

    # -- for people --

    @property
    def digest(self) -> Digest:
        """Of the champion: in deterministic mode, with the request it says the plan."""
        return self.clock.champion().candidate.id

    def status(self) -> dict[str, Any]:
        champion = self.clock.champion()
        return {
            **self.chooser.status(),
            "line": str(self.clock.line),
            "champion": {"turn": champion.turn, "digest": champion.candidate.id},
            "planner": self.challenge.status(),
            "foresight": self.foresight.status(),
            "probes": None if self.probes is None else self.probes.status(),
        }


def n_here(engine: Engine) -> int:
    """Requests that have not ended."""
    seen = engine.stats()
    return seen.n_running + seen.n_queued

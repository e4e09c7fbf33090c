"""Work on a research run: start workers, watch the ledger, ask the analyst, stop in time.

A run may be interrupted, killed (resume) or left to its budget; what was told stays told.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mendel.clocks.research.clock import ResearchClock, trials_of
from mendel.clocks.research.request import Request, prepared
from mendel.clocks.research.run import Run
from mendel.clocks.research.summary import Summary, summary
from mendel.clocks.research.verdict import believed
from mendel.clocks.research.work import holds
from mendel.clocks.workers import Stopwatch, interruptible, spawn
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.analyst import Insight, analyse
from mendel.propose.recipes import stuck
from mendel.types import InputError, Kind, Turn

MAX_RESTARTS = 5  # of workers that died; a trial that kills three is given up by the driver
BATCH = 25  # trials between two looks of the analyst
TICK_S = 0.2


class Observer(Protocol):
    """Who watches a run: a terminal, a notebook, nobody."""

    def begins(self, run: Run) -> None: ...

    def turns(self, told: list[Turn], spent_s: float) -> None:
        """All trials and insights so far; called several times a second."""

    def note(self, text: str) -> None: ...


class Silent:
    """Nobody watches."""

    def begins(self, run: Run) -> None: ...

    def turns(self, told: list[Turn], spent_s: float) -> None: ...

    def note(self, text: str) -> None: ...


class Crew(Protocol):
    """Who measures for a session."""

    def tended(self) -> bool:
        """Keep all of it busy; False where nothing is left to do. Called several times a second."""

    def end(self) -> None:
        """Stop at once: what was not told, nobody was promised."""


def research(request: Request, ledger: Ledger, observer: Observer | None = None) -> Summary:
    """Breed recipes until the budget or the trials are used up, or Ctrl-C.

    raises   InputError for what the user can mend, before anything runs; OSError for a full disk
    """
    began = time.monotonic()
    observer = observer or Silent()
    with _crews(request.ray) as crew_of:
        run = prepared(request, ledger)
        with run.lock():
            if request.resume:
                run = run.extended(request.budget_s, request.trials, request.n_workers)
            observer.begins(run)
            clock = ResearchClock(run, ledger)
            driver = Driver(clock, ledger)
            driver.start()
            driver.release(forgive=True)
            session = Session(clock, driver, observer, time.monotonic() - began)
            if session.is_over:
                observer.note(f"run {run.spec.id} has used up what it was given: give it more")
            else:
                session.work(crew_of(clock))
            return summary(clock, session.told, session.watch.spent_s)


@contextmanager
def _crews(ray: str | None) -> Iterator[Callable[[ResearchClock], Crew]]:
    """Processes of this machine, or the tasks of a Ray cluster for as long as we are in it."""
    if ray is None:
        yield Processes
        return
    from mendel.clocks.research.cluster import Tasks, joined

    with joined(ray):
        yield Tasks


class Session:
    """One sitting, and what was told so far."""

    def __init__(
        self, clock: ResearchClock, driver: Driver, observer: Observer, already_s: float
    ) -> None:
        self.clock, self.driver, self.observer = clock, driver, observer
        self.watch = Stopwatch(clock.run.folder, already_s)
        self.told: list[Turn] = []
        self._stuck = False
        self._look()

    @property
    def is_over(self) -> bool:
        spec = self.clock.run.spec
        late = spec.budget_s is not None and self.watch.spent_s >= spec.budget_s
        return late or (spec.trials is not None and len(trials_of(self.told)) >= spec.trials)

    def work(self, crew: Crew) -> None:
        """Keep the crew busy until it is over."""
        with interruptible() as interrupted:
            try:
                while not interrupted and not self.is_over and crew.tended():
                    time.sleep(TICK_S)
                    self._look()
            finally:
                crew.end()
                self._look()
            if interrupted:
                self.observer.note("interrupted; --resume goes on from here")

    def _look(self) -> None:
        """Read what is new, show it, and ask the analyst where a batch is full."""
        after = self.told[-1].id if self.told else 0
        new = [believed(turn) for turn in self.clock.history.told(after=after)]
        self.told += new
        self.watch.save()
        self.observer.turns(self.told, self.watch.spent_s)
        _stop_where_the_disk_is_full(new)
        self._say_if_stuck(new)
        n_insights = sum(turn.kind is Kind.INSIGHT for turn in self.told)
        if len(trials_of(self.told)) // BATCH > n_insights:
            self._analyse()

    def _say_if_stuck(self, new: list[Turn]) -> None:
        """Once until something is kept again, in the proposer's words."""
        for turn in new:
            words = stuck(turn.candidate)
            if words and not self._stuck:
                self.observer.note(f"stuck since turn {turn.id}: {words}")
            self._stuck = not turn.verdict.keep and (self._stuck or bool(words))

    def _analyse(self) -> None:
        """The analyst's turn; workers learn it before their next proposal."""
        trials = [turn for turn in self.told if turn.kind is Kind.TRIAL]
        try:
            insight = analyse(trials)
        except Exception as error:  # a batch without an insight is better than no next batch
            insight = Insight(words=(f"the analyst failed: {type(error).__name__}: {error}",))
        # not added to what was told: the next look brings it, with trials told meanwhile before it
        self.driver.note_insight(insight.words, insight.to_dict())


class Processes:
    """The crew on this machine: workers that lease rounds and tell them for themselves."""

    def __init__(self, clock: ResearchClock) -> None:
        self._run, self._driver = clock.run, Driver(clock, clock.ledger)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._restarts = 0

    def tended(self) -> bool:
        """Start anew those that died; False where all have ended.

        raises   InputError where too many died
        """
        while len(self._workers) < self._run.spec.n_workers:
            self._workers.append(self._spawn())
        for place, worker in enumerate(self._workers):
            if worker.poll() not in (None, 0) and self._restarts < MAX_RESTARTS:
                self._restarts += 1
                self._driver.release(held=self._held())  # what it held, another may take
                self._workers[place] = self._spawn()
        alive = any(worker.poll() is None for worker in self._workers)
        if not alive and any(worker.returncode for worker in self._workers):
            log = self._run.folder / "workers.log"
            raise InputError(
                f"the workers died {self._restarts} times and more. Their words are in {log}. "
                "Mend what they say, then go on with --resume."
            )
        return alive

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def _held(self) -> set[str]:
        """Trials of the workers that live: a slow one is not measured twice.

        A worker that has leased a round and not said so yet may lose it; then a second one measures
        it too, and the first that tells is believed.
        """
        living = (worker.pid for worker in self._workers if worker.poll() is None)
        return {trial for pid in living if (trial := holds(self._run.folder, pid))}

    def _spawn(self) -> subprocess.Popen[bytes]:
        arguments = [str(self._run.folder), str(os.getpid())]
        return spawn("mendel.clocks.research.work", arguments, self._run.folder / "workers.log")


def _stop_where_the_disk_is_full(turns: list[Turn]) -> None:
    """A trial that could not write is no fault of its candidate's: nothing later would be kept."""
    full = f"[Errno {errno.ENOSPC}]"
    if any(full in str(turn.result.error) for turn in turns):
        raise OSError(errno.ENOSPC, "a trial could not keep its scores")

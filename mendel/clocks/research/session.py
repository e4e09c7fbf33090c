"""Work on a research run: start workers, watch the ledger, ask the analyst, stop in time.

A run may be interrupted, killed (resume) or left to its budget; what was told stays told.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from typing import Protocol

from mendel.clocks.research.clock import ResearchClock, trials_of
from mendel.clocks.research.request import Request, prepared
from mendel.clocks.research.run import Run
from mendel.clocks.research.summary import Summary, summary
from mendel.clocks.research.verdict import believed
from mendel.clocks.workers import Stopwatch, interruptible, spawn
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.analyst import Insight, analyse
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


def research(request: Request, ledger: Ledger, observer: Observer | None = None) -> Summary:
    """Breed recipes until the budget or the trials are used up, or Ctrl-C.

    raises   InputError for what the user can mend, before anything runs; OSError for a full disk
    """
    began = time.monotonic()
    observer = observer or Silent()
    run = prepared(request, ledger)
    with run.lock():
        observer.begins(run)
        clock = ResearchClock(run, ledger)
        driver = Driver(clock, ledger)
        driver.start()
        driver.release(forgive=True)
        session = Session(clock, driver, observer, time.monotonic() - began)
        if session.is_over:
            observer.note(f"run {run.spec.id} has used up what it was given: give it more")
        else:
            session.work()
        return summary(clock, session.told, session.watch.spent_s)


class Session:
    """One sitting: its workers, and what was told so far."""

    def __init__(
        self, clock: ResearchClock, driver: Driver, observer: Observer, already_s: float
    ) -> None:
        self.clock, self.driver, self.observer = clock, driver, observer
        self.watch = Stopwatch(clock.run.folder, already_s)
        self.told: list[Turn] = []
        self._restarts, self._stuck = 0, False
        self._look()

    @property
    def is_over(self) -> bool:
        spec = self.clock.run.spec
        late = spec.budget_s is not None and self.watch.spent_s >= spec.budget_s
        return late or (spec.trials is not None and len(trials_of(self.told)) >= spec.trials)

    def work(self) -> None:
        """Keep workers busy until it is over; what they have not told, nobody was promised."""
        with interruptible() as interrupted:
            workers = [self._spawn() for _ in range(self.clock.run.spec.n_workers)]
            try:
                while not interrupted and not self.is_over and self._tended(workers):
                    time.sleep(TICK_S)
                    self._look()
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
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
        """Once until something is kept again; the proposer's words are in its motivations."""
        for turn in new:
            _, stuck, words = turn.candidate.motivation.partition("Stuck: ")
            if stuck and not self._stuck:
                self.observer.note(f"stuck since turn {turn.id}: {words}")
            self._stuck = not turn.verdict.keep and (self._stuck or bool(stuck))

    def _analyse(self) -> None:
        """The analyst's turn; workers learn it before their next proposal."""
        trials = [turn for turn in self.told if turn.kind is Kind.TRIAL]
        try:
            insight = analyse(trials)
        except Exception as error:  # a batch without an insight is better than no next batch
            insight = Insight(words=(f"the analyst failed: {type(error).__name__}: {error}",))
        # not added to what was told: the next look brings it, with trials told meanwhile before it
        self.driver.note_insight(insight.words, insight.to_dict())

    def _tended(self, workers: list[subprocess.Popen[bytes]]) -> bool:
        """Start anew those that died; False where all have ended or too many died."""
        for place, worker in enumerate(workers):
            if worker.poll() not in (None, 0) and self._restarts < MAX_RESTARTS:
                self._restarts += 1
                self.driver.release()  # what it held, another may take
                workers[place] = self._spawn()
        alive = any(worker.poll() is None for worker in workers)
        if not alive and any(worker.returncode for worker in workers):
            log = self.clock.run.folder / "workers.log"
            raise InputError(
                f"the workers died {self._restarts} times and more. Their words are in {log}. "
                "Mend what they say, then go on with --resume."
            )
        return alive

    def _spawn(self) -> subprocess.Popen[bytes]:
        folder = self.clock.run.folder
        arguments = [str(folder), str(os.getpid())]
        return spawn("mendel.clocks.research.work", arguments, folder / "workers.log")


def _stop_where_the_disk_is_full(turns: list[Turn]) -> None:
    """A trial that could not write is no fault of its candidate's: nothing later would be kept."""
    full = f"[Errno {errno.ENOSPC}]"
    if any(full in str(turn.result.error) for turn in turns):
        raise OSError(errno.ENOSPC, "a trial could not keep its scores")

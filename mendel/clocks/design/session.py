"""Work on a run until its model is shipped: start workers, watch the ledger, finish.

A run may be interrupted (ship the best so far), killed (resume) or left to its budget.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from typing import Protocol

from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.finish import Shipped, finish
from mendel.clocks.design.prepare import check_free, plan, prepare
from mendel.clocks.design.request import Plan, Request
from mendel.clocks.design.run import Run
from mendel.clocks.workers import Stopwatch, interruptible, n_workers, spawn
from mendel.driver import Driver
from mendel.ledger import Earlier, Ledger
from mendel.propose import pasts
from mendel.types import InputError, Kind, MendelError, Turn

MAX_RESTARTS = 5  # of workers that died; a trial that kills three is given up by the driver


class Observer(Protocol):
    """Who watches a run: a terminal, a notebook, nobody."""

    def confirm(self, plan: Plan) -> bool:
        """Shown before anything is written; False stops the run."""

    def stage(self, name: str) -> None: ...

    def turns(self, told: list[Turn], spent_s: float, budget_s: float) -> None:
        """All turns so far; called several times a second."""

    def note(self, text: str) -> None: ...


class Silent:
    """Nobody watches."""

    def confirm(self, plan: Plan) -> bool:
        return True

    def stage(self, name: str) -> None: ...

    def turns(self, told: list[Turn], spent_s: float, budget_s: float) -> None: ...

    def note(self, text: str) -> None: ...


def design(request: Request, ledger: Ledger, observer: Observer | None = None) -> Shipped | None:
    """Design a model for one task and ship it to `request.out`.

    returns  None where the observer declined the plan
    raises   InputError for what the user can mend; nothing half-written stays behind
    """
    observer = observer or Silent()
    if request.resume:
        return resume(request, ledger, observer)
    began = time.monotonic()
    earlier = [] if request.cold else pasts(Earlier(ledger, "design").turns())
    return carry_out(plan(request, earlier), ledger, observer, began)


def resume(request: Request, ledger: Ledger, observer: Observer, *, mends: bool = False) -> Shipped:
    """Go on with the run that was to write `request.out`, in the time that it has left.

    mends    it is to be one that mends errors, else it is to be another
    raises   InputError where there is no such run
    """
    began = time.monotonic()
    run = _resumed(request, ledger, mends)
    refused = run.state == "refused" and not request.yes  # --yes ships what was refused
    if run.state == "shipped" or refused:
        observer.note(f"run {run.spec.id} was finished before; nothing is left to do")
        return Shipped.load(run)
    observer.note(f"resuming run {run.spec.id} after {run.spent_s():.0f} s of work")
    for line in run.spec.start.why if request.explain else ():
        observer.note(line)
    with run.lock():
        return _work(run, ledger, observer, request.yes, time.monotonic() - began)


def carry_out(planned: Plan, ledger: Ledger, observer: Observer, began: float) -> Shipped | None:
    """What is planned, once the observer agrees.

    began    when the user began to wait, of time.monotonic()
    returns  None where the observer declined the plan
    """
    request, began_waiting = planned.request, time.monotonic()
    if not observer.confirm(planned):
        return None
    began += time.monotonic() - began_waiting  # thinking time is the user's
    other = Run.of(ledger, request.out)
    if other is not None and other.is_locked():
        raise InputError(
            f"run {other.spec.id} is writing to {request.out} just now. "
            "Wait for it, or give another --out."
        )
    observer.stage("reading, finding near-duplicates, sealing, splitting")
    run = prepare(planned, ledger, time.time() - (time.monotonic() - began))
    with run.lock():
        return _work(run, ledger, observer, request.yes, time.monotonic() - began)


def _resumed(request: Request, ledger: Ledger, mends: bool) -> Run:
    """The run that was to write --out; raises InputError where it is not the one that is meant."""
    run = Run.of(ledger, request.out)
    if run is None:
        raise InputError(f"no run was to write {request.out}. Wanted one. Leave out --resume.")
    if run.spec.task.description != request.description.strip():
        asked = run.spec.task.description
        raise InputError(
            f"the run that was to write {request.out} was asked {asked!r}. "
            "Wanted the same description. Give that, or another --out."
        )
    if run.spec.mends != mends:
        began_by = "`mendel improve`" if run.spec.mends else "another command"
        raise InputError(
            f"the run that was to write {request.out} was begun by {began_by}. Wanted the command "
            "that began it. Resume with that, or give another --out."
        )
    if run.state == "shipped" and not (request.out / "report.json").exists():
        raise InputError(
            f"run {run.spec.id} was finished, and {request.out} is no longer there. "
            "Leave out --resume to design it again."
        )
    if not (run.folder / "inputs.json").exists():
        raise InputError(
            f"run {run.spec.id} was begun by an older mendel, which kept its rows otherwise. "
            "Wanted one of this version. Leave out --resume to begin anew."
        )
    if run.state != "shipped":
        check_free(request.out)
    return run


def _work(run: Run, ledger: Ledger, observer: Observer, yes: bool, preparing_s: float) -> Shipped:
    watch = Stopwatch(run.folder, preparing_s)
    clock = DesignClock(run, ledger, time.time() + run.spec.budget_s - watch.spent_s)
    driver = Driver(clock, ledger)
    driver.start()
    driver.release(forgive=True)
    stage = "training candidates on every fold" if run.spec.mends else "climbing the ladder"
    observer.stage(stage)
    with interruptible() as interrupted:
        _explore(clock, watch, observer, interrupted)
        early = bool(interrupted)
        if early:
            observer.note("interrupted: shipping the best so far (Ctrl-C again gives up)")
        if not ladder.standings(clock.history.turns()):
            raise _nothing_trained(clock, early)
        return finish(clock, watch, observer.stage, interrupted=early, yes=yes)


def _nothing_trained(clock: DesignClock, interrupted: bool) -> MendelError:
    errors = [turn.result.error for turn in clock.history.turns() if turn.result.error]
    log = clock.run.folder / "workers.log"
    why = "it was interrupted" if interrupted else "all trials failed" if errors else "none ended"
    last = f" The last error: {errors[-1]}." if errors else f" The workers' words are in {log}."
    return InputError(
        f"no rung was trained, since {why}. Wanted one.{last} "
        "Go on with --resume, or raise --budget."
    )


def _explore(
    clock: DesignClock, watch: Stopwatch, observer: Observer, interrupted: list[int]
) -> None:
    """Keep workers busy until the ladder is climbed or the rest of the time is for finishing."""
    workers = [_spawn(clock) for _ in range(n_workers())]
    restarts = 0
    try:
        while not interrupted:
            turns = clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])
            watch.save()
            _stop_where_the_disk_is_full(turns)
            observer.turns(turns, watch.spent_s, clock.run.spec.budget_s)
            found = ladder.standings(turns)
            left = clock.run.spec.budget_s - watch.spent_s - clock.closing_s(found)
            if min(left, clock.left_s(found)) <= 0:  # the clock on the wall may be set meanwhile
                break
            ended = [w for w in workers if w.poll() is not None]
            if len(ended) == len(workers) and all(w.returncode == 0 for w in ended):
                break  # the ladder is climbed
            for worker in ended:
                if worker.returncode != 0 and restarts < MAX_RESTARTS:
                    restarts += 1
                    Driver(clock, clock.ledger).release()  # what it held, another may take
                    workers[workers.index(worker)] = _spawn(clock)
            if all(w.poll() is not None for w in workers):
                break
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()  # what it has not told, nobody was promised
            worker.wait()


def _stop_where_the_disk_is_full(turns: list[Turn]) -> None:
    """A trial that could not write is no fault of its candidate's: nothing later would be kept."""
    full = f"[Errno {errno.ENOSPC}]"
    if any(full in str(turn.result.error) for turn in turns[-8:]):
        raise OSError(errno.ENOSPC, "a trial could not keep its model")


def _spawn(clock: DesignClock) -> subprocess.Popen[bytes]:
    mine = [str(clock.run.folder), str(clock.until), str(os.getpid()), str(time.time())]
    return spawn("mendel.clocks.design.work", mine, clock.run.folder / "workers.log")

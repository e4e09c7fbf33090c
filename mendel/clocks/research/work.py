"""A worker of a research run: python -m mendel.clocks.research.work RUN PARENT

It leases rounds from the ledger and tells them there. What it measures it says in a file, so that
its run knows whose a trial is when another worker dies; nothing else passes between them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mendel.blobs import write_atomically
from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.run import Run
from mendel.clocks.research.summary import Times
from mendel.clocks.workers import die_with_parent
from mendel.driver import Driver
from mendel.ledger import Ledger

LEASE_S = 24 * 3600.0  # the session frees what a dead worker held; a round may take an hour
WAIT_S = 0.2


def work(folder: Path, parent: int) -> None:
    """Turn the clock until nothing is left to do, or the parent is gone."""
    die_with_parent()
    ledger = Ledger(folder=folder.parent.parent)
    clock = ResearchClock(Run.load(folder), ledger)
    # a confirmation takes many minutes: the others go on exploring, and no two are in a race whose
    # loser is thrown away
    most = max(1, clock.run.spec.n_workers // 2)
    driver = Driver(clock, ledger, lease_s=LEASE_S, n_confirming=most)
    began, times = time.perf_counter(), Times()
    clock.bench.after = lambda: _save(folder, clock, times, began)
    hold = partial(_hold, folder, os.getpid())
    hold("")  # a worker of the same number may have died here
    _ = clock.proposer  # takes seconds once, and is no part of what a trial costs the driver
    gc.freeze()  # what is loaded stays: to look through it again would hold a proposal up by 250 ms
    while os.getppid() == parent:
        if not turn(driver, clock, times, hold):
            if not clock.history.pending():
                return
            time.sleep(WAIT_S)  # a rival's round may go on to another
        _save(folder, clock, times, began)


def _save(folder: Path, clock: ResearchClock, times: Times, began: float) -> None:
    """Also within a round, so that one which is cut short by the run's end is counted."""
    times.lived, times.trained = time.perf_counter() - began, clock.bench.trained_s
    file = folder / "workers" / f"{os.getpid()}.json"
    with suppress(OSError):  # a full disk: the report knows less
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(asdict(times)).encode())


def turn(driver: Driver, clock: ResearchClock, times: Times, hold: Callable[[str], None]) -> bool:
    """ask, trial, tell, and how long each took; False where there was nothing to ask.

    hold   is told the trial that is measured from now on; empty: none
    """
    began = time.perf_counter()
    trial = driver.ask()
    times.asked += time.perf_counter() - began
    times.proposed = clock.proposing_s
    if trial is None:
        return False
    hold(trial.id)
    began = time.perf_counter()
    result = driver.measure(trial)
    times.measured += time.perf_counter() - began
    began = time.perf_counter()
    driver.tell(trial, result)
    times.told += time.perf_counter() - began
    times.n_rounds += 1
    hold("")
    return True


def holds(folder: Path, pid: int) -> str:
    """The trial that a worker of the run said it measures; empty: none."""
    file = _held_by(folder, pid)
    return file.read_text() if file.exists() else ""


def _hold(folder: Path, pid: int, trial: str) -> None:
    """Of what was not said, the worst is that somebody else measures it too: a full disk may."""
    file = _held_by(folder, pid)
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, trial.encode())


def _held_by(folder: Path, pid: int) -> Path:
    return folder / "workers" / f"{pid}.holds"


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))

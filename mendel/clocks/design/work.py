"""A worker of a design run: python -m mendel.clocks.design.work RUN UNTIL PARENT SPAWNED

It leases rounds from the ledger and tells them there; nothing else passes between it and its run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.run import Run
from mendel.clocks.workers import die_with_parent
from mendel.driver import Driver
from mendel.ledger import Ledger


def work(folder: Path, until: float, parent: int, spawned: float) -> None:
    """Turn the clock until time is up, nothing is left to do, or the parent is gone.

    until    unix seconds, as is `spawned`: when the parent started us
    """
    die_with_parent()
    ledger = Ledger(folder=folder.parent.parent)
    starting_s = max(time.time() - spawned, 0.0)
    clock = DesignClock(Run.load(folder), ledger, until, starting_s)
    driver = Driver(clock, ledger, lease_s=max(until - time.time(), 0) + 60)
    while os.getppid() == parent and clock.left_s(ladder.standings(clock.history.turns())) > 0:
        if driver.turn() is None:
            if not clock.history.pending():
                return
            time.sleep(0.2)  # a rival's round may go on to another fold


if __name__ == "__main__":
    work(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))

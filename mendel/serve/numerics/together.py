"""Threads that go down one tape side by side: how they wait, and when it is better to go alone.

No bit depends on how many they are, so a pass can have fewer than it was asked to have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numba import types

from mendel.serve.numerics.vectors import arrive, jit, seen

SPINS = 4000  # looks at the others' counter before the core is offered to somebody else
OFFERS = 100  # before it is left for a nap
NAP_US = 50
NAPS = 8  # where the naps are counted: a cache line away from who has arrived
LEAST_US = 300.0  # of a pass, for which a second thread is woken
FIRST, MOST = 16, 1024  # passes alone after a slow one together, twice as many after the next
offer = types.ExternalFunction("sched_yield", types.int32())
nap: Any = types.ExternalFunction("usleep", types.int32(types.uint32))


@jit
def wait(counter: Any, n_threads: int, goal: int) -> int:
    """Until every thread is here; returns the next goal."""
    if n_threads == 1:
        return 0
    goal += n_threads
    arrive(counter)
    n = 0
    while seen(counter) < goal:
        n += 1
        if n > SPINS + OFFERS:
            arrive(counter[NAPS:])
            nap(np.uint32(NAP_US))
        elif n > SPINS:
            offer()
    return goal


class Together:
    """Goes down tapes with several threads, as long as that helps."""

    def __init__(self, forward: Callable[..., None]) -> None:
        self.forward = forward
        self.least_us = LEAST_US
        self._alone, self._next = 0, FIRST
        self._workers: ThreadPoolExecutor | None = None
        self._n_workers = 0

    def agreed(self, n_threads: int, us: float) -> int:
        """How many go, of as many as were asked, for a pass that takes one about so long."""
        if n_threads == 1 or us < self.least_us:
            return 1
        if self._alone:
            self._alone -= 1
            return 1
        return n_threads

    def heard(self, n_naps: int, idle: float) -> None:
        """Of a pass together: how often a thread slept, and the share in which the first was idle.

        Where the machine has more to run than cores, each wait lasts until the others' turn comes.
        """
        if n_naps and idle > 0.5:
            self._alone, self._next = self._next, min(2 * self._next, MOST)
        else:
            self._next = FIRST

    def go(self, fixed: tuple[Any, ...], n_threads: int) -> None:
        counter = np.zeros(2 * NAPS, np.int64)
        if n_threads == 1:
            self.forward(*fixed, counter, 0, 1)
            return
        if self._workers is None or self._n_workers < n_threads - 1:
            if self._workers is not None:
                self._workers.shutdown()
            self._workers, self._n_workers = (
                ThreadPoolExecutor(n_threads - 1, "numerics"),
                n_threads - 1,
            )
        begin, worked = time.perf_counter(), time.thread_time()
        go = partial(self.forward, *fixed, counter)
        others = [self._workers.submit(go, i, n_threads) for i in range(1, n_threads)]
        self.forward(*fixed, counter, 0, n_threads)
        for other in others:
            other.result()
        wall = max(time.perf_counter() - begin, 1e-9)
        self.heard(int(counter[NAPS]), 1 - (time.thread_time() - worked) / wall)

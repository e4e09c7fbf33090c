"""One trial's watcher: has it started behind its walls, measures it, ends it, tells the host.

The host holds the other end of `status`. What the trial itself says goes past the supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mendel.sandbox import start, tree
from mendel.sandbox.cage import BUBBLEWRAP, Cage
from mendel.sandbox.confine import Descriptors
from mendel.sandbox.limits import Ended, Limits

TICK_S = 0.015
KILOBYTE = 1024 if sys.platform == "linux" else 1  # ru_maxrss


def supervise(
    kind: str, limits: Limits, cage: Cage, fds: Descriptors, ends: Sequence[int]
) -> NoReturn:
    """Never returns: the process is one trial's.

    ends   readable once the harness or the warden is gone
    """
    report: Mapping[str, Any]
    try:
        report = Watch(kind, limits, cage, fds, ends).run()
    except OSError as error:
        report = {"broken": str(error)}
    with contextlib.suppress(OSError):  # the host has lost interest
        os.write(fds.status, json.dumps(report).encode())
    os._exit(0)


class Watch:
    def __init__(
        self, kind: str, limits: Limits, cage: Cage, fds: Descriptors, ends: Sequence[int]
    ) -> None:
        self.limits, self.cage = limits, cage
        self.until = float("inf") if kind == "session" else time.monotonic() + limits.wall_s
        self.baseline = 0 if kind == "command" else tree.held_bytes()
        self.seen: dict[tuple[int, int], float] = {}
        self.cpu_s = 0.0
        self.peak_bytes = 0
        self.wait_status: int | None = None
        self.wake = wake_on_child()
        self.child = start.start(kind, limits, cage, fds)
        for fd in (fds.data, fds.out, fds.err):
            os.close(fd)
        self.asked = [fds.status, *ends]
        self.poll = select.poll()
        for fd in (self.wake, *self.asked):
            self.poll.register(fd, select.POLLIN)

    def run(self) -> Mapping[str, Any]:
        """Watch until the trial is gone, and all that it started with it."""
        begun = time.monotonic()
        broken = os.read(self.child.started, 4096)
        killed = self.watch() if not broken else None
        self.finish()
        if broken:
            return {"broken": broken.decode("utf-8", "replace")}
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        grown = used.ru_maxrss * KILOBYTE - tree.resident_bytes()
        code = os.waitstatus_to_exitcode(self.wait_status or 0)
        return {
            "killed": killed,
            "exit_code": None if code < 0 or killed else code,
            "signal": signal.SIGKILL if killed else -code if code < 0 else None,
            "wall_s": time.monotonic() - begun,
            "cpu_s": max(used.ru_utime + used.ru_stime, self.cpu_s),
            "peak_bytes": max(self.peak_bytes, grown, 0),
        }

    def watch(self) -> str | None:
        """Why it was ended; None where it ended by itself."""
        while True:
            wait_s = min(TICK_S, max(self.until - time.monotonic(), 0))
            ready = [fd for fd, _ in self.poll.poll(wait_s * 1000)]
            if self.wake in ready:
                os.read(self.wake, 512)
            if self.gone():
                return None
            if any(fd in ready for fd in self.asked):
                return Ended.CLOSED
            if time.monotonic() >= self.until:
                return Ended.WALL
            if reason := self.exceeded():
                return reason

    def gone(self) -> bool:
        """Whether the child ended; its wait status, or what process 1 reports of the trial's."""
        pid, status = os.waitpid(self.child.pid, os.WNOHANG)
        if pid == 0:
            return False
        if self.child.report is not None:
            said = os.read(self.child.report, start.STATUS.size)
            # nothing said: somebody killed process 1, and with it the trial
            status = start.STATUS.unpack(said)[0] if said else signal.SIGKILL
        self.wait_status = status
        return True

    def exceeded(self) -> str | None:
        """The limit that the tree has broken."""
        root = os.getpid() if self.child.report is None else self.child.pid
        size = tree.measure(root, self.baseline, self.seen)
        self.cpu_s = max(self.cpu_s, size.cpu_s)
        self.peak_bytes = max(self.peak_bytes, size.n_bytes)
        if size.n_bytes > self.limits.memory_bytes:
            return Ended.MEMORY
        if size.cpu_s > self.limits.cpu_s:
            return Ended.CPU
        if size.n_processes > self.limits.processes or size.n_threads > self.limits.tasks:
            return Ended.PROCESSES
        return None

    def finish(self) -> None:
        """Whoever is left of the tree is killed and waited for."""
        if self.cage.kind != BUBBLEWRAP:
            tree.end(os.getpid(), self.child.pid)
        elif self.wait_status is None:
            # the kernel kills all in the namespace before process 1 counts as gone
            os.kill(self.child.pid, signal.SIGKILL)
            os.waitpid(self.child.pid, 0)


def wake_on_child() -> int:
    """A descriptor that is readable when a child has ended."""
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake

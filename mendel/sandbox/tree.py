"""A tree of processes as /proc shows it: who is in it, what it holds, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")


@dataclass(frozen=True)
class Size:
    """What the processes of a tree hold together."""

    n_processes: int = 0
    n_threads: int = 0
    n_bytes: int = 0  # private and shared memory beyond the baseline of each
    cpu_s: float = 0.0


def children(pid: int) -> Iterator[int]:
    """Of all threads of a process; nothing where it is gone."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            yield from map(int, text.split())
    except OSError:
        return


def descendants(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        below = list(children(queue.pop()))
        found += below
        queue += below
    return found


def measure(root: int, baseline: int) -> Size:
    """Sum over all below a process; those that ended meanwhile count nothing.

    baseline   bytes that each had from the process it was forked from
    """
    n_processes = n_threads = n_bytes = 0
    cpu_s = _reaped_s(root)
    for pid in descendants(root):
        try:
            threads, held = _status(pid)
            cpu_s += _cpu(pid)
        except (OSError, IndexError, ValueError):
            continue
        n_processes += threads > 0
        n_threads += threads
        n_bytes += max(held - baseline, 0)
    return Size(n_processes, n_threads, n_bytes, cpu_s)


def held_bytes(pid: int | str = "self") -> int:
    """Private and shared memory of one process."""
    try:
        return _status(pid)[1]
    except OSError:
        return 0


def _status(pid: int | str) -> tuple[int, int]:
    """Threads, and bytes held; a zombie has neither."""
    threads = held = 0
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("State:") and "Z" in line.split()[1]:
                return 0, 0
            if line.startswith("Threads:"):
                threads = int(line.split()[1])
            elif line.startswith(COUNTED):
                held += int(line.split()[1]) << 10
    return threads, held


def _cpu(pid: int, first: int = 11) -> float:
    """Its own seconds and those of children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[first:15])) / TICKS


def _reaped_s(pid: int) -> float:
    """Seconds of its children that have ended, without its own."""
    try:
        return _cpu(pid, first=13)
    except (OSError, IndexError, ValueError):
        return 0.0


def address_space() -> int:
    """Bytes of our own, used or not."""
    return _statm(0) or 8 << 30


def resident_bytes() -> int:
    return _statm(1)


def _statm(field: int) -> int:
    """0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[field])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def tasks_of(uid: int) -> int:
    """Processes and threads of a user, whoever started them."""
    n = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    n += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return n


def end(root: int, group: int, deadline_s: float = 5.0) -> None:
    """Kill all below a subreaper, and reap: stopped first, so that none forks meanwhile.

    group   killed besides, for systems where the rest cannot be found
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if not os.path.exists("/proc/self/stat"):
            _signal(-group, signal.SIGKILL)
        for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL):
            for pid in descendants(root):
                _signal(pid, number)
        if not _reap():
            return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return


def _reap() -> bool:
    """Whether a child is left."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
                return True
        except ChildProcessError:
            return False

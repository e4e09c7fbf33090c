"""A tree of processes as /proc shows it: who is in it, what it holds, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
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
    for task in _tasks(pid):
        try:
            text = Path(f"{task}/children").read_text()
        except OSError:  # this thread has ended, others may go on
            continue
        yield from map(int, text.split())


def _tasks(pid: int | str) -> list[str]:
    try:
        return [f"/proc/{pid}/task/{name}" for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        below = list(children(queue.pop()))
        found += below
        queue += below
    return found


def measure(root: int, baseline: int, seen: dict[tuple[int, int], float]) -> Size:
    """Sum over all below a process; those that ended meanwhile hold nothing.

    baseline   bytes that each had from the process it was forked from
    seen       CPU seconds of each ever seen, by number and start; kept between calls, since no
               parent is told those of children that it does not wait for
    """
    n_processes = n_threads = n_bytes = 0
    cpu_s = _reaped_s(root)
    for pid in descendants(root):
        try:
            threads, held = _status(pid)
            fields = _stat(pid)
            cpu_s += _cpu(fields, 11)
            seen[pid, int(fields[19])] = _cpu(fields, 11, 13)
        except (OSError, IndexError, ValueError):
            continue
        n_processes += threads > 0
        n_threads += threads
        n_bytes += max(held - baseline, 0)
    return Size(n_processes, n_threads, n_bytes, max(cpu_s, sum(seen.values())))


def held_bytes(pid: int | str = "self") -> int:
    """Private and shared memory of one process."""
    try:
        return _status(pid)[1]
    except OSError:
        return 0


def _status(pid: int | str) -> tuple[int, int]:
    """Threads, and bytes held; a zombie has neither, but threads may outlive the first."""
    dead, threads, held = _lines(f"/proc/{pid}/status")
    if not dead:
        return threads, held
    if threads <= 1:
        return 0, 0
    for task in _tasks(pid):
        try:
            dead, _, held = _lines(f"{task}/status")
        except OSError:
            continue
        if not dead:
            return threads, held
    return 0, 0


def _lines(file: str) -> tuple[bool, int, int]:
    """Whether dead, threads of its process, bytes held."""
    dead, threads, held = False, 0, 0
    for line in Path(file).read_text().splitlines():
        if line.startswith("State:"):
            dead = line.split()[1] in "ZX"
        elif line.startswith("Threads:"):
            threads = int(line.split()[1])
        elif line.startswith(COUNTED):
            held += int(line.split()[1]) << 10
    return dead, threads, held


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu(fields: list[str], first: int, end: int = 15) -> float:
    """Its own seconds (11 to 13) and those of children that it waited for (13 to 15)."""
    return sum(map(int, fields[first:end])) / TICKS


def _reaped_s(pid: int) -> float:
    """Seconds of its children that have ended, without its own."""
    try:
        return _cpu(_stat(pid), 13)
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


def end(root: int, group: int | None = None, deadline_s: float = 5.0) -> None:
    """Kill all below a subreaper, and reap.

    group   killed besides, for systems where the rest cannot be found
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if group and not os.path.exists("/proc/self/stat"):
            _signal(-group, signal.SIGKILL)
        strike(lambda: descendants(root))
        if not _reap():
            return


def strike(find: Callable[[], Iterable[int]]) -> None:
    """Kill those who are found: stopped first, so that none forks meanwhile."""
    for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL):
        for pid in find():
            _signal(pid, number)


def strike_all_below(root: int, deadline_s: float = 1.0) -> None:
    """The same from outside, where another process must reap."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until and any(_lives(pid) for pid in descendants(root)):
        strike(lambda: descendants(root))
        time.sleep(0.002)


def _lives(pid: int) -> bool:
    try:
        return _status(pid)[0] > 0
    except OSError:
        return False


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

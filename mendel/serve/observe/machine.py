"""Facts of the process and its machine, as Linux tells them; what is not told is left out."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATTS_A_CORE = 6.0  # a busy core of a server, its share of memory and board included
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


@dataclass(frozen=True)
class _Reading:
    at: float
    cpu_s: float
    steal: int
    all: int  # jiffies of all cores
    rapl_uj: int | None


class Machine:
    """What has happened since it was made."""

    def __init__(self) -> None:
        self._first = _read()

    def facts(self) -> dict[str, Any]:
        """cpu_s and steal_share since the start; energy_j is measured for the whole package where
        the machine tells it, else WATTS_A_CORE for each second of a core: an estimate, and says so.
        """
        now, first = _read(), self._first
        cpu, wall = now.cpu_s - first.cpu_s, now.at - first.at
        measured = now.rapl_uj is not None and first.rapl_uj is not None
        joules = WATTS_A_CORE * cpu
        if measured and now.rapl_uj is not None and first.rapl_uj is not None:
            joules = max(0, now.rapl_uj - first.rapl_uj) / 1e6
        return {
            "wall_s": wall,
            "cpu_s": cpu,
            "rss_bytes": rss(),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "steal_share": (now.steal - first.steal) / max(now.all - first.all, 1),
            "load": os.getloadavg()[0],
            "energy_j": joules,
            "energy_is": "measured" if measured else f"estimated at {WATTS_A_CORE:g} W a core",
        }


def rss() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read() -> _Reading:
    steal, total = _jiffies()
    try:
        rapl: int | None = int(RAPL.read_text(encoding="ascii"))
    except (OSError, ValueError):
        rapl = None
    return _Reading(time.monotonic(), time.process_time(), steal, total, rapl)


def _jiffies() -> tuple[int, int]:
    """Stolen by other guests of the host, and in all."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return 0, 0
    numbers = [int(n) for n in first[1:9]]  # guest time is in user time already
    return (numbers[7] if len(numbers) > 7 else 0), sum(numbers)

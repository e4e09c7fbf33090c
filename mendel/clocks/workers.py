"""What runs of every clock share: worker processes, a stopwatch that survives a kill, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mendel.blobs import write_atomically
from mendel.types import TRIAL

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def new_run_id() -> str:
    """Sorts by time; two runs at once differ."""
    return time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:6]


def n_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_workers() -> int:
    """Trials at once: one a core, since a small model trains fastest on one thread."""
    return max(1, min(4, n_cores()))


def spawn(module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """python -m module arguments...: a worker that sees no vault and computes on one thread."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), TRIAL: "1"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only us
        )


def die_with_parent() -> None:
    """On Linux the kernel ends us with the run, even one that was killed -9."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Stopwatch:
    """Time of work, kept on disk so that a resumed run goes on counting where it was killed."""

    def __init__(self, folder: Path, already_s: float = 0.0) -> None:
        self._file = folder / "spent.json"
        self._before, self._began = spent_s(folder) + already_s, time.monotonic()
        self._saved = 0.0

    @property
    def spent_s(self) -> float:
        return self._before + time.monotonic() - self._began

    def save(self) -> None:
        """Cheap to call often: it writes once a second."""
        if self.spent_s - self._saved > 1:
            self._saved = self.spent_s
            write_atomically(self._file, json.dumps(round(self._saved, 2)).encode())


def spent_s(folder: Path) -> float:
    """Seconds of work on a run in all sessions so far, a killed one's included."""
    file = folder / "spent.json"
    return float(json.loads(file.read_text())) if file.exists() else 0.0


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """The first Ctrl-C is noted in the list, the second stops; afterwards all is as before."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: nobody can interrupt us
        before = {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

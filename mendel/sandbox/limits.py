"""The nouns: Limits that a trial gets, the Outcome that it has, and the errors of the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mendel.types import InputError, Json, MendelError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SPARE_THREADS = 15  # of a process, beside those that compute
MAX_S = 30 * 24 * 3600
RANGES = {
    "wall_s": (0.001, MAX_S),
    "cpu_s": (0.001, MAX_S),
    "memory_bytes": (1, 2**50),
    "processes": (1, 4096),
    "open_files": (16, 1 << 20),
    "output_bytes": (1, 2**40),
    "result_bytes": (1, 2**40),
    "scratch_bytes": (0, 2**50),
    "threads": (1, 4096),
}


class SandboxError(MendelError, RuntimeError):
    """No sandbox works here, it cannot contain what was asked for, or it broke."""


class CallError(MendelError, RuntimeError):
    """A call of a session has no answer: `ended` says why, `alive` whether more may follow.

    said    what it raised or last wrote, without advice
    """

    def __init__(self, message: str, *, said: str, ended: Ended, alive: bool) -> None:
        super().__init__(message)
        self.said = said
        self.ended = ended
        self.alive = alive


class Ended(StrEnum):
    """How a trial came to its end."""

    DONE = "done"
    EXCEPTION = "exception"  # its own code raised
    WALL = "wall time"
    CPU = "CPU time"
    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"
    DISK = "disk"
    CRASHED = "crashed"  # a signal, or it took its watcher with it
    NO_RESULT = "no result"
    MALFORMED = "malformed result"
    CLOSED = "closed"  # a session that the caller closed


@dataclass(frozen=True)
class Limits:
    """What one trial may use. What lies above is ended, not slowed down.

    wall_s          of the trial; of each call where it is a session
    cpu_s           of the whole process tree
    memory_bytes    beyond what the warm process already holds, of the whole tree
    processes       alive at once; 1 = it cannot fork
    open_files      per process
    output_bytes    of stdout and stderr together; what was captured until then is kept
    result_bytes    of one frame of results
    scratch_bytes   of the writable folder (the working directory); 0 = there is none
    threads         that compute (OMP_NUM_THREADS); each process may have 15 more
    """

    wall_s: float = 60.0
    cpu_s: float = 60.0
    memory_bytes: int = 2 << 30
    processes: int = 1
    open_files: int = 256
    output_bytes: int = 1 << 20
    result_bytes: int = 64 << 20
    scratch_bytes: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least, most = RANGES[name]
            kind: Any = int | float if name.endswith("_s") else int
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                what = "a number" if name.endswith("_s") else "an integer"
                raise InputError(f"{name}={value!r} is no limit. Wanted {what}, {least} to {most}.")

    @property
    def tasks(self) -> int:
        """Processes and their threads, all together."""
        return self.processes * (self.threads + SPARE_THREADS)


@dataclass(frozen=True)
class Usage:
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0  # sampled; beyond what the warm process held


@dataclass(frozen=True)
class Outcome:
    """What came of a trial. All of it was said by code that nobody trusts, but for `usage`,
    `backend`, and `ended` where the sandbox ended it (then `signal` is 9 and `exit_code` None).

    An end of its own is the trial's choice, and so is its name: it may raise MemoryError, or send
    itself the signal that says CPU time. Ask `usage` for what was used.
    """

    ended: Ended
    backend: str  # "bubblewrap", "landlock" or "unsafe"
    result: Json | None = None
    tensors: Mapping[str, Array] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None  # None where a signal ended it
    signal: int | None = None
    usage: Usage = Usage()

    @property
    def ok(self) -> bool:
        return self.ended is Ended.DONE and self.exit_code == 0

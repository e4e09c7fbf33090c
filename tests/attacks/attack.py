"""One attack: code or a command, and how it may end where it is contained."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from mendel.sandbox import Limits, Outcome

MB = 1 << 20
SHORT = Limits(wall_s=3, cpu_s=2, memory_bytes=256 * MB, output_bytes=64 << 10, result_bytes=4 * MB)
BRIEF = Limits(wall_s=0.6, cpu_s=5, memory_bytes=256 * MB, output_bytes=64 << 10)

# what attack code may use; `syscall` raises OSError like everything else
PRELUDE = """
import ctypes, os, platform, signal, socket, struct, sys, time
from mendel.sandbox.calls import NUMBERS
libc = ctypes.CDLL(None, use_errno=True)
def syscall(name, *values):
    number = NUMBERS[name][platform.machine() == "aarch64"]
    values = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
    done = libc.syscall(ctypes.c_long(number), *values)
    if done < 0:
        raise OSError(ctypes.get_errno(), name)
    return done
def fork_or_stop():
    try:
        return os.fork()
    except OSError:
        return -1
"""

Proof = Callable[[Outcome], str | None]


@dataclass(frozen=True)
class Attack:
    """It leaks where it returns a true "got", ends in no way of `ends`, or harms the world.

    kind       the class that the table counts it under
    code       Python (after PRELUDE), or the words of a command; {name} is an input of the world
    ends       the ways to end where it is contained; () = any
    harmless   may be run without walls, and must leak there: the proof that it is an attack
    session    the code defines serve, which is called this many times
    proof      looks at the outcome for more; returns what leaked
    """

    name: str
    kind: str
    code: str | tuple[str, ...]
    limits: Limits = SHORT
    ends: tuple[str, ...] = ()
    harmless: bool = False
    session: int = 0
    proof: Proof = field(default=lambda outcome: None)

    def source(self) -> str:
        assert isinstance(self.code, str)
        return PRELUDE + textwrap.dedent(self.code)

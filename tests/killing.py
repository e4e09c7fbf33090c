"""kill -9 of a process of ours at a line of its own choosing, for tests of what a crash leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def kill_self_at_line(n: int, is_ours: Callable[[str], bool]) -> None:
    """Ends this process at the n-th line that it runs of files that are ours, by their path."""
    left = [n]

    def trace(frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not is_ours(frame.f_code.co_filename):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def fork(work: Callable[[], None]) -> int:
    """The process id of a child that does the work; who comes to its end exits with 1."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child

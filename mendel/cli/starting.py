"""What a server says before it serves: which phase it is in, for how long, and what is left.

A start may compile, prove and measure for minutes on a busy machine. Whoever waits sees why, also
in a log; and Ctrl-C ends it at once, even inside a call that Python cannot interrupt.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

INTERRUPTED = 130
TICK_S = 1.0
EVERY_S = 10.0  # between two lines about one phase, where they cannot be written anew
CLEAR = "\r\x1b[K"


class Starting:
    """Names each phase on stderr: one line written anew on a terminal, lines anywhere else."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._is_seen = self._out.isatty()
        self._began = self._since = self._told = time.monotonic()
        self._what, self._done, self._of, self._at = "", 0, 0, ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="starting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._is_seen:
            self._write(CLEAR)
        if kind is None:
            self._write(f"ready after {time.monotonic() - self._began:.0f} s\n")

    def phase(self, what: str) -> None:
        """Another one begins."""
        with self._lock:
            self._what, self._done, self._of, self._at = what, 0, 0, ""
            self._since = self._told = time.monotonic()
            self._write(f"{CLEAR}{what} ..." if self._is_seen else f"{what} ...\n")

    def count(self, done: int, of: int, at: str = "") -> None:
        """So far in this phase, and with what it goes on."""
        with self._lock:
            self._done, self._of, self._at = done, of, at

    def say(self, text: str) -> None:
        """Something that stays to be read."""
        with self._lock:
            self._write(f"{CLEAR if self._is_seen else ''}{text}\n")

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            with self._lock:
                now = time.monotonic()
                if not self._what or (not self._is_seen and now - self._told < EVERY_S):
                    continue
                self._told = now
                line = f"{self._what}: {self._progress(now - self._since)}"
                self._write(f"{CLEAR}{line}" if self._is_seen else f"{line}\n")

    def _progress(self, took_s: float) -> str:
        counted = f"{self._done} of {self._of}" if self._of else ""
        at = f"now {self._at}" if self._at else ""
        left = ""
        if 0 < self._done < self._of:
            left = f"about {took_s * (self._of - self._done) / self._done:.0f} s left"
        return ", ".join(word for word in (counted, at, f"{took_s:.0f} s", left) if word)

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # nobody reads it any more; the server serves all the same
            self._what = ""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the process with 130 from a thread of its own: kernels are compiled, and weights
    read, in calls that return to Python only after many seconds. What is on disk is whole at any
    time, so nothing needs to be put away.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    threading.Thread(target=_end_on_signal, args=(reads,), name="ctrl-c", daemon=True).start()
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    fd = signal.set_wakeup_fd(writes)
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd)
        signal.signal(signal.SIGINT, handler)
        os.close(writes)


def _end_on_signal(reads: int) -> None:
    while raw := os.read(reads, 64):
        if signal.SIGINT in raw:
            os.write(2, b"\n")
            os._exit(INTERRUPTED)
    os.close(reads)

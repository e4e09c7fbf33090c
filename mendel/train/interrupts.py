"""Ctrl-C that waits for the end of a step: parameters are never left half changed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupts:
    """While entered, the first Ctrl-C only sets `asked`; a second one raises at once.

    Signals belong to the main thread: elsewhere nothing is changed.
    """

    def __init__(self, heard: Callable[[], None] = lambda: None) -> None:
        self.asked, self._heard = False, heard

    def __enter__(self) -> Interrupts:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._heard()

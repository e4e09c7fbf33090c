"""From the engine's thread to asyncio: one wake-up for all that came in a step.

engine thread --Listener--> Bridge --call_soon_threadsafe--> Inbox of each HTTP request
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mendel.serve.protocols import End, Listener, Token

Event = tuple[int, Token | End]  # which text of the request, and what came


class Inbox:
    """What came for one HTTP request; read by one task.

    limit     events that may wait; above, the reader is too slow
    too_slow  called once when there are more
    """

    def __init__(self, limit: int | None, too_slow: Callable[[], None]) -> None:
        self.is_overrun = False
        self._abandoned: Callable[[End], None] | None = None
        self._events: deque[Event] = deque()
        self._limit, self._too_slow = limit, too_slow
        self._came = asyncio.Event()

    def put(self, event: Event) -> None:
        """From the loop's thread."""
        if self._abandoned is not None:
            if isinstance(event[1], End):
                self._abandoned(event[1])
            return
        if self.is_overrun and not isinstance(event[1], End):
            return
        self._events.append(event)
        self._came.set()
        if self._limit is not None and len(self._events) > self._limit and not self.is_overrun:
            self.is_overrun = True
            self._too_slow()

    def abandon(self, ended: Callable[[End], None]) -> None:
        """Nobody reads any more; `ended` is told of the ends to come, and of those that wait."""
        self._abandoned = ended
        for _, what in self._events:
            if isinstance(what, End):
                ended(what)
        self._events.clear()

    async def take(self) -> list[Event]:
        """All that waits; at least one."""
        await self._came.wait()
        self._came.clear()
        events = list(self._events)
        self._events.clear()
        return events


class Bridge:
    """Carries events of all requests over to a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._crossing: deque[tuple[Inbox, Event]] = deque()
        self._is_called = False

    def listener(self, inbox: Inbox, index: int) -> Listener:
        """For the text `index` of the request whose inbox it is."""

        def hear(what: Token | End) -> None:
            self._crossing.append((inbox, (index, what)))
            if not self._is_called:
                self._is_called = True
                try:
                    self._loop.call_soon_threadsafe(self._arrive)
                except RuntimeError:  # the loop was closed: nobody listens any more
                    self._crossing.clear()

        return hear

    def _arrive(self) -> None:
        self._is_called = False  # before the last look, so that nothing stays behind
        while self._crossing:
            inbox, event = self._crossing.popleft()
            inbox.put(event)

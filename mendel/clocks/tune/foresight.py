"""Warming what comes next: of each conversation, as far as it can be foreseen.

text + answer --what followed such an answer before--> prefix --idle--> engine.warm

The next prompt mostly is this one, the answer, and something that is half known: the template's
turn header, a tool's usual result, a question that is always asked. Where the asker's side writes
its texts anew (a chat's history, rendered again), the ids that come are not those that were
written: then it tells how they will begin. Tenants share nothing, here too: what one says would
otherwise be found by the time that another's answer takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mendel.clocks.tune.classes import FILL
from mendel.clocks.tune.habits import MOST_AHEAD, Habits, alike
from mendel.serve.protocols import Reason

log = logging.getLogger(__name__)
SURE = 0.3  # of the whole guess, and that there is a next turn at all
WASTE = 0.10  # of all that is computed, that may be warmed in vain
WAITS = 64  # ends that are still to be learned from
TICK_S = 0.02
SHARE = 0.002  # of this process's time, that foresight may take
Ids = tuple[int, ...]


class Warms(Protocol):
    """The engine, as far as foresight needs it."""

    @property
    def block(self) -> int:
        """Tokens that its cache keeps together; less than a whole one is not kept."""

    def warm(self, ids: Sequence[int], tenant: str = "") -> bool: ...


@dataclass(frozen=True)
class Said:
    """A request that has ended."""

    prompt: Ids
    output: Ids
    tenant: str
    n_cached: int
    reason: Reason = "stop"
    # how a prompt begins that goes on from here; None where none will
    then: Callable[[], Sequence[int] | None] | None = None


@dataclass
class _Warmed:
    ids: Ids
    n_from: int  # of them, that were known anyway


class Foresight:
    """Learns from what ends; proposes when idle."""

    def __init__(self) -> None:
        self.block = 1  # the engine's
        self.n_computed = 0  # for requests, in tokens read: one written takes as long as many
        self.n_warmed = self.n_used = self.n_offered = self.n_hit = 0
        self.spent_s = 0.0
        self.habits = Habits()
        self._warmed: dict[tuple[str, Ids], _Warmed] = {}  # by tenant and the text it follows
        self._ended: deque[Said] = deque(maxlen=WAITS)
        self._came, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # -- what it hears --

    def heard(self, said: Said) -> None:
        """From the engine's thread: only put aside."""
        self._ended.append(said)
        self._came.set()

    # -- what it does when there is time --

    def begin(self, engine: Warms) -> None:
        """Learn and warm on a thread of its own until close()."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(engine,), name="foresight", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._came.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self, engine: Warms) -> None:
        while not self._stop.wait(TICK_S):  # some that end together are learned from together
            self._came.wait()
            self._came.clear()  # before the first is taken: what comes later sets it
            if self.spent_s > SHARE * time.process_time():
                self._ended.clear()  # what is missed may come again
                continue
            began = time.thread_time()
            try:
                self.tick(engine)
            except Exception:  # a guess that cannot be made stops no answer
                log.exception("foresight failed")
            self.spent_s += time.thread_time() - began

    def tick(self, engine: Warms) -> int:
        """Learn from what has ended, and offer what may follow; returns how many were taken."""
        n, self.block = 0, engine.block
        while self._ended:
            said = self._ended.popleft()
            self.learn(said)
            text = self._text(said)
            if text is None:
                continue
            ids = self.ahead(said, text)
            self.habits.keep(said.tenant, text, said.output)
            if ids is None:
                continue
            self.n_offered += 1
            if engine.warm(ids, said.tenant):
                self._note(said, text, ids)
                n += 1
        return n

    def _text(self, said: Said) -> Ids | None:
        """What a next prompt begins with; None where the asker has left."""
        if said.then is not None:
            known = said.then()
            return None if known is None else tuple(known)
        return (*said.prompt, *said.output) if said.reason in ("stop", "length") else None

    def _note(self, said: Said, text: Ids, ids: Ids) -> None:
        known = self._known(said, ids)
        self.n_warmed += len(ids) - known
        self._warmed[said.tenant, text] = _Warmed(ids, known)
        while len(self._warmed) > self.habits.most_texts:
            del self._warmed[next(iter(self._warmed))]

    # -- learning --

    def learn(self, said: Said) -> None:
        """What came after a text that was known."""
        self.n_computed += len(said.prompt) - said.n_cached + round(len(said.output) / FILL)
        before = self.habits.follow(said.tenant, said.prompt)
        one = None if before is None else self._warmed.pop((said.tenant, before), None)
        if one is not None:
            self.n_used += max(0, self._whole(alike(one.ids, said.prompt)) - one.n_from)
            self.n_hit += said.prompt[: len(one.ids)] == one.ids

    # -- guessing --

    def ahead(self, said: Said, text: Ids | None = None) -> Ids | None:
        """The text and what will follow, in whole blocks; None where that adds none."""
        text = (*said.prompt, *said.output) if text is None else text
        if self._wastes(1):
            return None
        likely, sure = self.habits.goes_on(said.tenant, said.output)
        if sure < SURE:
            return None
        more = self.habits.guess(likely, sure, SURE)
        ids = (*text, *more[:MOST_AHEAD])
        ids = ids[: self._whole(len(ids))]
        new = len(ids) - self._known(said, ids)
        return None if new <= 0 or self._wastes(new) else ids

    def _known(self, said: Said, ids: Ids) -> int:
        """Of these, what the request left in the cache: all but the last token it gave out."""
        return self._whole(alike(ids, (*said.prompt, *said.output)[:-1]))

    def _wastes(self, more: int) -> bool:
        """With so many more, too much would be warmed that was not asked for yet."""
        return self.n_warmed + more - self.n_used > WASTE * (self.n_computed + self.n_warmed)

    def _whole(self, n: int) -> int:
        return n // self.block * self.block

    def status(self) -> dict[str, Any]:
        return {
            "n_computed": self.n_computed,
            "n_warmed": self.n_warmed,
            "n_used": self.n_used,
            "wasted_share": (self.n_warmed - self.n_used) / max(self.n_computed + self.n_warmed, 1),
            "n_offered": self.n_offered,
            "n_hit": self.n_hit,
            "n_habits": len(self.habits),
            "spent_s": self.spent_s,
        }

"""Warming what comes next: of each conversation, as far as it can be foreseen.

text + answer --the tokens that mostly followed such an end--> prefix --idle--> engine.warm

What follows an answer is learned from prompts that go on from texts seen before: the template's
turn header, a tool's usual result, a question that is always asked. Token by token, from the last
ones, as long as the likeliest is likely enough. Tenants share nothing, here too: what one
says would otherwise be found by the time that another's answer takes.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mendel.serve.protocols import Reason

log = logging.getLogger(__name__)
ORDERS = (8, 4, 2)  # tokens that a guess is made from, the longest that were seen
LIKELY = 0.6  # of a token, to be followed
SEEN = 2  # times that such an end came before
SURE = 0.3  # of the whole guess, and that there is a next turn at all
MOST_AHEAD = 192  # tokens
MOST_STATES = 40_000  # contexts that are remembered; the least recently used go first
MOST_NEXT = 4  # different tokens behind one context
MOST_TEXTS = 256  # that a prompt may go on from
WASTE = 0.10  # of all tokens computed, that may be warmed in vain
WAITS = 64  # ends that are still to be learned from
FORGET = 0.98
TICK_S = 0.02


class Warms(Protocol):
    """The engine, as far as foresight needs it."""

    def warm(self, ids: Sequence[int], tenant: str = "") -> bool: ...


@dataclass(frozen=True)
class Said:
    """A request that has ended."""

    prompt: tuple[int, ...]
    output: tuple[int, ...]
    tenant: str
    n_cached: int
    reason: Reason = "stop"


@dataclass
class _Warmed:
    ids: tuple[int, ...]
    n_new: int  # tokens that were computed for it


class Foresight:
    """Learns from what ends; proposes when idle.

    block    tokens that the engine's cache keeps together; less than a whole one is not kept
    """

    def __init__(self, block: int = 32) -> None:
        self.block = block
        self.n_computed = self.n_warmed = self.n_used = self.n_offered = self.n_hit = 0
        self._next: OrderedDict[int, dict[int, float]] = OrderedDict()
        self._texts: OrderedDict[int, tuple[int, ...]] = OrderedDict()  # by their blocks
        self._warmed: dict[str, deque[_Warmed]] = {}
        self._goes_on: dict[str, float] = {}  # share of a tenant's texts that a prompt went on from
        self._ended: deque[Said] = deque(maxlen=WAITS)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- what it hears --

    def heard(self, said: Said) -> None:
        """From the engine's thread: only put aside."""
        self._ended.append(said)

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
        if self._thread is not None:
            self._thread.join()

    def _work(self, engine: Warms) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.tick(engine)
            except Exception:  # a guess that cannot be made stops no answer
                log.exception("foresight failed")

    def tick(self, engine: Warms) -> int:
        """Learn from what has ended, and offer what may follow; returns how many were taken."""
        n = 0
        while self._ended:
            said = self._ended.popleft()
            self.learn(said)
            ids = self.ahead(said)
            if ids is None:
                continue
            self.n_offered += 1
            if engine.warm(ids, said.tenant):
                self._note(said, ids)
                n += 1
        return n

    def _note(self, said: Said, ids: tuple[int, ...]) -> None:
        n_new = len(ids) - self._whole(len(said.prompt) + len(said.output) - 1)
        self.n_warmed += n_new
        kept = self._warmed.setdefault(said.tenant, deque(maxlen=MOST_TEXTS))
        kept.append(_Warmed(ids, n_new))

    # -- learning --

    def learn(self, said: Said) -> None:
        """What came after a text that was known."""
        self.n_computed += len(said.prompt) - said.n_cached + len(said.output)
        self._count_use(said)
        ids, tenant = said.prompt, said.tenant
        begins = self._begins(tenant, ids)
        rate = self._goes_on.get(tenant, 0.5)
        self._goes_on[tenant] = FORGET * rate + (1 - FORGET) * (begins is not None)
        if begins is not None:
            for i in range(begins, min(len(ids), begins + MOST_AHEAD)):
                for state in _states(tenant, ids[max(0, i - ORDERS[0]) : i], i - begins):
                    self._follow(state, ids[i])
        self._keep((*ids, *said.output), tenant)

    def _begins(self, tenant: str, ids: tuple[int, ...]) -> int | None:
        """Where a prompt leaves the newest text that it goes on from; None where there is none."""
        for state in reversed(self._chain(tenant, ids)):
            before = self._texts.get(state)
            if before is not None and ids[: len(before)] == before:
                return len(before)
        return None

    def _keep(self, text: tuple[int, ...], tenant: str) -> None:
        chain = self._chain(tenant, text)
        if chain:
            self._texts[chain[-1]] = text
            self._texts.move_to_end(chain[-1])
        while len(self._texts) > MOST_TEXTS:
            self._texts.popitem(last=False)

    def _chain(self, tenant: str, ids: tuple[int, ...]) -> list[int]:
        """A number for each prefix of whole blocks."""
        found, state = [], hash(tenant)
        for i in range(self.block, len(ids) + 1, self.block):
            state = hash((state, ids[i - self.block : i]))
            found.append(state)
        return found

    def _follow(self, state: int, id: int) -> None:
        seen = self._next.setdefault(state, {})
        self._next.move_to_end(state)
        for other in seen:
            seen[other] *= FORGET
        seen[id] = seen.get(id, 0.0) + 1
        if len(seen) > MOST_NEXT:
            del seen[min(seen, key=seen.__getitem__)]
        while len(self._next) > MOST_STATES:
            self._next.popitem(last=False)

    def _count_use(self, said: Said) -> None:
        """Did it begin with something that was warmed?"""
        kept = self._warmed.get(said.tenant, deque())
        for one in [w for w in kept if said.prompt[: len(w.ids)] == w.ids]:
            kept.remove(one)
            self.n_used += one.n_new
            self.n_hit += 1

    # -- guessing --

    def ahead(self, said: Said) -> tuple[int, ...] | None:
        """The text and what will follow, in whole blocks; None where that adds none."""
        if said.reason not in ("stop", "length") or self._wastes(self.block):
            return None
        ids = [*said.prompt, *said.output]
        known = self._whole(len(ids) - 1)  # the last token is given out, not yet computed
        sure = self._goes_on.get(said.tenant, 0.5)
        n = len(ids)
        while len(ids) < n + MOST_AHEAD:
            id, share = self._likeliest(said.tenant, ids, len(ids) - n)
            sure *= share
            if share < LIKELY or sure < SURE:
                break
            ids.append(id)
        whole = self._whole(len(ids))
        if whole <= known or self._wastes(whole - known):
            return None
        return tuple(ids[:whole])

    def _likeliest(self, tenant: str, ids: Sequence[int], n_since: int) -> tuple[int, float]:
        """By the longest end that was seen often enough."""
        for state in _states(tenant, tuple(ids[-ORDERS[0] :]), n_since):
            seen = self._next.get(state)
            if seen and (total := sum(seen.values())) >= SEEN * FORGET**SEEN:
                id = max(seen, key=seen.__getitem__)
                return id, seen[id] / total
        return 0, 0.0

    def _wastes(self, more: int) -> bool:
        """With so many more, too much would be warmed that was not asked for yet."""
        return self.n_warmed + more - self.n_used > WASTE * self.n_computed

    def _whole(self, n: int) -> int:
        return n // self.block * self.block

    def status(self) -> dict[str, Any]:
        return {
            "n_computed": self.n_computed,
            "n_warmed": self.n_warmed,
            "n_used": self.n_used,
            "wasted_share": (self.n_warmed - self.n_used) / max(self.n_computed, 1),
            "n_offered": self.n_offered,
            "n_hit": self.n_hit,
            "n_states": len(self._next),
        }


def _states(tenant: str, last: tuple[int, ...], n_since: int) -> list[int]:
    """Numbers for how a text ends: by its last tokens, the most first; then by those since the
    answer alone, since what follows one is often the same whatever was answered.
    """
    found = [hash((tenant, last[-order:])) for order in ORDERS if len(last) >= order]
    since = last[len(last) - n_since :] if n_since < len(last) else last
    return [*found, hash((tenant, "since", n_since <= len(last), since))]

"""Looks that cost no request anything: when nothing is served, the last requests are run again.

a request of late --engine idle--> under the live plan, under a rival --log ratio--> beliefs

A rival that becomes faster shows in the traffic only by looks that requests pay for, so these are
rare; a machine that is idle now and then has time to look. Who comes meanwhile has the probe
cancelled. Only the ratio of the two runs counts, so other load on the machine matters little.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Protocol

from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.classes import log_ms
from mendel.serve.protocols import End, Features, Listener, Overloaded, Request, Token, Trace
from mendel.serve.watched import Finished

SHARE = 0.01  # of the time on the clock, that probes may take
RECENT = 8  # requests that one is chosen from
MOST_TOKENS = 32  # that a probe writes
LOOK_S = 0.002  # between two looks at whether somebody has come
MOST_S = 5.0


class Serves(Protocol):
    """The engine, as far as probes need it."""

    def submit(self, request: Request, listener: Listener) -> None: ...

    def cancel(self, id: str) -> None: ...


class Probes:
    """n_here: requests that the engine has not ended yet, of anybody."""

    def __init__(self, engine: Serves, chooser: Tuned, n_here: Callable[[], int]) -> None:
        self.engine, self.chooser, self.n_here = engine, chooser, n_here
        self.n, self.n_cancelled, self.spent_s = 0, 0, 0.0
        self._began = time.perf_counter()
        self._recent: deque[tuple[Request, Features]] = deque(maxlen=RECENT)
        self._last: dict[tuple[str, str], int] = {}  # when a plan was probed, by class
        self._ids = count()

    def heard(self, one: Finished) -> None:
        """A request has ended, from the engine's thread."""
        usual = one.request.grammar is None and one.request.plan is None
        if usual and one.trace.n_out > 1 and one.trace.reason != "failed":
            self._recent.append((one.request, one.trace.features))

    def tick(self) -> bool:
        """One pair of runs, where nothing else runs and there is time; whether it told anything."""
        elapsed = time.perf_counter() - self._began
        recent = list(self._recent)  # the engine's thread adds to it
        if not recent or self.n_here() or self.spent_s > SHARE * elapsed:
            return False
        request, features = min(recent, key=lambda each: each[1].n_prompt)
        self._recent.clear()  # the next probe is of newer traffic
        name = self.chooser.class_of(features)
        live = self.chooser.live().get(name)
        rival = self._rival(name, live)
        if live is None or rival is None:
            return False
        began = time.perf_counter()
        order = (live, rival) if self.n % 2 else (rival, live)
        found = {plan: self._run(request, plan) for plan in order}
        pair = [found[live], found[rival]]
        self.spent_s += time.perf_counter() - began
        ys = [None if trace is None else log_ms(trace) for trace in pair]
        if ys[0] is None or ys[1] is None:
            return False
        self.n += 1
        self.chooser.probed(features, rival, ys[1] - ys[0])
        return True

    def _rival(self, name: str, live: str | None) -> str | None:
        """The one that was not probed for longest."""
        rivals = [plan for plan in self.chooser.able() if plan != live]
        rival = min(rivals, key=lambda plan: self._last.get((name, plan), -1), default=None)
        if rival is not None:
            self._last[name, rival] = next(self._ids)
        return rival

    def _run(self, request: Request, plan: str) -> Trace | None:
        """Again, as its tenant: it finds what the request left in the cache. None: cut short."""
        if self.n_here():
            return None
        ended, ends = threading.Event(), list[End]()

        def listen(event: Token | End) -> None:
            if isinstance(event, End):
                ends.append(event)
                ended.set()

        n_tokens = min(request.n_tokens, MOST_TOKENS)
        id = f"probe-{next(self._ids)}"
        again = replace(
            request, id=id, plan=plan, n_tokens=n_tokens, n_logprobs=None, then=None, is_own=True
        )
        try:
            self.engine.submit(again, listen)
        except Overloaded:  # it fills up, or closes
            return None
        end = time.perf_counter() + MOST_S
        while not ended.wait(LOOK_S):
            if self.n_here() > 1 or time.perf_counter() > end:
                self.engine.cancel(id)
                self.n_cancelled += 1
                ended.wait(MOST_S)
                return None
        return ends[0].trace if ends[0].reason in ("stop", "length") else None

    def status(self) -> dict[str, float]:
        return {"n": self.n, "n_cancelled": self.n_cancelled, "spent_s": self.spent_s}

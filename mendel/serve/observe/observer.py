"""The observer of one server: hears every end, looks into a few texts when nothing else runs.

Watched.submit -> engine -> Token ... End -> traffic; one text in N -> queue --idle--> layers
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mendel.model import Model
from mendel.serve.observe.layers import LONGEST, Look, look
from mendel.serve.observe.machine import Machine
from mendel.serve.observe.running import MOST_CLASSES, REST, Layers, Traffic
from mendel.serve.protocols import Features, Trace

log = logging.getLogger(__name__)
SHARE = 0.002  # of this process's time, that looks may take
QUEUED = 4
TICK_S, LONGEST_S = 0.05, 0.8  # between two looks at whether it is idle: ever longer while not
LEAST_TOKENS = 8
MADE_UP = 32  # tokens of the first text, that tells what a look costs
Told = dict[str, Callable[[], Any]]


class Observer:
    """Counts all requests, and looks into the layers of some.

    model     run again by torch for a look; None: no looks
    class_of  the name of a request's class
    is_idle   nothing is being served now
    share     of this process's processor time, that looks may take
    more      what else /v1/observe and /metrics show, by name
    """

    def __init__(
        self,
        model: Model | None,
        *,
        class_of: Callable[[Features], str] = lambda _: "all",
        is_idle: Callable[[], bool] = lambda: True,
        share: float = SHARE,
        more: Told | None = None,
    ) -> None:
        self.model, self.class_of, self.is_idle, self.share = model, class_of, is_idle, share
        self.more: Told = dict(more or {})
        self.machine = Machine()
        self.n_heard, self.n_looked, self.spent_s, self.heard_s = 0, 0, 0.0, 0.0
        self._token_s = 0.0  # of a look, a token of its text, lately
        self._began = time.process_time()
        self._traffic: dict[str, Traffic] = {}
        self._layers: dict[str, Layers] = {}
        self._queue: deque[tuple[str, tuple[int, ...]]] = deque(maxlen=QUEUED)
        self._lock = threading.Lock()
        self._came, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # -- what it hears --

    def heard(self, trace: Trace, ids: Sequence[int] = ()) -> None:
        """A request has ended; `ids` are its prompt and output. From the engine's thread."""
        began = time.thread_time()
        with self._lock:
            name = self._name(self.class_of(trace.features))
            self._traffic.setdefault(name, Traffic()).add(trace)
            self.n_heard += 1
            if len(ids) >= LEAST_TOKENS and len(self._queue) < QUEUED and self._may_look(len(ids)):
                self._queue.append((name, tuple(ids[-LONGEST:])))
                self._came.set()
            self.heard_s += time.thread_time() - began

    def _name(self, name: str) -> str:
        known = name in self._traffic or len(self._traffic) < MOST_CLASSES
        return name if known else REST

    def _may_look(self, n: int) -> bool:
        """Its share of the time is not used up, with the looks that wait and one at n tokens."""
        if self.model is None:
            return False
        n = min(n, LONGEST) + sum(len(ids) for _, ids in self._queue)
        return self.spent_s + n * self._token_s <= self.share * self._lived_s()

    def _lived_s(self) -> float:
        return time.process_time() - self._began

    # -- what it looks at --

    def begin(self) -> None:
        """Look on a thread of its own, with the least priority, until close(). What a look costs is
        learned first, here and now: torch starts for it, and no request is there yet to wait."""
        if self._thread is None and self.model is not None:
            self._learn_cost(self.model)
            self._began = time.process_time()
            self._thread = threading.Thread(target=self._work, name="observer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._came.set()
        if self._thread is not None:
            self._thread.join()

    def _learn_cost(self, model: Model) -> None:
        n = min(MADE_UP, model.spec.context or MADE_UP)
        ids = [i % (model.spec.vocab or 1) for i in range(n)]
        for _ in range(2):  # the first one starts torch
            _, spent_s = self._timed(ids)
        self._token_s = spent_s / n

    def _work(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        except OSError:
            log.debug("the observer keeps its priority")
        torch.set_num_threads(1)
        while not self._stop.is_set():
            self._came.wait()
            self._came.clear()  # before the queue is read: what comes later sets it
            wait_s = TICK_S
            while self._queue and not self._stop.wait(wait_s):
                if self.is_idle():
                    self.work()
                    wait_s = TICK_S
                else:
                    wait_s = min(2 * wait_s, LONGEST_S)

    def work(self) -> bool:
        """One look, here and now; False where none waits."""
        if not self._queue:
            return False
        name, ids = self._queue[0]  # it stays until its cost is known: nobody looks for free
        seen, spent_s = self._timed(ids)
        with self._lock:
            self._queue.popleft()
            self.spent_s += spent_s
            if seen is not None:
                self._layers.setdefault(name, Layers()).add(seen)
                self.n_looked += 1
                self._token_s += (spent_s / len(ids) - self._token_s) / 4
        return seen is not None

    def _timed(self, ids: Sequence[int]) -> tuple[Look | None, float]:
        """And its processor seconds."""
        began = time.thread_time()
        try:
            seen = None if self.model is None else look(self.model, ids)
        except Exception:  # a model that cannot be looked into is served all the same
            log.exception("the layers cannot be observed")
            seen = self.model = None
        return seen, time.thread_time() - began

    # -- what it tells --

    def told(self) -> dict[str, Any]:
        """For /v1/observe."""
        with self._lock:
            traffic = {name: one.to_dict() for name, one in self._traffic.items()}
            layers = {name: one.to_dict() for name, one in self._layers.items()}
            own = {
                "n_heard": self.n_heard,
                "n_looked": self.n_looked,
                "share": round((self.spent_s + self.heard_s) / max(self._lived_s(), 1e-9), 6),
            }
        more = {name: tell() for name, tell in self.more.items()}
        facts = {"classes": traffic, "layers": layers, "machine": self.machine.facts()}
        return {**facts, "observer": own, **more}

    def collector(self) -> Any:
        """For prometheus_client: the same numbers, made when they are asked for."""
        from mendel.serve.observe.show import collector

        return collector(self.told)

"""The process around the application: sockets, signals, the drain, the end.

SIGTERM or Ctrl-C: no new request, those that run may end within the drain, exit 0. A second
Ctrl-C ends at once.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from mendel.serve.http.served import Served, as_dict
from mendel.serve.http.sockets import bound, listen

GRACE_S = 2.0  # after the drain, for what is already written to reach its reader
INTERRUPTED = 130


class Server(uvicorn.Server):
    """uvicorn's, with ends of our own.

    drain_s  for the texts that are being written when a signal comes
    """

    def __init__(self, config: uvicorn.Config, served: Served, drain_s: float) -> None:
        super().__init__(config)
        self._served, self._drain_s = served, drain_s
        served.n_connections = lambda: len(self.server_state.connections)
        self._silent: dict[Any, float] = {}  # connections without a request, and since when

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As theirs, but the signal is not raised again at the end: a drained server exits 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        known = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in known}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            os._exit(INTERRUPTED)
        if not self.should_exit and (n := self._n_texts()):
            said = f"{n} texts may end within {self._drain_s:g} s; Ctrl-C ends them now\n"
            os.write(2, said.encode())  # print() would wait for itself where it was interrupted
        self.leave()

    def _n_texts(self) -> int:
        """That are being written, or wait."""
        language = self._served.language
        facts = as_dict(language.engine.stats()) if language is not None else {}
        return int(facts.get("n_running", 0)) + int(facts.get("n_queued", 0))

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            self._cut_silent(time.monotonic())
        return await super().on_tick(counter)

    def _cut_silent(self, now: float) -> None:
        """Who opens connections and says nothing takes the places of those who would."""
        limits, silent = self._served.limits, {}
        crowded = len(self.server_state.connections) > limits.max_connections
        patience_s = min(limits.head_s, limits.crowded_s) if crowded else limits.head_s
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            silent[connection] = since = self._silent.get(connection, now)
            transport = getattr(connection, "transport", None)
            if now - since > patience_s and transport is not None:
                transport.abort()
        self._silent = silent

    def leave(self) -> None:
        """Begin to end; returns at once."""
        if self.should_exit:
            return
        self._served.is_leaving = True
        self.should_exit = True
        if self._served.language is not None:
            close = self._served.language.engine.close
            threading.Thread(target=close, args=(self._drain_s,), daemon=True).start()


def serve(app: FastAPI, served: Served, sock: socket.socket, drain_s: float) -> None:
    """Serve until a signal comes; returns when all is drained."""
    _server(app, served, drain_s).run(sockets=[sock])


class Running:
    """A server in a thread of this process."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.port: int = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = server
        self._thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        self._thread.start()
        _until(lambda: server.started or not self._thread.is_alive())

    def stop(self) -> None:
        self.server.leave()
        self._thread.join()


def start(app: FastAPI, served: Served, *, drain_s: float = 0.0) -> Running:
    """Serve on a free port of the loopback while this process does other things."""
    sock = bound("127.0.0.1", 0)
    listen(sock)
    return Running(_server(app, served, drain_s), sock)


def _server(app: FastAPI, served: Served, drain_s: float) -> Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="on",
        backlog=2_048,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(drain_s + GRACE_S)),
        http="h11",
        ws="none",
    )
    return Server(config, served, drain_s)


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.005)

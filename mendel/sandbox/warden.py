"""A fork server: imports what trials need once, then forks a supervisor for each trial.

It runs behind bubblewrap's walls where there are any, has one thread, computes nothing and never
reads what a trial wrote. Started by the harness: python -I -c BOOT, see wardens.py.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from mendel.sandbox.cage import BUBBLEWRAP, Cage
from mendel.sandbox.confine import Descriptors
from mendel.sandbox.limits import Limits
from mendel.sandbox.supervisor import supervise

MESSAGE = 2048  # bytes of a message, always: so that a stream keeps them apart


def main() -> None:
    """argv: the control socket, a descriptor that tells the harness's end or -1, what to import,
    the cage."""
    control = socket.socket(fileno=int(sys.argv[1]))
    host, preload, cage = int(sys.argv[2]), sys.argv[3], Cage.parse(sys.argv[4])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    control.send(json.dumps(prepare(preload.split(","))).encode())
    serve(control, host, cage)
    if cage.kind != BUBBLEWRAP:
        with contextlib.suppress(OSError):  # the harness may be gone, and cannot clean up
            os.rmdir(cage.home)


def prepare(preload: list[str]) -> dict[str, Any]:
    """Import what every trial would import; then forks share those pages."""
    try:
        for name in ("mendel.sandbox.frames", *filter(None, preload)):
            importlib.import_module(name)
        if any(preload):
            importlib.import_module("safetensors.numpy")
    except Exception as error:  # a broken package can raise anything
        return {"failed": f"import {name}: {type(error).__name__}: {error}"[:1000]}
    gc.collect()
    gc.freeze()
    return {"ready": True}


def serve(control: socket.socket, host: int, cage: Cage) -> None:
    """A message is a trial: limits, and four descriptors. Returns when the harness is gone."""
    poll = select.poll()
    for fd in (control.fileno(), host):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll(1000)]
        _reap()
        if host in ready:
            return
        if control.fileno() not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(control, MESSAGE, 4, socket.MSG_WAITALL)
        if len(message) < MESSAGE:
            return
        job = json.loads(message)
        if os.fork() == 0:
            control.close()
            supervise(job["kind"], Limits(**job["limits"]), cage, Descriptors(*fds), host)
        for fd in fds:
            os.close(fd)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()

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
import time
from typing import Any

from mendel.sandbox import confine, linux, tree
from mendel.sandbox.cage import BUBBLEWRAP, Cage
from mendel.sandbox.confine import Descriptors
from mendel.sandbox.limits import Limits
from mendel.sandbox.supervisor import supervise, wake_on_child

MESSAGE = 2048  # bytes of a message, always: so that a stream keeps them apart
LEAVE_S = 0.5  # of supervisors, to end their trials and to report, before they are ended too


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
    """A message is a trial: limits, and four descriptors. Returns when the harness is gone, and
    all that was started with it."""
    if confine.LINUX:
        linux.prctl(linux.CHILD_SUBREAPER, 1)
    ended, alive = os.pipe()  # readable for supervisors once we are gone, however that was
    ends = [fd for fd in (host, ended) if fd >= 0]
    wake = wake_on_child()
    poll = select.poll()
    for fd in (control.fileno(), wake, *ends[:-1]):
        poll.register(fd, select.POLLIN)
    supervisors: set[int] = set()
    while True:
        ready = [fd for fd, _ in poll.poll(1000)]
        if wake in ready:
            os.read(wake, 512)
        _reap(supervisors)
        if host in ready:
            break
        if control.fileno() not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(control, MESSAGE, 4, socket.MSG_WAITALL)
        if len(message) < MESSAGE:
            break
        job = json.loads(message)
        if (pid := os.fork()) == 0:
            control.close()
            os.close(alive)
            supervise(job["kind"], Limits(**job["limits"]), cage, Descriptors(*fds), ends)
        supervisors.add(pid)
        for fd in fds:
            os.close(fd)
    os.close(alive)
    _leave(supervisors)


def _leave(supervisors: set[int]) -> None:
    """They end their trials by themselves; who does not is ended with all below."""
    until = time.monotonic() + LEAVE_S
    while supervisors and time.monotonic() < until:
        time.sleep(0.002)
        _reap(supervisors)
    tree.end(os.getpid())


def _reap(supervisors: set[int]) -> None:
    """Forget supervisors that have ended. What one left falls to us, and is killed."""
    for _ in range(1000):
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                supervisors.discard(pid)
        except ChildProcessError:
            return
        if not _orphans(supervisors):
            return
        tree.strike(lambda: _orphans(supervisors))
        time.sleep(0.001)


def _orphans(supervisors: set[int]) -> list[int]:
    ours = [pid for pid in tree.children(os.getpid()) if pid not in supervisors]
    return [*ours, *(pid for one in ours for pid in tree.descendants(one))]


if __name__ == "__main__":
    main()

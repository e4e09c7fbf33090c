"""From supervisor to trial: fork, build the walls, and run.

bubblewrap   supervisor -> process 1 of new namespaces (reaps, waits) -> trial
else         supervisor (adopts whoever loses a parent) -> trial
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import traceback
from dataclasses import dataclass
from typing import NoReturn

from mendel.sandbox import confine, linux, tree, trial
from mendel.sandbox.cage import BUBBLEWRAP, LANDLOCK, Cage
from mendel.sandbox.confine import Descriptors
from mendel.sandbox.limits import Limits

STATUS = struct.Struct("<i")


@dataclass(frozen=True)
class Child:
    """What the supervisor started, and the ends of two pipes.

    pid       the trial; with namespaces, process 1 above it
    started   closes when the walls stand; before, the reason why they do not
    report    the trial's wait status as process 1 saw it; None where there is no process 1
    """

    pid: int
    started: int
    report: int | None = None


@dataclass(frozen=True)
class Order:
    """All that the child needs to know."""

    kind: str
    limits: Limits
    cage: Cage
    fds: Descriptors
    started: int
    address_space: int
    tasks: int | None


def start(kind: str, limits: Limits, cage: Cage, fds: Descriptors) -> Child:
    started, tell = os.pipe()
    order = Order(kind, limits, cage, fds, tell, tree.address_space(), _tasks(limits, cage))
    child = _with_namespaces(order, started) if cage.kind == BUBBLEWRAP else _plain(order, started)
    os.close(tell)
    return child


def _tasks(limits: Limits, cage: Cage) -> int | None:
    """RLIMIT_NPROC, which counts by user; None where that user is not the trial's alone."""
    if cage.new_uid:
        return limits.tasks
    if cage.user_namespace:
        return limits.tasks + 2  # counted within the namespace: the supervisor and process 1
    if os.getuid() != 0 and cage.kind == LANDLOCK:
        return tree.tasks_of(os.getuid()) + limits.tasks
    return None


def _plain(order: Order, started: int) -> Child:
    if confine.LINUX:
        linux.prctl(linux.CHILD_SUBREAPER, 1)
    pid = os.fork()
    if pid == 0:
        _trial(order, confine.own_user(order.cage))
    return Child(pid, started)


def _with_namespaces(order: Order, started: int) -> Child:
    report, tell = os.pipe()
    confine.own_namespaces(order.cage)
    pid = os.fork()
    if pid == 0:
        _process_one(order, tell)
    os.close(tell)
    return Child(pid, started, report)


def _process_one(order: Order, report: int) -> NoReturn:
    """Mounts, starts the trial, and ends with it: then the kernel kills whoever is left."""
    try:
        _default_signals()
        uid = confine.own_user(order.cage)
        confine.own_mounts(order.limits, uid)
        confine.first_to_go()  # its file is root's once the process cannot be looked into
        linux.prctl(linux.DUMPABLE, 0)  # nobody inside can look into this process
        pid = os.fork()
        if pid == 0:
            _trial(order, uid)
        confine.close_all_but(report)
        linux.drop_capabilities()
        linux.prctl(linux.PDEATHSIG, signal.SIGKILL)
        while True:
            ended, status = os.wait()
            if ended == pid:
                os.write(report, STATUS.pack(status))
                break
    except OSError as error:
        _say(order.started, error)
    finally:
        os._exit(0)


def _trial(order: Order, uid: int) -> NoReturn:
    code = 1
    try:
        _behind_walls(order, uid)
    except Exception as error:
        _say(order.started, error)
        os._exit(code)
    try:
        trial.run(order.kind, order.fds.data, order.cage, order.limits)
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else asked.code is not None
        trial.flush()
    except BaseException:
        traceback.print_exc()
        trial.flush()
    finally:
        os._exit(code & 0xFF)


def _behind_walls(order: Order, uid: int) -> None:
    os.setsid()
    _default_signals()
    if order.kind == "command":
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    confine.streams(order.fds)
    confine.close_all_but(order.fds.data, order.started)
    confine.rlimits(order.limits, grown=order.address_space, tasks=order.tasks)
    confine.give_up_rights(order.cage, order.limits, uid)
    os.close(order.started)


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _say(started: int, error: Exception) -> None:
    with contextlib.suppress(OSError):  # the walls stood already, or the supervisor is gone
        os.write(started, f"{type(error).__name__}: {error}".encode()[:4000])

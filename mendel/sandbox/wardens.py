"""The harness's side of a warden: start it behind its outer walls, hand it trials, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mendel.sandbox import bubblewrap, confine, tree
from mendel.sandbox.cage import BUBBLEWRAP, Cage
from mendel.sandbox.confine import Descriptors
from mendel.sandbox.limits import Limits, SandboxError
from mendel.sandbox.warden import MESSAGE

START_S = 120.0  # importing torch from a cold disk
CLOSE_S = 2.0
BOOT = """
import json, sys
sys.path.extend(p for p in json.loads(sys.argv[4])["python_path"] if p not in sys.path)
from mendel.sandbox.warden import main
main()
"""


class Warden:
    """One fork server. `close` ends it and every trial that it started.

    raises   SandboxError where the walls cannot be built, PreloadError for the imports
    """

    def __init__(self, cage: Cage, preload: Sequence[str]) -> None:
        self._folder = None if cage.kind == BUBBLEWRAP else empty_folder()
        self.cage = replace(cage, home=self._folder) if self._folder else cage
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._inner: int | None = None  # with bubblewrap, process 1 of its namespace
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (until close)
        self._control, theirs = socket.socketpair()
        try:
            self._start(theirs, preload)
            self._greet()
        except BaseException:
            self.close()
            raise

    def _start(self, theirs: socket.socket, preload: Sequence[str]) -> None:
        """Ends with the harness: by the end of the socket, or of the process where Linux tells.

        bubblewrap's --die-with-parent is of no use: it is bound to the thread that started it.
        """
        host = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else -1
        info, tell = os.pipe()
        command = [
            os.path.abspath(sys.executable),
            "-I",
            "-c",
            BOOT,
            str(theirs.fileno()),
            str(host),
        ]
        command += [",".join(preload), self.cage.dump()]
        env = confine.warden_environment(self.cage.home)
        if self.cage.kind == BUBBLEWRAP:
            nested = self.cage.user_namespace
            walls = bubblewrap.command(self.cage.seen, env, user_namespace=nested, info_fd=tell)
            command = [*walls, *command]
        with theirs, os.fdopen(info) as inner:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    env=env,
                    cwd=self._folder or "/",
                    pass_fds=[fd for fd in (theirs.fileno(), host, tell) if fd >= 0],
                    start_new_session=True,  # Ctrl-C is for the harness to answer
                )
            finally:
                os.close(tell)
                if host >= 0:
                    os.close(host)
            if self.cage.kind == BUBBLEWRAP:  # it says which process it started, if it could
                text = inner.read()
                self._inner = json.loads(text)["child-pid"] if text.strip() else None

    def _greet(self) -> None:
        """Wait until it has imported all it should."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(START_S * 1000):
            raise PassingError(f"the warden did not start within {START_S:.0f} s. {self._said()}")
        answer: dict[str, Any] = json.loads(self._control.recv(1 << 16) or b"{}")
        if "failed" in answer:
            raise PreloadError(
                f"{answer['failed']} (in the sandbox). Wanted modules that are installed here. "
                f"Check with: {sys.executable} -I -c 'import ...'"
            )
        if "ready" not in answer:
            raise SandboxError(self._said())

    def _said(self) -> str:
        """The end of its stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "It said nothing."

    def launch(self, kind: str, limits: Limits, fds: Descriptors) -> bool:
        """Have a trial started. False where the warden is dead."""
        message = json.dumps({"kind": kind, "limits": asdict(limits)}).encode().ljust(MESSAGE)
        try:
            with self._lock:
                socket.send_fds(self._control, [message], [fds.status, fds.data, fds.out, fds.err])
        except OSError:
            return False
        return True

    @property
    def alive(self) -> bool:
        """False in a process that was forked from the one that started it: it has no say here."""
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._inner is None else self._inner

    def kill(self) -> None:
        """At once, with all trials; with bubblewrap the kernel takes them along."""
        if self._owner != os.getpid():
            return
        if self._inner is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._inner, signal.SIGKILL)
        elif self.alive:
            self._process.send_signal(signal.SIGSTOP)  # it starts none meanwhile
            tree.strike_all_below(self._process.pid)
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """In a forked process only the descriptors are closed."""
        if self._owner != os.getpid():
            self._control.close()
            self._errors.close()
            return
        with contextlib.suppress(OSError):  # others may hold copies of the descriptor
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        if process := getattr(self, "_process", None):
            try:
                process.wait(CLOSE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._errors.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class PassingError(SandboxError):
    """It did not work in time, and may the next time."""


class PreloadError(SandboxError):
    """The walls stand, but a module that should be imported behind them cannot be."""


def empty_folder() -> str:
    """A home for trials where there is no mount namespace: nothing in it, nothing to write."""
    path = Path(tempfile.mkdtemp(prefix="mendel-home-"))
    path.chmod(0o555)
    return str(path)

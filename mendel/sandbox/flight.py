"""One trial as the harness sees it: what it prints, its frames, and how it ended.

Every wait has an end. Nothing that a trial does makes a function here raise.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import Any, TypeVar

from mendel.sandbox.confine import Descriptors
from mendel.sandbox.frames import Frame, FrameError, FrameReader
from mendel.sandbox.limits import Ended, Limits, Outcome, Usage
from mendel.sandbox.wardens import Warden

End = TypeVar("End", socket.socket, int)
LEAVE_S = 0.2  # of a session, to return from the end of its requests
GRACE_S = 1.0  # of the supervisor, to report the end that was asked for
LOST: dict[str, Any] = {"killed": Ended.CRASHED, "signal": signal.SIGKILL}
BY_SIGNAL = {signal.SIGXCPU: Ended.CPU, signal.SIGXFSZ: Ended.DISK}
SAID = (Ended.EXCEPTION, Ended.MEMORY, Ended.DISK)  # what a trial may say of its own failure


class Flight:
    """Started by the constructor; `close` (or the end of `with`) ends it, whatever its state."""

    def __init__(self, warden: Warden, kind: str, limits: Limits) -> None:
        self.warden, self.kind, self.limits = warden, kind, limits
        self.reason: Ended | None = None  # why the host ended it
        self.report: dict[str, Any] | None = None  # of the supervisor, once all is over
        self.frame: Frame | None = None  # the last that came whole
        self.printed: dict[int, bytearray] = {}
        self._reader = FrameReader(limits.result_bytes)
        self._outgoing = memoryview(b"")
        self._deaf = self._writing = False
        self._poll = select.poll()
        self._owner = os.getpid()
        self._open: list[socket.socket | int] = []
        try:
            self._launch()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> None:
        given: list[socket.socket | int] = []
        try:
            self._status, status = self._keep(socket.socketpair(), given)
            self._data, data = self._keep(socket.socketpair(), given)
            self._out, out = self._keep(os.pipe(), given)
            self._err, err = self._keep(os.pipe(), given)
            self.printed = {self._out: bytearray(), self._err: bytearray()}
            fds = Descriptors(status.fileno(), data.fileno(), out, err)
            if not self.warden.launch(self.kind, self.limits, fds):
                self.report = dict(LOST)
        finally:
            _close(given)
        for fd in (self._status.fileno(), self._data.fileno(), self._out, self._err):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    def _keep(self, pair: tuple[End, End], given: list[socket.socket | int]) -> tuple[End, End]:
        """Ours is closed with the flight, the other at once."""
        self._open.append(pair[0])
        given.append(pair[1])
        return pair

    @property
    def foreign(self) -> bool:
        """This process was forked from the one that started the trial: it has no say in it."""
        return self._owner != os.getpid()

    def disown(self) -> None:
        self.reason, self.report = Ended.CLOSED, dict(LOST)

    @property
    def over(self) -> bool:
        return self.report is not None

    def send(self, frame: bytes) -> None:
        """Queue an encoded frame, and write what can be written now."""
        self._outgoing = memoryview(frame)
        self._write()

    def wait(self, until: float, *, for_frame: bool = False) -> bool:
        """Serve all channels until the trial is over, or a frame is there. False = too late."""
        while not (self.over or (for_frame and self.frame is not None)):
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            for fd, _ in self._poll.poll(min(left_s, 1000) * 1000 + 1):
                self._serve(fd)
        return True

    def take(self) -> Frame | None:
        """The frame that arrived; the next may come."""
        frame, self.frame = self.frame, None
        return frame

    def stop(self, reason: Ended) -> None:
        """End the trial and wait for the report; a warden that does not answer is killed."""
        if self.foreign:
            return self.disown()
        self.reason = self.reason or reason
        self._hang_up()
        if not self.wait(time.monotonic() + GRACE_S):
            self.warden.kill()
            self.wait(time.monotonic() + GRACE_S)
            self.report = self.report or dict(LOST)

    def finish(self) -> None:
        """End a session that has done its work: it may leave by itself first."""
        if self.foreign:
            return self.disown()
        with contextlib.suppress(OSError):  # it left before
            self._data.shutdown(socket.SHUT_WR)
        if not self.wait(time.monotonic() + LEAVE_S):
            self.stop(Ended.CLOSED)

    def _hang_up(self) -> None:
        """The supervisor takes the end of our side as the order to end the trial."""
        if self.foreign:
            return
        with contextlib.suppress(OSError):  # it is gone already
            self._status.shutdown(socket.SHUT_WR)

    def _serve(self, fd: int) -> None:
        if fd in self.printed:
            self._read_output(fd)
        elif fd == self._status.fileno():
            self._read_report()
        else:
            self._write()
            self._read_frame()

    def _read_output(self, fd: int) -> None:
        data = _read(fd)
        if data is None:
            return
        if not data:
            self._poll.unregister(fd)
        room = self.limits.output_bytes - sum(map(len, self.printed.values()))
        self.printed[fd] += data[:room]
        if len(data) > room:
            self._refuse(Ended.OUTPUT)

    def _read_report(self) -> None:
        try:
            text = self._status.recv(1 << 16)
            self.report = json.loads(text) if text else dict(LOST)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # a watcher that was killed while it wrote
            self.report = dict(LOST)

    def _read_frame(self) -> None:
        try:
            # the head comes first, and what follows is mostly there already
            frame = self._reader.read(self._data) or self._reader.read(self._data)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._deafen()
            return
        except (FrameError, MemoryError):
            self._deafen()
            self._refuse(Ended.MALFORMED)
            return
        if frame is None:
            return
        if self.frame is not None or (self.kind == "command"):
            self._refuse(Ended.MALFORMED)  # nobody asked for a second
        self.frame = frame

    def _write(self) -> None:
        """Watch for room to write only while something is left."""
        if self._deaf or not (self._outgoing or self._writing):
            return
        try:
            self._outgoing = self._outgoing[self._data.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:  # the trial closed its side; what that means, the report says
            self._outgoing = memoryview(b"")
        if bool(self._outgoing) != self._writing:
            self._writing = not self._writing
            events = select.POLLIN | (select.POLLOUT if self._writing else 0)
            self._poll.modify(self._data.fileno(), events)

    def _deafen(self) -> None:
        """No more of the data channel."""
        self._deaf, self._outgoing = True, memoryview(b"")
        self._poll.unregister(self._data.fileno())

    def _refuse(self, reason: Ended) -> None:
        self.reason = self.reason or reason
        self._hang_up()

    def outcome(self) -> Outcome:
        """What came of it; wants `over`."""
        assert self.report is not None
        self._drain()
        ended = self._ended(self.report)
        frame = self.frame if ended is Ended.DONE else None
        out, err = (bytes(self.printed[fd]).decode("utf-8", "replace") for fd in
                    (self._out, self._err))  # fmt: skip
        used = {k: v for k, v in self.report.items() if k in ("wall_s", "cpu_s", "peak_bytes")}
        return Outcome(
            ended,
            self.warden.cage.kind,
            frame.value if frame else None,
            frame.arrays if frame else {},
            out,
            err,
            self.report.get("exit_code"),
            self.report.get("signal"),
            Usage(**used),
        )

    def _drain(self) -> None:
        """What lies in the pipes of a dead trial; reading ends at the limits."""
        for _ in range(1 << 16):
            ready = self._poll.poll(0)
            if not ready or self.reason:
                return
            for fd, _ in ready:
                if fd == self._status.fileno():
                    self._poll.unregister(fd)
                else:
                    self._serve(fd)

    def _ended(self, report: dict[str, Any]) -> Ended:
        number = report.get("signal")
        if self.reason or report.get("killed"):
            return self.reason or Ended(report["killed"])
        if number is not None:
            return BY_SIGNAL.get(number, Ended.CRASHED)
        if self.kind == "command" or (self.kind == "session" and self.frame is None):
            return Ended.DONE
        if self._reader.begun or (self.frame and not well_formed(self.frame)):
            return Ended.MALFORMED
        if self.frame is None:
            return Ended.NO_RESULT
        return Ended.DONE if self.frame.kind == "result" else Ended(self.frame.value["ended"])

    def close(self) -> None:
        """The trial ends with it, also where other processes hold copies of the descriptors."""
        if self._open and hasattr(self, "_status"):
            self._hang_up()
        _close(self._open)

    def __enter__(self) -> Flight:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(ends: list[socket.socket | int]) -> None:
    while ends:
        one = ends.pop()
        if isinstance(one, int):
            os.close(one)
        else:
            one.close()


def _read(fd: int) -> bytes | None:
    """None where there is nothing now."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def printable(text: str) -> str:
    """Words of a trial for a message of ours: short, and without commands to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[-500:])


def well_formed(frame: Frame) -> bool:
    """A result, or a failure of a kind that a trial may have."""
    if frame.kind == "failed":
        said = frame.value
        return said.get("ended") in SAID and isinstance(said.get("message"), str)
    return frame.kind == "result"

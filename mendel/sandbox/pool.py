"""A warm pool: one fork server behind its walls, a fork for each trial or session."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mendel.sandbox import backends, frames
from mendel.sandbox.cage import UNSAFE
from mendel.sandbox.flight import LOST, Flight, printable, well_formed
from mendel.sandbox.frames import Frame
from mendel.sandbox.limits import MAX_S, CallError, Ended, Limits, Outcome, SandboxError
from mendel.sandbox.wardens import Warden
from mendel.types import InputError, Json

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LATE_S = 1.0  # the host waits this much longer than the supervisor
DEFAULT = Limits()


class Pool:
    """Trials that start warm: `preload` is imported once, before the first.

    preload    modules that most trials import
    readable   files and folders that every trial may read
    unsafe     no walls at all
    backend    one kind and no other; None = the best there is
    raises     SandboxError where no sandbox works

    One pool may be used from several threads. What a trial does to torch, to files or to memory is
    gone with it: the next is forked from the same clean process.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        readable: backends.Readable = (),
        unsafe: bool = False,
        backend: str | None = None,
    ) -> None:
        self._preload, self._readable = tuple(preload), tuple(readable)
        self._wanted = UNSAFE if unsafe else backend
        self._lock = threading.Lock()
        self._warden = self._open()
        self._wanted = self._warden.cage.kind  # a new warden has the same walls, or there is none

    def _open(self) -> Warden:
        return backends.open_warden(self._preload, self._readable, self._wanted)

    @property
    def backend(self) -> str:
        return self._warden.cage.kind

    @property
    def pid(self) -> int:
        """Of the process above all trials, as the host numbers it."""
        return self._warden.pid

    def run(
        self,
        code: str | Sequence[str],
        inputs: Mapping[str, Any] | None = None,
        limits: Limits = DEFAULT,
        *,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run one trial to its end.

        code     Python that defines main(inputs: dict) -> dict, or the words of a command
        inputs   JSON values, numpy arrays and torch tensors by name
        raises   SandboxError for a refusal or a broken sandbox; nothing that the code does
        """
        kind = "python" if isinstance(code, str) else "command"
        with self._flight(kind, _job(code, inputs or {}, env or {}), limits) as flight:
            if not flight.wait(time.monotonic() + limits.wall_s + LATE_S):
                flight.stop(Ended.WALL)
            return _outcome(flight, flight.outcome())

    def session(
        self,
        code: str,
        limits: Limits = DEFAULT,
        *,
        env: Mapping[str, str] | None = None,
    ) -> Session:
        """A trial that stays: its code defines serve(request: dict) -> dict."""
        return Session(self._flight("session", _job(code, {}, env or {}), limits))

    def _flight(self, kind: str, job: bytes, limits: Limits) -> Flight:
        with self._lock:
            if not self._warden.alive:
                self._warden.close()
                self._warden = self._open()
            warden = self._warden
        backends.refuse_what_leaks(warden.cage, limits)
        flight = Flight(warden, kind, limits)
        try:
            flight.send(job)
        except BaseException:
            flight.close()
            raise
        return flight

    def close(self) -> None:
        self._warden.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """Made by `Pool.session`. For one thread at a time; `close` (or the end of `with`) ends it."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._outcome: Outcome | None = None
        self._turn = threading.Lock()
        with self._alone():
            # the first frame says that the code is loaded
            self._loaded = self._answer(flight.limits.wall_s)

    @property
    def alive(self) -> bool:
        return self._outcome is None

    def call(
        self,
        request: Json | None = None,
        tensors: Mapping[str, Any] | None = None,
        *,
        deadline_s: float | None = None,
    ) -> tuple[Json, Mapping[str, Array]]:
        """One request to serve(), and its answer; names of request and tensors share one dict.

        deadline_s   None = wall_s of the limits; the session ends where it passes, or where
                     anything else breaks off the wait (Ctrl-C)
        raises       CallError where there is no answer: serve raised (`alive`, call again), or the
                     session has ended (`close` has its outcome)
        """
        self._raise_for(self._loaded)
        if self._flight.foreign:
            self.close()
        if self._outcome:
            raise _ended(self._outcome)
        wait_s = self._flight.limits.wall_s if deadline_s is None else _seconds(deadline_s)
        values = {**(request or {}), **(tensors or {})}
        sent = _encoded("request", lambda: frames.split("call", values))
        with self._alone():
            self._flight.send(sent)
            frame = self._answer(wait_s)
        self._raise_for(frame)
        return frame.value, frame.arrays

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """An answer belongs to one request: who breaks off the wait for it ends the session."""
        if not self._turn.acquire(blocking=False):
            raise InputError(
                "a call of this session is under way. Wanted one thread at a time. "
                "Open a session for each thread."
            )
        try:
            yield
        except BaseException:
            if self._outcome is None:
                self._abandon()
            raise
        finally:
            self._turn.release()

    def _abandon(self) -> None:
        try:
            self._flight.stop(Ended.CLOSED)
        finally:
            self._flight.report = self._flight.report or dict(LOST)
            self._end()

    def _answer(self, deadline_s: float) -> Frame:
        """The next frame; an empty one where the session ended instead."""
        flight = self._flight
        if not flight.wait(time.monotonic() + deadline_s, for_frame=True):
            flight.stop(Ended.WALL)
        frame = flight.take()
        if frame and not flight.reason and well_formed(frame):
            return frame
        if frame:
            flight.stop(Ended.MALFORMED)
        elif not flight.over:
            flight.stop(Ended.CRASHED)
        self._end()
        return Frame("ended")

    def _raise_for(self, frame: Frame) -> None:
        if frame.kind == "ended" and self._outcome:
            raise _ended(self._outcome)
        if frame.kind == "failed":
            said = printable(frame.value["message"])
            loaded = frame is not self._loaded
            what = "serve raised" if loaded else "the code of the session could not be loaded:"
            raise CallError(
                f"{what} {said}. Wanted an answer. Its traceback is in stderr of close().",
                said=said,
                ended=Ended(frame.value["ended"]),
                alive=loaded,
            )

    def _end(self) -> Outcome:
        try:
            self._outcome = self._flight.outcome()
        finally:
            self._flight.close()
        return _outcome(self._flight, self._outcome)

    def close(self) -> Outcome:
        """End it, with all that it started. Twice is once."""
        if self._outcome is None:
            with self._alone():
                self._flight.finish()
                return self._end()
        return self._outcome

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    code: str | Sequence[str],
    inputs: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT,
    *,
    readable: backends.Readable = (),
    env: Mapping[str, str] | None = None,
    unsafe: bool = False,
    pool: Pool | None = None,
) -> Outcome:
    """Run code that nobody trusts, behind the best walls there are; see Pool.run.

    readable   files and folders it may read, beside Python, its packages and the system's programs
    unsafe     no walls: limits and the end of all its processes are all that is left
    pool       a warm one; it has its own `readable` and walls
    """
    if pool is not None:
        if readable or unsafe:
            raise InputError("readable and unsafe belong to the pool. Give them to Pool(...).")
        return pool.run(code, inputs, limits, env=env)
    with Pool(readable=readable, unsafe=unsafe) as own:
        return own.run(code, inputs, limits, env=env)


def _job(code: str | Sequence[str], inputs: Mapping[str, Any], env: Mapping[str, str]) -> bytes:
    for name, value in env.items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not (texts and name and "=" not in name and "\0" not in name + value):
            raise InputError(
                f"env={{{name!r}: {value!r}}}. Wanted a name and its value, both text."
            )

    def frame() -> Frame:
        parted = frames.split("job", inputs)
        what = {"code": code} if isinstance(code, str) else {"command": [*map(os.fspath, code)]}
        value = {**what, "env": dict(env), "inputs": parted.value}
        return Frame("job", value, parted.arrays, parted.torch)

    return _encoded("inputs", frame)


def _encoded(what: str, make: Callable[[], Frame]) -> bytes:
    """Raises InputError: json, numpy, torch and safetensors each have errors of their own."""
    try:
        return frames.encode(make())
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"the {what} cannot be sent: {type(error).__name__}: {error}. "
            f"Wanted JSON values, numpy arrays, tensors."
        ) from error


def _seconds(deadline_s: float) -> float:
    if not 0 < deadline_s <= MAX_S:  # NaN is neither
        raise InputError(f"deadline_s={deadline_s!r}. Wanted seconds, above 0 and up to {MAX_S}.")
    return deadline_s


def _outcome(flight: Flight, outcome: Outcome) -> Outcome:
    if flight.report and "broken" in flight.report:
        raise SandboxError(
            f"{flight.warden.cage.kind} worked before and could not start this trial: "
            f"{flight.report['broken']}. Wanted walls around it. See `mendel doctor`."
        )
    return outcome


def _ended(outcome: Outcome) -> CallError:
    last = printable(" ".join(outcome.stderr.strip().splitlines()[-1:]))
    said = f"the session has ended: {outcome.ended}. {last}".strip()
    return CallError(
        f"{said} Wanted an answer. Open another.",
        said=said,
        ended=outcome.ended,
        alive=False,
    )

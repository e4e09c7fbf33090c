"""Inside all walls: runs the code that nobody trusts, and says what came of it."""

from __future__ import annotations

import errno
import linecache
import os
import socket
import sys
import traceback
from collections.abc import Callable
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import CodeType
from typing import Any, NoReturn

from mendel.sandbox import confine, frames
from mendel.sandbox.cage import SCRATCH, UNSAFE, Cage
from mendel.sandbox.frames import Frame
from mendel.sandbox.limits import Ended, Limits
from mendel.types import is_out_of_memory

FILE = "<trial>"
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def run(kind: str, data: int, cage: Cage, limits: Limits) -> NoReturn:
    """Read the job, do it, leave. The first frame is the job, whatever the kind.

    kind   python (main once), session (serve until the host closes) or command
    """
    with socket.socket(fileno=data) as host:
        job = frames.receive(host, 1 << 40)
        env = confine.environment(cage, limits, job.value["env"])
        os.environ.clear()
        os.environ.update(env)
        os.chdir(SCRATCH if limits.scratch_bytes and cage.kind != UNSAFE else cage.home)
        if kind == "command":
            _execute(job.value["command"])
        threads(limits.threads)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        code = _python(kind, host, job, limits)
    flush()
    os._exit(code)


def threads(n: int) -> None:
    """torch read its variable before the fork, when it was 1."""
    if n != 1 and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def _execute(command: list[str]) -> NoReturn:
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 (behind all walls)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _python(kind: str, host: socket.socket, job: Frame, limits: Limits) -> int:
    name = "serve" if kind == "session" else "main"
    inputs = frames.join(Frame("inputs", job.value["inputs"], job.arrays, job.torch))
    try:
        function = load(job.value["code"], name)
    except Exception as error:
        return _fail(host, error)
    if kind == "session":
        return _serve(host, function, limits)
    return _answer(host, function, inputs)


class Source(InspectLoader):
    """A module from text; tracebacks and `inspect` know its lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        linecache.cache[FILE] = (len(text), None, text.splitlines(keepends=True), FILE)

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.text, FILE)


def load(code: str, name: str) -> Callable[[dict[str, Any]], Any]:
    """Run the code as a module called trial; its function of that name."""
    source = Source(code)
    module = module_from_spec(ModuleSpec("trial", source, origin=FILE))
    sys.modules["trial"] = module
    source.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise TypeError(f"the code defines no {name}(dict) -> dict")
    return function  # type: ignore[no-any-return]


def _answer(
    host: socket.socket, function: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]
) -> int:
    try:
        value = function(inputs)
        if not isinstance(value, dict):
            raise TypeError(f"{function.__name__} returned {type(value).__name__}. Wanted a dict.")
        answer = frames.encode(frames.split("result", value, exact=False))
    except Exception as error:
        return _fail(host, error)
    host.sendall(answer)
    return 0


def _serve(host: socket.socket, serve: Callable[[dict[str, Any]], Any], limits: Limits) -> int:
    frames.send(host, [Frame("result")])  # the code is loaded
    while True:
        try:
            call = frames.receive(host, 1 << 40)
        except EOFError:
            return 0
        _answer(host, serve, frames.join(call))


def _fail(host: socket.socket, error: Exception) -> int:
    """The traceback on stderr, without our own lines; the kind of mistake to the host."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != FILE:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
    text = "".join(lines)[-20_000:]
    sys.stderr.write(text)
    flush()
    ended = Ended.EXCEPTION
    if is_out_of_memory(error):
        ended = Ended.MEMORY
    elif isinstance(error, OSError) and error.errno in FULL:
        ended = Ended.DISK
    said = f"{type(error).__name__}: {error}"[:2000].encode("utf-8", "replace").decode("utf-8")
    frames.send(host, [Frame("failed", {"ended": ended, "message": said})])
    return 1


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed by the trial, or full: nobody is left to tell
            continue

"""Which walls can be had here, best first, and why the others cannot."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mendel.sandbox import bubblewrap, landlock, linux, seccomp
from mendel.sandbox.cage import (
    BUBBLEWRAP,
    LANDLOCK,
    UNSAFE,
    Cage,
    others_can_read,
    python_path,
    seen,
)
from mendel.sandbox.flight import Flight
from mendel.sandbox.frames import Frame, encode
from mendel.sandbox.limits import Limits, SandboxError
from mendel.sandbox.wardens import PassingError, PreloadError, Warden

SETUID, SYS_ADMIN = 7, 21  # capabilities
GET_ONE = (
    "Install bubblewrap (the package is called bubblewrap on Debian, Fedora, Arch and Alpine), "
    "or use Linux 6.2 or newer with Landlock; on macOS and Windows, Linux in a virtual machine or "
    "a container. unsafe=True runs the code without any walls: only for code that you trust."
)
# a module that nobody has imported yet: the trial must be able to read Python's own files
PROBE_CODE = "import colorsys\ndef main(inputs): return {}"
PROBE = Frame("job", {"code": PROBE_CODE, "env": {}, "inputs": {}})
PROBE_S = 20.0
Readable = Sequence[str | os.PathLike[str]]
PASSING = tuple(
    os.strerror(n) for n in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EINTR)
)
_proven: dict[tuple[str, bool, bool], str] = {}  # (kind, namespace, user) -> "" or why it failed


@dataclass(frozen=True)
class Backend:
    """What runs untrusted code here; `reasons` says of each other kind why it does not."""

    name: str | None
    reasons: dict[str, str]

    def __str__(self) -> str:
        others = "; ".join(f"{kind}: {why}" for kind, why in self.reasons.items())
        return f"{self.name or 'none'}{f' ({others})' if others else ''}"


def backend() -> Backend:
    """Try each kind on a trial that does nothing (0.2 s each, once per process)."""
    reasons: dict[str, str] = {}
    works: list[str] = []
    for kind in (BUBBLEWRAP, LANDLOCK):
        try:
            open_warden((), (), kind).close()
            works.append(kind)
        except SandboxError as error:
            reasons[kind] = str(error)
    return Backend(works[0] if works else None, reasons)


def open_warden(preload: Sequence[str], readable: Readable, wanted: str | None) -> Warden:
    """The first that works, proven by a trial of the kind of its walls.

    wanted   one kind and no other; None = the best
    raises   SandboxError with the reason for each, and how to get one
    """
    reasons: dict[str, str] = {}
    for cage in _candidates(readable, wanted, reasons):
        key = (cage.kind, cage.user_namespace, cage.new_uid)
        reasons[cage.kind] = _proven.get(key, "")
        if reasons[cage.kind]:
            continue
        try:
            return _proved(Warden(cage, preload), key)
        except PreloadError:
            raise
        except (SandboxError, OSError) as error:
            reasons[cage.kind] = str(error)
            if not _passing(error):
                _proven[key] = str(error)
    if wanted and len(reasons) == 1:
        raise SandboxError(reasons[wanted])
    said = "; ".join(f"{kind}: {why}" for kind, why in reasons.items())
    raise SandboxError(f"no sandbox works here ({said}). Wanted one of them. {GET_ONE}")


def _passing(error: Exception) -> bool:
    """It says nothing of the walls: too slow, or too many files, processes or pages just now."""
    return isinstance(error, PassingError) or any(why in str(error) for why in PASSING)


def _proved(warden: Warden, key: tuple[str, bool, bool]) -> Warden:
    try:
        if key not in _proven:
            _prove(warden)
    except BaseException:
        warden.close()
        raise
    _proven[key] = ""
    return warden


def _prove(warden: Warden) -> None:
    with Flight(warden, "python", Limits(wall_s=PROBE_S)) as flight:
        flight.send(encode(PROBE))
        flight.wait(time.monotonic() + PROBE_S)
        report = flight.report or {}
        found = flight.outcome() if flight.report else None
    if not report:
        raise PassingError(f"a first trial did not end within {PROBE_S:.0f} s")
    if "broken" in report or found is None or not found.ok:
        why = report.get("broken") or (found and (found.stderr.strip() or found.ended))
        raise SandboxError(f"a first trial failed: {why}")


def _candidates(readable: Readable, wanted: str | None, reasons: dict[str, str]) -> Iterator[Cage]:
    for kind in (BUBBLEWRAP, LANDLOCK) if wanted is None else (wanted,):
        if why := why_not(kind):
            reasons[kind] = why
        else:
            yield from cages(kind, readable)


def why_not(kind: str) -> str | None:
    """What can be known without trying."""
    if kind == UNSAFE:
        return None
    if sys.platform != "linux":
        return f"wants Linux, got {sys.platform}"
    if os.uname().machine not in seccomp.ARCHITECTURES:
        return f"has no table of system calls for {os.uname().machine}"
    if kind == BUBBLEWRAP:
        return None if bubblewrap.find() else "bwrap is not on the PATH"
    if kind != LANDLOCK:
        raise SandboxError(f"backend={kind!r}. Wanted {BUBBLEWRAP}, {LANDLOCK} or None = the best.")
    found = landlock.abi()
    if found < landlock.LEAST_ABI:
        return f"this kernel's Landlock has version {found}, wanted {landlock.LEAST_ABI} or newer"
    return None


def cages(kind: str, readable: Readable) -> list[Cage]:
    """The ways to build one kind, the stronger first."""
    path = python_path()
    if kind == UNSAFE:
        return [Cage(UNSAFE, python_path=path)]
    paths = tuple(seen(readable))
    if kind == LANDLOCK:
        alone = _has(SETUID) and others_can_read(paths) is None
        return [Cage(LANDLOCK, new_uid=alone, seen=paths, abi=landlock.abi(), python_path=path)]
    nested = Cage(BUBBLEWRAP, user_namespace=True, seen=paths, python_path=path)
    if not (_has(SYS_ADMIN) and _has(SETUID)):
        return [nested]
    _readable_by_others(readable)
    return [Cage(BUBBLEWRAP, new_uid=True, seen=paths, python_path=path), nested]


def _has(capability: int) -> bool:
    return os.geteuid() == 0 and bool(linux.effective_capabilities() >> capability & 1)


def _readable_by_others(readable: Readable) -> None:
    """Root's trials run as a user of their own: what root alone may read, they cannot."""
    for path in readable:
        mode = os.stat(path).st_mode
        wanted = 0o5 if os.path.isdir(path) else 0o4
        if mode & wanted != wanted:
            raise SandboxError(
                f"readable={str(path)!r} is closed to others (mode {mode & 0o777:o}), and code "
                f"that root runs in the sandbox is another user. Do: chmod o+rX {path}"
            )


def refuse_what_leaks(cage: Cage, limits: Limits) -> None:
    """Ask of walls only what they can hold. Raises SandboxError naming the class and the remedy."""
    if cage.kind != LANDLOCK:
        return
    what = None
    if limits.scratch_bytes > 0:
        what = f"scratch_bytes={limits.scratch_bytes}: Landlock has no disk quota"
    elif limits.processes > 1 and not cage.new_uid and os.geteuid() == 0:
        what = (
            f"processes={limits.processes}: the kernel does not count root's processes, and no "
            f"other user can read this Python"
        )
    elif limits.processes > 1 and cage.abi < landlock.SCOPED_ABI:
        what = (
            f"processes={limits.processes}: Landlock {cage.abi} does not keep signals inside; "
            f"version {landlock.SCOPED_ABI} (Linux 6.12) does"
        )
    if what:
        raise SandboxError(
            f"landlock cannot contain {what}. Wanted scratch_bytes=0, processes=1. Install "
            f"bubblewrap, which can; unsafe=True runs it without walls."
        )

"""The few system calls that Python has no name for, by ctypes. They raise OSError."""

from __future__ import annotations

import ctypes
import functools
import os
import struct

# sched.h
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
# mount.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
# prctl.h
PDEATHSIG, DUMPABLE, SECCOMP, CAPBSET_DROP, SECUREBITS = 1, 4, 22, 24, 28
CHILD_SUBREAPER, NO_NEW_PRIVS, CAP_AMBIENT = 36, 38, 47
CAP_AMBIENT_CLEAR_ALL = 4
# no capability by being uid 0, none kept over setuid, none ambient; all of it locked
LOCKED_BITS = 0b11101111
LAST_CAP = 40
CAPSET = {"x86_64": 126, "aarch64": 91}


@functools.cache
def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def checked(name: str, value: int) -> int:
    if value < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return value


def prctl(option: int, *values: int) -> int:
    padded = [ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]
    return checked(f"prctl({option})", libc().prctl(option, *padded))


def unshare(flags: int) -> None:
    checked(f"unshare({flags:#x})", libc().unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    done = libc().mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    checked(f"mount {kind} at {target}", done)


def syscall(number: int, *values: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    whole = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
    return checked(f"syscall {number}", libc().syscall(ctypes.c_long(number), *whole))


def lock_capabilities() -> None:
    """No exec and no change of user gives a capability any more."""
    for cap in range(LAST_CAP + 1):
        try:
            prctl(CAPBSET_DROP, cap)
        except OSError:  # unknown to an old kernel, or not ours to drop; no_new_privs covers that
            break
    try:
        prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL)
        prctl(SECUREBITS, LOCKED_BITS)
    except OSError:  # as above
        pass


def drop_capabilities() -> None:
    empty = struct.pack("<6I", 0, 0, 0, 0, 0, 0)
    header = struct.pack("<Ii", 0x20080522, 0)
    syscall(CAPSET[os.uname().machine], header, empty)


def effective_capabilities() -> int:
    """The mask of our own, from /proc; 0 where that is not readable."""
    try:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("CapEff"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1], 16)

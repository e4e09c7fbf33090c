"""Landlock: a process gives up all files but those named, TCP, and signals to others, for good.

source   docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from mendel.sandbox import linux

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
READING = EXECUTE | READ_FILE | READ_DIR
LEAST_ABI = 3  # Linux 6.2; before, truncate(2) empties files that no rule allows to write
SCOPED_ABI = 6  # Linux 6.12: signals and abstract sockets stay inside


def abi() -> int:
    """The version that this kernel speaks; 0 = none."""
    try:
        return linux.syscall(CREATE_RULESET, None, 0, 1)
    except (OSError, AttributeError):
        return 0


def handled(version: int) -> tuple[int, int, int]:
    """Every right on files, on the network and across processes that a version can take away."""
    files = (1 << 13) - 1
    files |= 1 << 13 if version >= 2 else 0  # REFER
    files |= TRUNCATE if version >= 3 else 0
    files |= 1 << 15 if version >= 5 else 0  # IOCTL_DEV
    return files, 0b11 if version >= 4 else 0, 0b11 if version >= SCOPED_ABI else 0


def restrict(readable: Iterable[str], writable: Iterable[str], version: int) -> None:
    """Read and execute below `readable`, write to the files (devices) `writable`: no more.

    A path that is not there is passed over. Wants no_new_privs.
    """
    files, net, scope = handled(version)
    size = 8 if version < 4 else 16 if version < SCOPED_ABI else 24
    attributes = struct.pack("<QQQ", files, net, scope)[:size]
    ruleset = linux.syscall(CREATE_RULESET, attributes, size, 0)
    try:
        for path in readable:
            _allow(ruleset, path, READING & files)
        for path in writable:
            _allow(ruleset, path, (READ_FILE | WRITE_FILE) & files)
        linux.syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= ON_FILES
        linux.syscall(ADD_RULE, ruleset, 1, struct.pack("<Qi", rights, fd), 0)
    finally:
        os.close(fd)

"""Where a server listens, and how many may come."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from mendel.types import InputError

FILES = 65_536  # that may be open, where the machine lets us: a connection is one
BACKLOG = 2_048


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds its address; raises InputError where that cannot be had.

    Held so that a second server hears of it now, and not when both have started: an address that
    may be used again can be bound by many until one listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: only then does asyncio send each token at once, not after the last one's receipt
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # by a server that has ended, whose connections linger: then it may be used again
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _no_address(host, port, error) from None
    return sock


def listen(sock: socket.socket) -> None:
    """Let callers in; raises InputError where another server was quicker."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for who comes after us
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        host, port = sock.getsockname()[:2]
        raise _no_address(host, port, error) from None


def _no_address(host: str, port: int, error: OSError) -> InputError:
    return InputError(
        f"cannot listen to {host}:{port}: {error.strerror}. Wanted an address of this machine "
        "and a free port. Say another --port; 0 takes a free one."
    )


def more_files() -> None:
    """A connection is an open file, and 1,024 of them is what most systems begin with."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

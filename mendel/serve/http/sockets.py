"""Where a server listens, and how many may come."""

from __future__ import annotations

import socket
from contextlib import suppress

from mendel.types import InputError

FILES = 65_536  # that may be open, where the machine lets us: a connection is one
BACKLOG = 2_048


def listen(host: str, port: int) -> socket.socket:
    """A socket; raises InputError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: only then does asyncio send each token at once, not after the last one's receipt
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise InputError(
            f"cannot listen to {host}:{port}: {error.strerror}. Wanted an address of this machine "
            "and a free port. Say another --port; 0 takes a free one."
        ) from None
    return sock


def more_files() -> None:
    """A connection is an open file, and 1,024 of them is what most systems begin with."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

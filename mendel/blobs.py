"""Blobs by content hash: written beside their place, then renamed into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.types import Digest, InputError, LedgerError


class Blobs:
    """A folder of files named by the sha256 of what they hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def owner(self, claimant: str) -> str:
        """The id of the ledger whose blobs these are: the first that claimed an unowned folder."""
        file = self.folder / "OWNER"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, claimant.encode())
        return file.read_text()

    def path(self, digest: Digest) -> Path:
        return self.folder / digest[:2] / digest[2:]

    def put(self, data: bytes) -> Digest:
        """Store the bytes; the same bytes twice are one file.

        raises   OSError when the disk is full; then no half-written blob stays behind
        """
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        if target.exists():
            os.utime(target)  # fresh again, so that a gc beside us leaves it
            return digest
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
        return digest

    def get(self, digest: Digest) -> bytes:
        """The bytes; raises LedgerError when they are gone or are not what their name says."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise LedgerError(
                f"blob {digest[:12]} is not in {self.folder}. Wanted a file that no gc removed. "
                "Run the trial again to rebuild it."
            ) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError(f"blob {digest[:12]} is damaged. Delete it and run its trial again.")
        return data

    def __iter__(self) -> Iterator[Digest]:
        for file in sorted(self.folder.glob("??/*")):
            if len(file.name) == 62:  # not a half-written temporary
                yield file.parent.name + file.name

    def age_s(self, digest: Digest) -> float:
        return time.time() - self.path(digest).stat().st_mtime

    def remove(self, digest: Digest) -> int:
        """Delete one blob; returns the bytes it held."""
        file = self.path(digest)
        size = file.stat().st_size
        file.unlink()
        return size


def write_atomically(target: Path, data: bytes) -> None:
    """All of the data under its name, or nothing: also when the process dies midway."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def locked(file: Path, taken: str) -> Iterator[None]:
    """One process at a time; raises InputError with `taken` where another one holds the file."""
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(taken) from None
        yield

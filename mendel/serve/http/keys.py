"""Who may ask: keys of a file, and whose they are."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from pathlib import Path

from mendel.types import InputError

MIN_KEY = 16  # characters
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Keys:
    """Keys and their tenants; only hashes are kept."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._hashes = {_hash(key): tenant for key, tenant in keys.items()}

    def tenant(self, authorization: bytes) -> str | None:
        """Whose key a header carries; as many comparisons whichever it is."""
        scheme, _, given = authorization.partition(b" ")
        wanted = hashlib.sha256(given.strip()).digest()
        found = None
        for known, tenant in self._hashes.items():
            if hmac.compare_digest(known, wanted):
                found = tenant
        return found if scheme.lower() == b"bearer" else None


def first_key(file: Path) -> str:
    """A key of a file, for who asks a server; raises InputError where there is none."""
    for _, words in _lines(file):
        return words[-1]
    raise InputError(f"the key file {file} holds no key. Wanted one on a line of its own.")


def read_keys(file: Path | None, host: str) -> Keys | None:
    """The keys of a file: a line each, `KEY` or `TENANT KEY`; a line may begin with #.

    returns  None on loopback without a file: everybody on this machine may ask
    raises   InputError where one is needed, or does not serve; no key is ever shown
    """
    if file is None:
        if is_loopback(host):
            return None
        raise InputError(
            f"--host {host} listens to other machines, and there is no key. Wanted "
            f"--api-key-file FILE with a key of {MIN_KEY} characters or more."
        )
    return Keys(_read(file))


def _read(file: Path) -> dict[str, str]:
    """Tenants by key."""
    keys: dict[str, str] = {}
    for number, words in _lines(file):
        if len(words) > 2 or len(words[-1]) < MIN_KEY or words[-1] in keys:
            raise InputError(
                f"--api-key-file {file}, line {number}: got {len(words)} words, the last of "
                f"{len(words[-1])} characters. Wanted KEY or TENANT KEY, the key once, with "
                f"{MIN_KEY} characters or more."
            )
        keys[words[-1]] = words[0] if len(words) == 2 else f"key-{number}"
    if not keys:
        raise InputError(f"--api-key-file {file} holds no key. Wanted one on a line of its own.")
    return keys


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Number and words of each line that says something; raises InputError."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII"
        raise InputError(f"the key file {file} cannot be read: {why}. Give another file.") from None
    found = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, words) for number, words in found if words and words[0][0] != "#"]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

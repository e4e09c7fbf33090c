"""Prefixes that were computed before: hashes of blocks of tokens -> a text that begins so.

A hash covers all tokens up to its block's end and the tenant, under a secret of this process:
tenants share nothing, and nobody can make two prefixes meet.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np

from mendel.serve.protocols import Text

BLOCK = 32  # tokens under one hash


class Chain:
    """The hashes of one text's blocks; grows with it."""

    def __init__(self, tenant: str, secret: bytes) -> None:
        self.hashes: list[bytes] = []
        self._first = blake2b(tenant.encode(), key=secret, digest_size=16).digest()

    def grow(self, ids: Sequence[int]) -> None:
        """ids are all of the text's tokens, so far."""
        for i in range(len(self.hashes), len(ids) // BLOCK):
            before = self.hashes[-1] if i else self._first
            block = np.asarray(ids[i * BLOCK : (i + 1) * BLOCK], np.int64).tobytes()
            self.hashes.append(blake2b(block, key=before, digest_size=16).digest())


class Entry:
    """A text that ends with a block; a wanted prefix of it is had by a fork and a cut."""

    def __init__(self, hashes: tuple[bytes, ...], text: Text, wasted_s: float) -> None:
        self.hashes, self.text = hashes, text
        self.wasted_s = wasted_s  # spent on it ahead of any request, until one asks for it


class PrefixCache:
    """The least recently used go first.

    cuts      texts can be cut anywhere, so one text serves all its prefixes; else each prefix
              needs a text that was forked there. Found out to be false where a cut fails
    capacity  bytes; 0 keeps nothing
    """

    def __init__(self, capacity: int, *, cuts: bool) -> None:
        self.capacity, self.cuts = capacity, cuts
        self.n_hits = self.n_hit_tokens = self.n_evicted = 0
        self.wasted_s = 0.0  # of all that was warmed and never asked for, evicted included
        self._secret = secrets.token_bytes(32)
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._holders: dict[bytes, list[Entry]] = {}  # by hash, those that can give the prefix

    def __len__(self) -> int:
        return len(self._entries)

    def chain(self, tenant: str) -> Chain:
        return Chain(tenant, self._secret)

    def n_known(self, chain: Chain, most: int) -> int:
        """Tokens of the longest prefix there is, of at most so many."""
        n = self._depth(chain, most)
        return n * BLOCK

    def take(self, chain: Chain, most: int) -> tuple[Text, int] | None:
        """A fork with the longest known prefix, and its length."""
        while n := self._depth(chain, most):
            entry = self._holders[chain.hashes[n - 1]][-1]
            text = entry.text.fork()
            try:
                text.cut(n * BLOCK)
            except ValueError:  # this one knows only its whole; so will the others
                text.free()
                self._stop_cutting()
                continue
            self._entries.move_to_end(id(entry))
            self.wasted_s -= entry.wasted_s
            entry.wasted_s = 0.0
            self.n_hits, self.n_hit_tokens = self.n_hits + 1, self.n_hit_tokens + n * BLOCK
            return text, n * BLOCK
        return None

    def put(self, chain: Chain, text: Text, *, wasted_s: float = 0.0) -> int:
        """Take over a text; it is freed where it adds nothing. Returns the tokens kept of it."""
        n = min(text.n // BLOCK, len(chain.hashes))
        exact = n * BLOCK == text.n
        hashes = tuple(chain.hashes[:n])
        known = bool(n) and hashes[-1] in self._holders
        self.wasted_s += wasted_s
        if not n or not self.capacity or known or not (exact or self.cuts):
            if known:
                self._entries.move_to_end(id(self._holders[hashes[-1]][-1]))
            text.free()
            return n * BLOCK if known else 0
        try:
            text.cut(n * BLOCK)
        except ValueError:
            text.free()
            self._stop_cutting()
            return 0
        entry = Entry(hashes, text, wasted_s)
        if self.cuts:
            entry.wasted_s += self._drop_shorter(hashes)
        self._entries[id(entry)] = entry
        for hash in hashes if self.cuts else hashes[-1:]:
            self._holders.setdefault(hash, []).append(entry)
        return n * BLOCK

    def evict(self, n: int = 1) -> bool:
        """Let the n least recently used go; False where there is none."""
        found = list(islice(self._entries.values(), n))
        for entry in found:
            self._drop(entry)
        self.n_evicted += len(found)
        return bool(found)

    def trim(self, n_bytes: Callable[[], int]) -> None:
        """Evict until what the cache holds, as n_bytes tells, is within its capacity."""
        while self._entries and n_bytes() > self.capacity:
            self.evict(1 + len(self._entries) // 16)

    def clear(self) -> None:
        self.evict(len(self._entries))

    def _depth(self, chain: Chain, most: int) -> int:
        """Blocks of the longest known prefix."""
        n = min(most // BLOCK, len(chain.hashes))
        hashes = chain.hashes
        if self.cuts:  # whoever holds a prefix holds those before it
            return next((i for i, hash in enumerate(hashes[:n]) if hash not in self._holders), n)
        return next((i for i in range(n, 0, -1) if hashes[i - 1] in self._holders), 0)

    def _drop_shorter(self, hashes: tuple[bytes, ...]) -> float:
        """Texts that a longer one begins with say nothing that it does not; returns their waste."""
        found = [
            entry
            for i, hash in enumerate(hashes)
            for entry in self._holders.get(hash, ())
            if len(entry.hashes) == i + 1
        ]
        wasted_s = sum(entry.wasted_s for entry in found)
        for entry in found:
            self._drop(entry)
        return wasted_s

    def _drop(self, entry: Entry) -> None:
        del self._entries[id(entry)]
        for hash in entry.hashes:
            holders = self._holders.get(hash, [])
            if entry in holders:
                holders.remove(entry)
            if not holders:
                self._holders.pop(hash, None)
        entry.text.free()

    def _stop_cutting(self) -> None:
        """From now on an entry gives its whole, and no other prefix."""
        self.cuts = False
        self._holders = {}
        for entry in self._entries.values():
            self._holders.setdefault(entry.hashes[-1], []).append(entry)

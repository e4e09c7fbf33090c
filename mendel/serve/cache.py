"""Prefixes that were computed before: hashes of blocks of tokens -> a text that begins so.

A hash covers all tokens up to its block's end and the tenant, under a secret of this process:
tenants share nothing, and nobody can make two prefixes meet. Behind the last block that is known,
the tokens themselves are compared, where texts can be cut anywhere.
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
LEAST = 8  # tokens that are worth a fork, where not one block is known
LOOKS = 16  # texts, the newest of those with the same blocks, whose tokens are compared


class Chain:
    """The hashes of one text's blocks, and its tokens; grows with it."""

    def __init__(self, tenant: str, secret: bytes) -> None:
        self.hashes: list[bytes] = []
        self.ids: Sequence[int] = ()
        self.first = blake2b(tenant.encode(), key=secret, digest_size=16).digest()

    def grow(self, ids: Sequence[int]) -> None:
        """ids are all of the text's tokens, so far."""
        self.ids = ids
        for i in range(len(self.hashes), len(ids) // BLOCK):
            before = self.hashes[-1] if i else self.first
            block = np.asarray(ids[i * BLOCK : (i + 1) * BLOCK], np.int64).tobytes()
            self.hashes.append(blake2b(block, key=before, digest_size=16).digest())

    def places(self, n: int) -> tuple[bytes, ...]:
        """Where the text begins, and the ends of its first n blocks."""
        return (self.first, *self.hashes[:n])


class Entry:
    """A text; a wanted prefix of it is had by a fork and a cut."""

    def __init__(
        self, hashes: tuple[bytes, ...], ids: tuple[int, ...], text: Text, wasted_s: float,
        warmed_from: int,
    ) -> None:  # fmt: skip
        self.hashes, self.ids, self.text = hashes, ids, text
        # spent on its tokens from there on, ahead of any request, until one asks for them
        self.wasted_s, self.warmed_from = wasted_s, warmed_from

    def use(self, n: int) -> float:
        """Its first n tokens are asked for; returns how much less is wasted."""
        if n <= self.warmed_from or not self.wasted_s:
            return 0.0
        last = len(self.ids) - 1  # a request of these very tokens computes its last anew
        share = 1.0 if n >= last else (n - self.warmed_from) / (last - self.warmed_from)
        used_s = share * self.wasted_s
        self.wasted_s, self.warmed_from = self.wasted_s - used_s, n
        return used_s

    def agrees(self, ids: Sequence[int], begin: int) -> int:
        """How many of the ids from `begin` on are its own, until the first that is not."""
        n = 0
        for mine, its in zip(self.ids[begin : begin + len(ids)], ids, strict=False):
            if mine != its:
                break
            n += 1
        return n


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
        # by hash, those that can give the prefix, and those whose last whole block ends there
        self._holders: dict[bytes, dict[int, Entry]] = {}
        self._ends: dict[bytes, dict[int, Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def chain(self, tenant: str) -> Chain:
        return Chain(tenant, self._secret)

    def knows(self, hash: bytes) -> bool:
        return hash in self._holders

    def n_known(self, chain: Chain, most: int) -> int:
        """Tokens of the longest prefix there is, of at most so many."""
        return self._found(chain, most)[1]

    def take(self, chain: Chain, most: int, *, asked: bool = True) -> tuple[Text, int] | None:
        """A fork with the longest known prefix, and its length.

        asked   by a request: what was warmed for it, as far as it takes it, was not in vain
        """
        while True:
            entry, n = self._found(chain, most)
            if entry is None:
                return None
            text = entry.text.fork()
            try:
                text.cut(n)
            except ValueError:  # this one knows only its whole; so will the others
                text.free()
                self._stop_cutting()
                continue
            self._entries.move_to_end(id(entry))
            if asked:
                self.wasted_s -= entry.use(n)
            self.n_hits, self.n_hit_tokens = self.n_hits + 1, self.n_hit_tokens + n
            return text, n

    def put(self, chain: Chain, text: Text, *, wasted_s: float = 0.0, warmed_from: int = 0) -> int:
        """Take over a text; it is freed where it adds nothing. Returns the tokens kept of it, in
        whole blocks.

        wasted_s   spent on its tokens from `warmed_from` on, which nobody asked for yet
        """
        n = min(text.n // BLOCK, len(chain.hashes))
        self.wasted_s += wasted_s
        hashes, ids = chain.places(n), tuple(chain.ids[: text.n])
        known = self._like(hashes, ids)
        if not self._keeps(n, text) or known is not None:
            if known is not None:
                self._entries.move_to_end(id(known))
            text.free()
            return n * BLOCK if known is not None else 0
        entry = Entry(hashes, ids, text, wasted_s, warmed_from)
        if self.cuts:
            self._drop_shorter(entry)
        self._entries[id(entry)] = entry
        self._ends.setdefault(hashes[-1], {})[id(entry)] = entry
        for hash in hashes if self.cuts else hashes[-1:]:
            self._holders.setdefault(hash, {})[id(entry)] = entry
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

    def _found(self, chain: Chain, most: int) -> tuple[Entry | None, int]:
        """Who has the longest known prefix, and how long that is."""
        most = min(most, len(chain.ids))
        n = self._depth(chain, most)
        holders = _newest(self._holders.get(chain.places(n)[-1]))
        if not self.cuts or not holders:
            return (holders[0], n * BLOCK) if n else (None, 0)
        wanted = chain.ids[n * BLOCK : min(most, (n + 1) * BLOCK)]
        more = [entry.agrees(wanted, n * BLOCK) for entry in holders]
        best = max(range(len(holders)), key=more.__getitem__)  # the newest among equals
        total = n * BLOCK + more[best]
        return (holders[best], total) if total >= LEAST else (None, 0)

    def _keeps(self, n: int, text: Text) -> bool:
        """Whether a text of n blocks is worth its place."""
        if not self.capacity:
            return False
        return text.n >= LEAST if self.cuts else bool(n) and text.n == n * BLOCK

    def _like(self, hashes: tuple[bytes, ...], ids: tuple[int, ...]) -> Entry | None:
        """One that gives all that such a text would."""
        holders = _newest(self._holders.get(hashes[-1]))
        if not self.cuts:
            return holders[0] if holders else None
        begin = (len(hashes) - 1) * BLOCK
        left = ids[begin:]
        return next((each for each in holders if each.agrees(left, begin) == len(left)), None)

    def _depth(self, chain: Chain, most: int) -> int:
        """Blocks of the longest known prefix."""
        n = min(most // BLOCK, len(chain.hashes))
        hashes = chain.hashes
        if self.cuts:  # whoever holds a prefix holds those before it
            return next((i for i, hash in enumerate(hashes[:n]) if hash not in self._holders), n)
        return next((i for i in range(n, 0, -1) if hashes[i - 1] in self._holders), 0)

    def _drop_shorter(self, longer: Entry) -> None:
        """Texts that it begins with say nothing that it does not; their waste becomes its own."""
        found = []
        for i, hash in enumerate(longer.hashes):
            for entry in _newest(self._ends.get(hash)):
                left = entry.ids[i * BLOCK :]
                if longer.agrees(left, i * BLOCK) == len(left):
                    found.append(entry)
        for entry in found:
            self._drop(entry)
            if entry.wasted_s:
                before = longer.warmed_from if longer.wasted_s else entry.warmed_from
                longer.warmed_from = min(before, entry.warmed_from)
                longer.wasted_s += entry.wasted_s

    def _drop(self, entry: Entry) -> None:
        del self._entries[id(entry)]
        _out(self._ends, entry.hashes[-1], entry)
        for hash in entry.hashes:
            _out(self._holders, hash, entry)
        entry.text.free()

    def _stop_cutting(self) -> None:
        """From now on an entry gives its whole, if it ends with a block, and no other prefix."""
        self.cuts = False
        for entry in list(self._entries.values()):
            if len(entry.ids) != (len(entry.hashes) - 1) * BLOCK or len(entry.hashes) == 1:
                self._drop(entry)
        self._holders = {hash: dict(entries) for hash, entries in self._ends.items()}


def _newest(entries: dict[int, Entry] | None) -> list[Entry]:
    """The last first, so many as are looked at."""
    return list(islice(reversed(entries.values()), LOOKS)) if entries else []


def _out(places: dict[bytes, dict[int, Entry]], hash: bytes, entry: Entry) -> None:
    entries = places.get(hash, {})
    entries.pop(id(entry), None)
    if not entries:
        places.pop(hash, None)

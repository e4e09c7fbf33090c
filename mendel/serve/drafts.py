"""Guesses at the next tokens; what the model would not have said itself is thrown away.

lookup   what followed the last time that the text read as it does now
shallow  the model's own first layers
model    a small model of its own: drafter.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BITS = 21  # of an id: three fill a key
GRAMS = (3, 2)  # lengths of the n-grams that are looked up, the longest first
PATIENCE = 3  # guesses in a row that were wrong from their start, before a rest
REST = 8  # steps without a guess, then; doubled up to LONGEST_REST while they stay wrong
LONGEST_REST = 64


class Lookup:
    """The continuation of the longest suffix that came before; constant work a token."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self._ends: dict[int, dict[int, int]] = {n: {} for n in GRAMS}
        self._at: int | None = None  # where what follows the earlier place begins
        self._index_all()

    def add(self, id: int) -> None:
        """The text goes on."""
        ids = self.ids
        ids.append(id)
        follows = self._at is not None and ids[self._at] == id
        self._at = self._at + 1 if follows and self._at is not None else None
        key, n_ids, found = 0, len(ids), self._at
        keys = {}
        for n in range(1, min(GRAMS[0], n_ids) + 1):
            key = (key << BITS) + ids[n_ids - n]
            keys[n] = key
        for n in GRAMS:
            if n in keys:
                if found is None:
                    found = self._ends[n].get(keys[n])
                self._ends[n][keys[n]] = n_ids
        self._at = found

    def guess(self, n: int) -> list[int]:
        """At most n tokens."""
        if self._at is None:
            return []
        found = self.ids[self._at : self._at + n]
        # behind the end of the text it goes on as it has begun: a text that repeats itself
        while found and len(found) < n:
            found = (found * 2)[:n]
        return found

    def _index_all(self) -> None:
        """As if each had been added, in numpy."""
        ids = np.asarray(self.ids, np.int64)
        last, self.ids = self.ids[-1:], self.ids[:-1]
        for n in GRAMS:
            n_grams = len(ids) - n  # all but the last
            if n_grams <= 0:
                continue
            keys = sum(ids[i : i + n_grams] * (1 << BITS * i) for i in range(n))
            ends = range(n, n + n_grams)
            self._ends[n] = dict(zip(np.asarray(keys).tolist(), ends, strict=True))
        for id in last:
            self.add(id)


class Length:
    """How many tokens are worth guessing, from how the last guesses went."""

    def __init__(self, most: int) -> None:
        self.most, self.now = most, most
        self._wrong = self._pause = 0
        self._rest = REST

    def next(self) -> int:
        """0 while guesses rest."""
        if self._pause:
            self._pause -= 1
            return 0
        return self.now

    def heard(self, n_drafted: int, n_accepted: int) -> None:
        if n_accepted:
            self._wrong, self._pause, self._rest = 0, 0, REST
            whole = n_accepted == n_drafted
            self.now = min(self.most, 2 * n_accepted if whole else n_accepted + 1)
            return
        self.now, self._wrong = max(1, self.now // 2), self._wrong + 1
        if self._wrong >= PATIENCE:
            self._pause, self._rest = self._rest, min(2 * self._rest, LONGEST_REST)
            self._wrong = PATIENCE - 1  # one more try, then

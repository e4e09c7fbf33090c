"""What is held of one text: pages of keys and values, and states after its last tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mendel.serve.numerics.mixing import PAGE
from mendel.serve.numerics.pool import Memory

UNDO = 16  # tokens of the last run that can be forgotten though the model keeps no longer past
GONE = -1  # in place of a page that no later token looks at


class Held:
    """A text in a program's memory; made by Program.text and fork alone."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._n = 0
        self.pages: list[list[int]] = [[] for _ in memory.groups]
        self.table: list[NDArray[np.int64]] = [np.zeros(8, np.int64) for _ in memory.groups]
        self.states: list[tuple[int, int]] = [(0, memory.zero)]  # (tokens, where), the last its own
        self.is_open = True

    @property
    def n(self) -> int:
        return self._n

    def fork(self) -> Held:
        """The same tokens again; pages and the last state are shared."""
        self._check_open()
        twin = Held(self._memory)
        twin._n = self._n
        for group, pages in zip(self._memory.groups, self.pages, strict=True):
            for page in pages:
                if page != GONE:
                    group.pool.hold(page)
        twin.pages = [list(pages) for pages in self.pages]
        twin.table = [table.copy() for table in self.table]
        twin.states = [self.states[-1]]
        self._hold(self.states[-1][1])
        return twin

    def cut(self, n: int) -> None:
        """Forget what is behind the first n tokens.

        raises   ValueError for more than it holds, or less than its pages and states go back to
        """
        self._check_open()
        if not 0 <= n <= self._n:
            raise ValueError(f"a text of {self._n} tokens cannot be cut to {n}")
        if n and not self.goes_back_to(n):
            raise ValueError(
                f"a text of {self._n} tokens keeps no state of its first {n}: this model's can be "
                "cut inside their last run of 16 tokens or fewer. Fork it there before going on."
            )
        for i, group in enumerate(self._memory.groups):
            keep = -(-n // PAGE)
            for page in self.pages[i][keep:]:
                if page != GONE:
                    group.pool.drop(page)
            del self.pages[i][keep:]
        while self.states[-1][0] > n:
            self._drop(self.states.pop()[1])
            if not self.states:
                self.states.append((0, self._memory.zero))
        self._n = n

    def goes_back_to(self, n: int) -> bool:
        for group, pages in zip(self._memory.groups, self.pages, strict=True):
            if group.window is not None:
                first = max(0, n + 1 - group.window) // PAGE
                if GONE in pages[first : -(-n // PAGE)]:
                    return False
        return self._memory.states is None or any(at == n for at, _ in self.states)

    def free(self) -> None:
        if self.is_open:
            self.cut(0)
            self._drop_states(0)
            self.is_open = False

    def forget_states(self) -> None:
        """All but the last."""
        self._drop_states(1)

    @property
    def n_spare(self) -> int:
        """States that forget_states gives back, since no other text holds them."""
        pool = self._memory.states
        if pool is None:
            return 0
        places = [at for _, at in self.states[:-1] if at != self._memory.zero]
        return sum(not pool.is_shared(at) for at in places)

    def forget_pages(self) -> None:
        """Those that no token looks at any more, though the last run were cut."""
        for group, pages in zip(self._memory.groups, self.pages, strict=True):
            if group.window is None:
                continue
            for i in range(max(0, self._n + 1 - UNDO - group.window) // PAGE - 1, -1, -1):
                if pages[i] == GONE:
                    break
                group.pool.drop(pages[i])
                pages[i] = GONE

    def room_for(self, n_new: int) -> list[int]:
        """How many pages of each group it takes to write n_new tokens, copies included."""
        wanted = -(-(self._n + n_new) // PAGE)
        found = []
        for group, pages in zip(self._memory.groups, self.pages, strict=True):
            shared = self._n % PAGE and group.pool.is_shared(pages[-1])
            found.append(wanted - len(pages) + int(bool(shared)))
        return found

    def grow(self, n_new: int) -> None:
        """Pages for n_new tokens; a last page that others hold too is copied first."""
        arena = self._memory.arena
        wanted = -(-(self._n + n_new) // PAGE)
        for i, group in enumerate(self._memory.groups):
            pages = self.pages[i]
            if self._n % PAGE and group.pool.is_shared(pages[-1]):
                old, new = pages[-1], group.pool.take()
                arena[new : new + group.pool.size] = arena[old : old + group.pool.size]
                group.pool.drop(old)
                pages[-1] = self.table[i][len(pages) - 1] = new
            while len(pages) < wanted:
                if len(pages) == len(self.table[i]):
                    self.table[i] = np.concatenate([self.table[i], np.zeros_like(self.table[i])])
                at = group.pool.take()
                self.table[i][len(pages)] = at
                pages.append(at)

    def advance(self, n_new: int) -> None:
        self._n += n_new

    def _hold(self, at: int) -> None:
        if self._memory.states is not None and at != self._memory.zero:
            self._memory.states.hold(at)

    def _drop(self, at: int) -> None:
        if self._memory.states is not None and at != self._memory.zero:
            self._memory.states.drop(at)

    def _drop_states(self, n_kept: int) -> None:
        for _, at in self.states[: len(self.states) - n_kept]:
            self._drop(at)
        self.states = self.states[len(self.states) - n_kept :]

    def _check_open(self) -> None:
        if not self.is_open:
            raise ValueError("this text was freed. Fork it before, to go on with it.")

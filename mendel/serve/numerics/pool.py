"""Memory of texts: blocks of one size from one arena, counted by who holds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mendel.serve.protocols import F32

ALIGNED = 16  # floats: a cache line


class Budget:
    """Bytes that all pools of a program may hold together."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0

    @property
    def free(self) -> int:
        return self.capacity - self.used


class Pool:
    """Blocks of `size` floats, from `base` of the arena on; one more holder costs no memory."""

    def __init__(self, base: int, size: int, budget: Budget) -> None:
        self.base, self.size, self.budget = base, size, budget
        self.n_bytes = 4 * size
        self._holders: list[int] = []
        self._free: list[int] = []

    def take(self) -> int:
        """A block, by where it begins in the arena; what is in it is anything."""
        if self._free:
            i = self._free.pop()
            self._holders[i] = 1
        else:
            i = len(self._holders)
            self._holders.append(1)
        self.budget.used += self.n_bytes
        return self.base + i * self.size

    def hold(self, at: int) -> None:
        self._holders[(at - self.base) // self.size] += 1

    def drop(self, at: int) -> None:
        """The last holder gives it back."""
        i = (at - self.base) // self.size
        self._holders[i] -= 1
        if self._holders[i] == 0:
            self._free.append(i)
            self.budget.used -= self.n_bytes

    def is_shared(self, at: int) -> bool:
        return self._holders[(at - self.base) // self.size] > 1


class Group(NamedTuple):
    """Attention layers that look equally far back: their pages live and die together."""

    window: int | None
    pool: Pool


class Memory:
    """The arena, the pools of pages, and the pool of states where there are any.

    The arena is as large as all pools could get; the machine gives memory to what is touched.
    """

    def __init__(self, pages: dict[int | None, int], state: int, capacity: int) -> None:
        self.budget = Budget(capacity)
        self.zero = 0  # where an empty text's state lies
        at = aligned(state)
        self.groups = []
        for window, size in pages.items():
            self.groups.append(Group(window, Pool(at, aligned(size), self.budget)))
            at += capacity // 4 + aligned(size)
        self.states = Pool(at, aligned(state), self.budget) if state else None
        at += capacity // 4 + aligned(state) if state else 0
        self.arena = empty(max(at, ALIGNED))
        self.arena[: aligned(state)] = 0


def aligned(n: int) -> int:
    return -(-n // ALIGNED) * ALIGNED


def empty(n: int) -> F32:
    """Floats that begin at a cache line."""
    raw = np.empty(n + ALIGNED, np.float32)
    skip = (-raw.ctypes.data // 4) % ALIGNED
    return raw[skip : skip + n]

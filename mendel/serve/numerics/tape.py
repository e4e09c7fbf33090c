"""A model as a tape: operations in order, and all its numbers in two arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mendel.serve.numerics import machine, ops
from mendel.serve.numerics.mixing import PAGE
from mendel.serve.numerics.pool import aligned, empty
from mendel.serve.numerics.vectors import LANES
from mendel.serve.protocols import F32

WIDEST_ROW = 64  # rows of a register begin at multiples of so many floats
NOWHERE = -1


class Register(NamedTuple):
    """Columns of a matrix with a row a token."""

    base: int
    stride: int
    column: int = 0

    def after(self, n: int) -> Register:
        return self._replace(column=self.column + n)


NONE = Register(0, 0)


class Tape:
    """Grows by one operation after the other."""

    def __init__(self, is_half: bool) -> None:
        self.is_half = is_half
        self.operations: list[list[int]] = []
        self.numbers: list[list[float]] = []
        self.row_floats = 0  # of all registers together
        self.state_floats = 0  # that a text leaves behind, however long it is
        self.page_floats: dict[int | None, int] = {}  # by window, of all its layers
        self.turns: list[tuple[int, float]] = []  # (D, base) of rotary tables
        self.room_floats = LANES  # of a thread beside the scores
        self.n_weights = 0  # of all products
        self.widest = 0  # of what goes into a product
        self._registers: dict[tuple[str, int], Register] = {}
        self._full: list[F32] = []
        self._halves: list[NDArray[np.uint16]] = []
        self._n_full = self._n_halves = 0
        self._zeros = 0

    def register(self, name: str, width: int) -> Register:
        """Layers use the same ones in turn."""
        stride = -(-width // WIDEST_ROW) * WIDEST_ROW
        found = self._registers.get((name, stride))
        if found is None:
            found = self._registers[name, stride] = Register(self.row_floats, stride)
            self.row_floats += stride
        return found

    def vector(self, values: Tensor) -> int:
        """Where these numbers lie among the full ones."""
        flat = values.detach().float().flatten().numpy()
        padded = np.zeros(aligned(len(flat)), np.float32)
        padded[: len(flat)] = flat
        self._full.append(padded)
        self._n_full += len(padded)
        return self._n_full - len(padded)

    def halves(self, values: Tensor) -> int:
        """Where these bf16 numbers lie among the halves."""
        flat = values.detach().to(torch.bfloat16).contiguous().view(torch.int16).flatten().numpy()
        padded = np.zeros(-(-len(flat) // 32) * 32, np.uint16)
        padded[: len(flat)] = flat.view(np.uint16)
        self._halves.append(padded)
        self._n_halves += len(padded)
        return self._n_halves - len(padded)

    def table(self, values: Tensor) -> int:
        return self.halves(values) if self.is_half else self.vector(values)

    def state(self, n: int) -> int:
        self.state_floats += aligned(n)
        return self.state_floats - aligned(n)

    def page(self, window: int | None, n: int) -> tuple[int, int]:
        """(group, where in its pages) for n numbers a token of a layer, bf16 ones side by side."""
        at = self.page_floats.get(window, 0)
        self.page_floats[window] = at + aligned(n * PAGE // 2 if self.is_half else n * PAGE)
        return list(self.page_floats).index(window), at

    def turn_table(self, D: int, base: float) -> int:
        """Where in a position's row the angles lie."""
        if (D, base) not in self.turns:
            self.turns.append((D, base))
        i = self.turns.index((D, base))
        return sum(width for width, _ in self.turns[:i])

    def add(
        self,
        code: int,
        ints: Sequence[int] = (),
        *,
        a: Register = NONE,
        b: Register = NONE,
        c: Register = NONE,
        out: Register = NONE,
        number: float = 0.0,
    ) -> None:
        row = [code, *a, *b, *c, *out, *ints]
        self.operations.append(row + [0] * (ops.SIZE - len(row)))
        self.numbers.append([number])

    def multiply(
        self, x: Register, weights: Sequence[Tensor], name: str, bias: Tensor | None = None
    ) -> Register:
        """Matrices (N, K) side by side, all of the same x."""
        whole = torch.cat([w.detach() for w in weights])
        N, K = whole.shape
        panels = -(-N // machine.PANEL)
        padded = torch.zeros(panels * machine.PANEL, K, dtype=whole.dtype)
        padded[:N] = whole
        self.widest = max(self.widest, K)
        self.n_weights += panels * machine.PANEL * K
        if self.is_half and machine.IN_PAIRS:
            pairs = torch.nn.functional.pad(padded, (0, K % 2)).view(panels, machine.PANEL, -1, 2)
            at = self.table(pairs.transpose(1, 2).contiguous())
        else:
            packed = padded.view(panels, machine.PANEL, K).transpose(1, 2).contiguous()
            at = self.table(packed)
        if bias is None:
            self._zeros = max(self._zeros, panels * machine.PANEL)
        else:
            full = torch.zeros(panels * machine.PANEL)
            full[:N] = bias.detach().float()
        offset = NOWHERE if bias is None else self.vector(full)
        out = self.register(name, N)
        self.add(machine.MATMUL, [K, panels, at, offset], a=x, out=out)
        return out

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], F32, NDArray[np.uint16]]:
        """Operations, their numbers, full and half weights; the rows of no bias lie at the end."""
        operations = np.array(self.operations, np.int64)
        zeros = self._n_full
        plain = (operations[:, 0] == machine.MATMUL) & (operations[:, ops.N + 3] == NOWHERE)
        operations[plain, ops.N + 3] = zeros
        full = empty(self._n_full + max(self._zeros, LANES))
        full[zeros:] = 0
        at = 0
        for some in self._full:
            full[at : at + len(some)] = some
            at += len(some)
        self._full.clear()
        raw = empty(max(self._n_halves // 2, LANES)).view(np.uint16)
        if self._halves:
            np.concatenate(self._halves, out=raw[: self._n_halves])
            self._halves.clear()
        return operations, np.array(self.numbers, np.float64), full, raw

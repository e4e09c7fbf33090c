"""What several parts have in common, as operations."""

from __future__ import annotations

from typing import Any

from mendel.serve.numerics import machine, ops
from mendel.serve.numerics.tape import NONE, NOWHERE, Register, Tape


def heads_norm(tape: Tape, x: Register, n: int, n_heads: int, gain: Any, eps: float) -> None:
    ints = [n, n_heads, tape.vector(gain), NOWHERE, ops.RMS]
    tape.add(machine.NORM, ints, a=x, out=x, number=eps)


def activation(
    tape: Tape, code: int, x: Register, n: int, out: Register, by: Register | None = None
) -> None:
    """out = act(x), times another register."""
    tape.add(machine.ACT, [n, code, int(by is not None)], a=x, b=by or NONE, out=out)


def convolution(tape: Tape, x: Register, filters: Any, out: Register) -> None:
    """filters (C, K), the newest last."""
    C, K = filters.shape
    ints = [C, K, tape.vector(filters.detach().t().contiguous()), tape.state(C * (K - 1))]
    tape.add(machine.CONVOLVE, ints, a=x, out=out)

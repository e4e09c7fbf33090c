"""How much memory a text of so many tokens takes: by the program's word, or measured on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mendel.serve.protocols import Piece, PoolFull, Program, Request
from mendel.types import InputError

ENDLESS = 2**40  # tokens
PROBE = 64  # tokens; pages of a program are expected to divide it


@runtime_checkable
class Tells(Protocol):
    """A program that knows, as where layers look back through a window memory grows no more."""

    def bytes_of(self, n: int) -> tuple[int, int]:
        """Of a text of n tokens: at rest, and at most, while it is run token by token."""


@dataclass(frozen=True)
class Footprint:
    """fixed + a_token * n bytes: a recurrent state is fixed, keys and values grow."""

    fixed: float
    a_token: float
    told: Callable[[int], tuple[int, int]] | None = None  # by the program, in place of that

    def of(self, n: int) -> float:
        """At rest."""
        if n <= 0:
            return 0.0
        return self.fixed + self.a_token * n if self.told is None else self.told(n)[0]

    def most(self, n: int) -> float:
        """While it is run."""
        return self.of(n) if self.told is None or n <= 0 else self.told(n)[1]

    def fits(self, capacity: int) -> int:
        """Tokens of the longest text that has room."""
        low, high = 0, 1
        while high < ENDLESS and self.most(high) <= capacity:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.most(middle) <= capacity else (low, middle)
        return low

    def check(self, request: Request, capacity: int) -> None:
        """Raises InputError for a request that would not fit if it were alone."""
        n = len(request.prompt) + request.n_tokens - 1  # the last is given out, and not run
        if self.most(n) > capacity:
            raise InputError(
                f"a prompt of {len(request.prompt)} tokens and {request.n_tokens} to write take "
                f"{self.most(n) / 2**20:.1f} MiB. Wanted at most {capacity / 2**20:.1f} MiB, about "
                f"{self.fits(capacity)} tokens. Shorten the prompt, ask for fewer, or give the "
                "server more memory."
            )


def measured(program: Program) -> Footprint:
    """From two short texts; what a program makes on its first run is made by it, too."""
    most = PROBE if program.context is None else min(PROBE, program.context // 2)
    before = program.n_bytes
    text = program.text()
    try:
        program.run([Piece(text, [0] * max(1, most))])
        first = program.n_bytes - before
        if most < 1:
            return Footprint(0.0, first)
        program.run([Piece(text, [0] * most)])
        second = program.n_bytes - before
    except PoolFull:
        raise InputError(
            f"{program.capacity_bytes} bytes do not hold a text of {2 * most} tokens. Wanted room "
            "for at least one. Give the server more memory."
        ) from None
    finally:
        text.free()
    a_token = (second - first) / most
    told = program.bytes_of if isinstance(program, Tells) else None
    return Footprint(max(0.0, second - 2 * most * a_token), a_token, told)

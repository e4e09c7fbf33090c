"""How much memory a text of so many tokens takes, measured on the program."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.serve.protocols import Piece, PoolFull, Program, Request
from mendel.types import InputError

PROBE = 64  # tokens; pages of a program are expected to divide it


@dataclass(frozen=True)
class Footprint:
    """fixed + a_token * n bytes: a recurrent state is fixed, keys and values grow."""

    fixed: float
    a_token: float

    def of(self, n: int) -> float:
        return self.fixed + self.a_token * n if n > 0 else 0.0

    def check(self, request: Request, capacity: int) -> None:
        """Raises InputError for a request that would not fit if it were alone."""
        n = len(request.prompt) + request.n_tokens - 1  # the last is given out, and not run
        if self.of(n) > capacity:
            fits = max(0, int((capacity - self.fixed) / self.a_token)) if self.a_token else 0
            raise InputError(
                f"a prompt of {len(request.prompt)} tokens and {request.n_tokens} to write take "
                f"{self.of(n) / 2**20:.1f} MiB. Wanted at most {capacity / 2**20:.1f} MiB, about "
                f"{fits} tokens. Shorten the prompt, ask for fewer, or give the server more memory."
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
    return Footprint(max(0.0, second - 2 * most * a_token), a_token)

"""Whether more threads make a step faster on this machine: seen in a fraction of a second.

Threads wait for each other several times in each layer. Where another program has their cores, a
step by two may take a thousand times as long as by one, and such a plan is not worth its proof.
"""

from __future__ import annotations

import time

from mendel.serve.protocols import Piece, Program

LIMIT_S = 0.3
ROUNDS = 8
ROWS = 48  # of a prompt
FASTER = 0.9  # of the time by one thread
MUCH_SLOWER = 4.0  # then it is not looked at to the end


def no_faster(program: Program, threads: int, *, limit_s: float = LIMIT_S) -> str | None:
    """Why not to take so many threads; None where they are faster at a token or at a prompt.

    limit_s  no step is begun after it
    """
    end = time.perf_counter() + limit_s
    rows = ROWS if program.context is None else min(ROWS, program.context)
    for n in (1, rows):
        _step_s(program, n, 1)  # what is made on the first run is nobody's fault
    least: dict[tuple[int, int], float] = {}
    for i in range(ROUNDS):
        for n in (1, rows):
            for by in (1, threads) if i % 2 == 0 else (threads, 1):
                if i and time.perf_counter() > end:
                    break
                least[n, by] = min(least.get((n, by), 1e9), _step_s(program, n, by))
            if (i or time.perf_counter() > end) and (least[n, threads] > MUCH_SLOWER * least[n, 1]):
                return _said(least, n, threads)
    if any(least[n, threads] < FASTER * least[n, 1] for n in (1, rows)):
        return None
    return _said(least, 1, threads)


def _said(least: dict[tuple[int, int], float], n: int, threads: int) -> str:
    by_many, by_one = (1e3 * least[n, by] for by in (threads, 1))
    word = "slower" if by_many > by_one else "hardly faster"
    return f"{word} here: a step by {threads} threads takes {by_many:.2f} ms, by one {by_one:.2f}"


def _step_s(program: Program, n: int, threads: int) -> float:
    text = program.text()
    try:
        began = time.perf_counter()
        program.run([Piece(text, [0] * n)], threads=threads)
        return time.perf_counter() - began
    finally:
        text.free()

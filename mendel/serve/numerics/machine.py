"""One call for the whole forward: goes down a tape of operations, alone or with other threads."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from mendel.serve.numerics import ops, routing, states, tiles, vectors
from mendel.serve.numerics.rows import rounded
from mendel.serve.numerics.together import wait
from mendel.serve.numerics.vectors import jit, ordered

(
    EMBED, NORM, MATMUL, ACT, ADD, SCALE, TURN, ATTEND, CONVOLVE, SHIFT, BY_HEAD, BY_CHANNEL,
    REMOVE, RECUR, DIRECT, BONUS, GATHER, BLEND, ROUTE,
) = range(19)  # fmt: skip
META = 8  # numbers before the ends of the texts' rows
BY_ROW = (
    EMBED, NORM, ACT, ADD, SCALE, TURN, BY_HEAD, BY_CHANNEL, REMOVE, DIRECT, BONUS, BLEND, ROUTE,
)  # fmt: skip
FULL, HALF = tiles.tiles(False), tiles.tiles(True)
F1, F2, F3, F4, F5, F6 = FULL
H1, H2, H3, H4, H5, H6 = HALF
PANEL = tiles.panel_columns()
MOST = tiles.MAX_ROWS
IN_PAIRS = tiles.has_pairs()


@lru_cache(maxsize=1)
def version() -> str:
    """Of all that may change a bit: the kernels' source, their compiler, the CPU, the C library.

    The CPU's name counts beside its features: how wide LLVM makes a sum of its own depends on it.
    """
    words = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    about = [numba.__version__, llvmlite.__version__, *vectors.target(), *platform.libc_ver()]
    settings: Any = numba.config
    about += [str(settings.OPT), str(settings.LOOP_VECTORIZE)]
    words += [word.encode() for word in about]
    return hashlib.sha256(b"\0".join(words)).hexdigest()


@ordered
def multiply_full(
    x: Any, xi: int, ldx: int, w: Any, wi: int, b: Any, bi: int, y: Any, yi: int, ldy: int,
    K: int, n: int,
) -> None:  # fmt: skip
    """A panel with n rows, as few tiles as there can be, of sizes as equal."""
    while n > 0:
        m = n if n <= MOST else (MOST if n >= 2 * MOST else (n + 1) // 2)
        if m == 6:
            F6(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 5:
            F5(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 4:
            F4(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 3:
            F3(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 2:
            F2(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        else:
            F1(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        n, xi, yi = n - m, xi + m * ldx, yi + m * ldy


@ordered
def multiply_half(
    x: Any, xi: int, ldx: int, w: Any, wi: int, b: Any, bi: int, y: Any, yi: int, ldy: int,
    K: int, n: int,
) -> None:  # fmt: skip
    """The same with weights in bf16."""
    while n > 0:
        m = n if n <= MOST else (MOST if n >= 2 * MOST else (n + 1) // 2)
        if m == 6:
            H6(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 5:
            H5(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 4:
            H4(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 3:
            H3(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        elif m == 2:
            H2(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        else:
            H1(x, xi, ldx, w, wi, b, bi, y, yi, ldy, K)
        n, xi, yi = n - m, xi + m * ldx, yi + m * ldy


@jit
def paired(x: Any, y: Any) -> None:
    """Numbers that are bf16's, two to a word; a last one beside a zero."""
    old, new, n = x.view(np.int32), y.view(np.int32), len(x) // 2
    for i in range(n):
        low = (old[2 * i] >> np.int32(16)) & np.int32(0xFFFF)
        new[i] = low | (old[2 * i + 1] & np.int32(-65536))
    if len(x) % 2:
        new[n] = (old[2 * n] >> np.int32(16)) & np.int32(0xFFFF)


@jit
def multiply(
    t: Any, x: Any, w: Any, halves: Any, room: Any, room_at: int, cap: int, M: int, tid: int,
    n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    K, n_panels = t[ops.N], t[ops.N + 1]
    a, y = ops.place(t, ops.A, cap, 0), ops.place(t, ops.OUT, cap, 0)
    ldx, ldy = t[ops.A + 1], t[ops.OUT + 1]
    lo, hi = n_panels * tid // n_threads, n_panels * (tid + 1) // n_threads
    source, size = x, K * PANEL
    if is_half and IN_PAIRS:
        n = (K + 1) // 2
        for r in range(M):
            row, to = a + r * ldx, room_at + r * n
            paired(x[row : row + K], room[to : to + n])
        source, a, ldx, K, size = room, room_at, n, n, 2 * n * PANEL
    for p in range(lo, hi):
        at, bias, to = t[ops.N + 2] + p * size, t[ops.N + 3] + p * PANEL, y + p * PANEL
        if is_half:
            multiply_half(source, a, ldx, halves, at, w, bias, x, to, ldy, K, M)
            for r in range(M):
                rounded(x[to + r * ldy : to + r * ldy + PANEL])
        else:
            multiply_full(source, a, ldx, w, at, w, bias, x, to, ldy, K, M)


def waits(tape: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tape, and after which operations threads wait for each other.

    Not between two that give each thread the same rows alone; nor at the end, where it is done.
    """
    codes = tape[:, 0]
    own = np.isin(codes, (*BY_ROW, GATHER))[:-1] & np.isin(codes, (*BY_ROW, ATTEND))[1:]
    found = tape.copy()
    found[:, ops.WAITS] = np.append(~own, False)
    return found


ints, floats = types.int64[::1], types.float32[::1]
SIGNATURE = types.void(
    types.int64[:, ::1], types.float64[:, ::1], floats, types.uint16[::1], floats, floats, floats,
    types.int64[:, ::1], ints, ints, ints, floats, ints, types.int64, types.int64,
)  # fmt: skip


@lru_cache(maxsize=1)
def machine() -> Any:
    """forward(tape, numbers, weights, halves, arena, x, room, rows, wanted, tables, meta, turns,
    counter, thread, threads), compiled for this machine or read from the disk.

    rows    (4 + groups, M): ids, positions, states before and after, pages of each row
    wanted  rows that go past GATHER
    tables  where the pages lie of each group and text, in order
    meta    M, cap, n_texts, stride of turns, is_half, room a thread, groups; ends of the texts'
            rows; where in tables each group's pages of each text begin
    """
    stamp = int(version()[:8], 16)  # a variable of the closure, so that the disk's copy knows it

    @numba.njit(SIGNATURE, nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
    def forward(
        tape: Any, numbers: Any, w: Any, halves: Any, arena: Any, x: Any, room: Any, rows: Any,
        wanted: Any, tables: Any, meta: Any, turns: Any, counter: Any, tid: Any, n_threads: Any,
    ) -> None:  # fmt: skip
        M, cap, n_texts, stride = meta[0], meta[1], meta[2], meta[3]
        half, room_at, goal = meta[4] != 0, meta[5] * tid, stamp * 0
        ends = meta[META : META + n_texts + 1]
        ids, positions, before, after = rows[0], rows[1], rows[2], rows[3]
        for i in range(len(tape)):
            t, f = tape[i], numbers[i]
            code = t[0]
            if code == GATHER:
                M = len(wanted)
            lo, hi = M * tid // n_threads, M * (tid + 1) // n_threads
            if code == MATMUL:
                multiply(t, x, w, halves, room, room_at, cap, M, tid, n_threads, half)
            elif code == NORM:
                ops.norm(t, f, x, w, cap, lo, hi, half)
            elif code == ACT:
                ops.act(t, x, cap, lo, hi, half)
            elif code == ADD:
                ops.add(t, x, cap, lo, hi, half)
            elif code == ATTEND:
                group = t[ops.N + 5]
                ops.store(t, x, arena, rows[4 + group], positions, cap, lo, hi, half)
                goal = wait(counter, n_threads, goal)
                first = META + n_texts + 1 + group * n_texts
                ops.attention(
                    t, f, x, arena, tables, meta[first:], positions, ends, room, room_at, cap, tid,
                    n_threads, half,
                )  # fmt: skip
            elif code == TURN:
                ops.turn(t, x, turns, positions, stride, cap, lo, hi, half)
            elif code == RECUR:
                states.recurrence(
                    t, x, w, arena, before, after, ends, room, room_at, cap, tid, n_threads, half
                )
            elif code == CONVOLVE:
                states.convolution(t, x, w, arena, before, after, ends, cap, tid, n_threads, half)
            elif code == SHIFT:
                states.shift(t, x, w, arena, before, after, ends, cap, tid, n_threads, half)
            elif code == BY_HEAD:
                states.decay_by_head(t, x, w, cap, lo, hi, half)
            elif code == BY_CHANNEL:
                states.decay_by_channel(t, x, cap, lo, hi, half)
            elif code == REMOVE:
                states.removal(t, x, w, cap, lo, hi, half)
            elif code == DIRECT:
                states.direct(t, x, w, cap, lo, hi, half)
            elif code == BONUS:
                states.bonus(t, x, w, cap, lo, hi, half)
            elif code == BLEND:
                routing.blend(t, x, cap, lo, hi, half)
            elif code == ROUTE:
                routing.route(t, f, x, w, cap, lo, hi, half)
            elif code == SCALE:
                ops.scale(t, f, x, cap, lo, hi, half)
            elif code == EMBED:
                ops.embed(t, f, x, w, halves, ids, positions, cap, lo, hi, half)
            elif code == GATHER:
                ops.gather(t, x, wanted, cap, lo, hi)
            if t[ops.WAITS]:
                goal = wait(counter, n_threads, goal)

    return forward

"""The operations of a tape, each over all rows of a batch, shared among threads.

A register is a matrix of a row a token in `x`; an operation names one by three numbers, and row r
of it begins at place(...) . `t` is the operation itself: its code, its registers and its numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mendel.serve.numerics import rows
from mendel.serve.numerics.mixing import (
    PAGE,
    attend,
    remember,
    remember_halves,
)
from mendel.serve.numerics.rows import activate, rounded
from mendel.serve.numerics.vectors import QUERIES, jit
from mendel.serve.protocols import F32

I64 = np.ndarray
A, B, C, OUT, N = 1, 4, 7, 10, 13  # where in an operation its registers begin, and its numbers
SIZE = 40  # numbers of an operation
WAITS = SIZE - 1  # the last: whether threads wait for each other behind it
RMS, LAYER, UNIT, SOFTMAX = range(4)


@jit
def place(t: Any, register: int, cap: int, r: int) -> Any:
    return t[register] * cap + r * t[register + 1] + t[register + 2]


@jit
def embed(
    t: I64, f: F32, x: F32, w: F32, halves: np.ndarray, ids: I64, positions: I64, cap: int,
    lo: int, hi: int, is_half: bool,
) -> None:  # fmt: skip
    n = t[N]
    none = w[0:0]
    for r in range(lo, hi):
        at = place(t, OUT, cap, r)
        y = x[at : at + n]
        row = t[N + 1] + ids[r] * n
        if is_half:
            bits, half = y.view(np.int32), halves[row : row + n]
            for i in range(n):
                bits[i] = np.int32(half[i]) << np.int32(16)
        else:
            full = w[row : row + n]
            for i in range(n):
                y[i] = full[i]
        if t[N + 2] >= 0:
            at = t[N + 2] + positions[r] * n
            more = w[at : at + n]
            for i in range(n):
                y[i] += more[i]
            if is_half:
                rounded(y)
        if t[N + 3]:
            rows.rms_norm(y, none, f[0])
            if is_half:
                rounded(y)


@jit
def norm(t: I64, f: F32, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    n, n_groups, kind = t[N], t[N + 1], t[N + 4]
    gain = w[t[N + 2] : t[N + 2] + n] if t[N + 2] >= 0 else w[0:0]
    bias = w[t[N + 3] : t[N + 3] + n] if t[N + 3] >= 0 else w[0:0]
    for r in range(lo, hi):
        for g in range(n_groups):
            source, target = place(t, A, cap, r) + g * n, place(t, OUT, cap, r) + g * n
            y = x[target : target + n]
            if source != target:
                rows.copied(x[source : source + n], y)
            if kind == RMS:
                rows.rms_norm(y, gain, f[0])
            elif kind == LAYER:
                rows.layer_norm(y, gain, bias, f[0])
            elif kind == UNIT:
                rows.unit(y)
            else:
                rows.softmax(y)
            if is_half:
                rounded(y)


@jit
def act(t: I64, x: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """out = act(a), times b where it is asked for."""
    n, code, times = t[N], t[N + 1], t[N + 2]
    for r in range(lo, hi):
        source, target = place(t, A, cap, r), place(t, OUT, cap, r)
        y = x[target : target + n]
        if source != target:
            rows.copied(x[source : source + n], y)
        activate(code, y)
        if is_half:
            rounded(y)
        if times:
            at = place(t, B, cap, r)
            other = x[at : at + n]
            for i in range(n):
                y[i] *= other[i]
            if is_half:
                rounded(y)


@jit
def add(t: I64, x: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    n = t[N]
    for r in range(lo, hi):
        a, target = place(t, A, cap, r), place(t, OUT, cap, r)
        source, y = x[a : a + n], x[target : target + n]
        for i in range(n):
            y[i] += source[i]
        if is_half:
            rounded(y)


@jit
def scale(t: I64, f: F32, x: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    n, by = t[N], np.float32(f[0])
    for r in range(lo, hi):
        target = place(t, OUT, cap, r)
        y = x[target : target + n]
        for i in range(n):
            y[i] *= by
        if is_half:
            rounded(y)


@jit
def turn(
    t: I64, x: F32, turns: F32, positions: I64, stride: int, cap: int, lo: int, hi: int,
    is_half: bool,
) -> None:  # fmt: skip
    D, n_heads, kind = t[N], t[N + 1], t[N + 2]
    half = D // 2
    for r in range(lo, hi):
        at = positions[r] * stride + kind
        cos, sin = turns[at : at + half], turns[at + half : at + D]
        start = place(t, OUT, cap, r)
        for h in range(n_heads):
            rows.turn(x[start + h * D : start + (h + 1) * D], cos, sin, is_half)


@jit
def store(
    t: I64, x: F32, arena: F32, row_pages: I64, positions: I64, cap: int, lo: int, hi: int,
    is_half: bool,
) -> None:  # fmt: skip
    """Keys and values of each row into the page that row_pages says; bf16 ones as they are."""
    G, D, wide = t[N + 1], t[N + 2], t[N + 3]
    size, halves = PAGE * (D + wide), arena.view(np.uint16)
    for r in range(lo, hi):
        k, v = place(t, B, cap, r), place(t, C, cap, r)
        page, slot = row_pages[r] + t[N + 6], positions[r] % PAGE
        for g in range(G):
            key, value = x[k + g * D : k + (g + 1) * D], x[v + g * D : v + (g + 1) * D]
            if is_half:
                remember_halves(key, value, halves, 2 * page + g * size, slot, D, wide)
            else:
                remember(key, value, arena, page + g * size, slot, D, wide)


@jit
def attention(
    t: I64, f: F32, x: F32, arena: F32, tables: I64, table_at: I64, positions: I64, ends: I64,
    room: F32, room_at: int, cap: int, tid: int, n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    """Queries of a text that look at the same keys, a few at a time, dealt out to the threads."""
    H, G, D, wide, window = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4]
    n_heads, size, halves = H // G, PAGE * (D + wide), arena.view(np.uint16)
    job = 0
    for s in range(len(ends) - 1):
        start, n_queries = positions[ends[s]], (ends[s + 1] - ends[s]) * n_heads
        table = tables[table_at[s] :]
        for g in range(G):
            for j in range(0, n_queries, QUERIES):
                job += 1
                if job % n_threads != tid:
                    continue
                n = min(QUERIES, n_queries - j)
                queries(t, f, x, room, room_at, cap, ends[s], g, j, n)
                if is_half:
                    more = 2 * t[N + 6] + g * size
                    attend(n, room, room_at, halves, 2, table, more, start, j, n_heads, window, D,
                           wide)  # fmt: skip
                else:
                    more = t[N + 6] + g * size
                    attend(n, room, room_at, arena, 1, table, more, start, j, n_heads, window, D,
                           wide)  # fmt: skip
                answers(t, x, room, room_at, cap, ends[s], g, j, n, is_half)


@jit
def queries(
    t: I64, f: F32, x: F32, room: F32, room_at: int, cap: int, row: int, g: int, j: int, n: int
) -> None:
    n_heads, D, wide, by = t[N] // t[N + 1], t[N + 2], t[N + 3], np.float32(f[0])
    for i in range(n):
        r, h = row + (j + i) // n_heads, g * n_heads + (j + i) % n_heads
        q, to = place(t, A, cap, r) + h * D, room_at + i * wide
        source, target = x[q : q + D], room[to : to + D]
        for d in range(D):
            target[d] = source[d] * by


@jit
def answers(
    t: I64, x: F32, room: F32, room_at: int, cap: int, row: int, g: int, j: int, n: int,
    is_half: bool,
) -> None:  # fmt: skip
    n_heads, D, wide = t[N] // t[N + 1], t[N + 2], t[N + 3]
    for i in range(n):
        r, h = row + (j + i) // n_heads, g * n_heads + (j + i) % n_heads
        at, to = room_at + (QUERIES + i) * wide, place(t, OUT, cap, r) + h * D
        y = x[to : to + D]
        rows.copied(room[at : at + D], y)
        if is_half:
            rounded(y)


@jit
def gather(t: I64, x: F32, wanted: I64, cap: int, lo: int, hi: int) -> None:
    n = t[N]
    for r in range(lo, hi):
        source, target = place(t, A, cap, wanted[r]), place(t, OUT, cap, r)
        y, old = x[target : target + n], x[source : source + n]
        for i in range(n):
            y[i] = old[i]

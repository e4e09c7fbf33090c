"""The operations of a tape, each over all rows of a batch, shared among threads.

A register is a matrix of a row a token in `x`; an operation names one by three numbers, and row r
of it begins at place(...) . `t` is the operation itself: its code, its registers and its numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mendel.serve.numerics import rows
from mendel.serve.numerics.mixing import PAGE, attend, convolve, delta_key, read, recur, remember
from mendel.serve.numerics.mixing import shift as shift_one
from mendel.serve.numerics.rows import activate, round_one, rounded
from mendel.serve.numerics.vectors import jit
from mendel.serve.protocols import F32

I64 = np.ndarray
A, B, C, OUT, N = 1, 4, 7, 10, 13  # where in an operation its registers begin, and its numbers
SIZE = 40  # numbers of an operation
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
            rows.rms_norm(y, y, none, f[0])
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
            if kind == RMS:
                rows.rms_norm(x[source : source + n], y, gain, f[0])
            elif kind == LAYER:
                rows.layer_norm(x[source : source + n], y, gain, bias, f[0])
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
        activate(code, x[source : source + n], y)
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
    t: I64, x: F32, arena: F32, row_pages: I64, positions: I64, cap: int, lo: int, hi: int
) -> None:
    """Keys and values of each row into the page that row_pages says."""
    G, D, wide = t[N + 1], t[N + 2], t[N + 3]
    for r in range(lo, hi):
        k, v = place(t, B, cap, r), place(t, C, cap, r)
        page = row_pages[r] + t[N + 6]
        for g in range(G):
            remember(
                x[k + g * D : k + (g + 1) * D], x[v + g * D : v + (g + 1) * D], arena,
                page + g * PAGE * (D + wide), positions[r] % PAGE, D, wide,
            )  # fmt: skip


@jit
def attention(
    t: I64, f: F32, x: F32, arena: F32, tables: I64, table_at: I64, positions: I64, texts: I64,
    room: F32, room_at: int, cap: int, M: int, tid: int, n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    """Heads of rows dealt out to the threads; room: an output, then the scores."""
    H, G, D, wide, window = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4]
    by = np.float32(f[0])
    for job in range(tid, M * H, n_threads):
        r, h = job // H, job % H
        position = positions[r]
        first = max(0, position + 1 - window) if window else 0
        q = place(t, A, cap, r) + h * D
        query, target = room[room_at : room_at + D], place(t, OUT, cap, r) + h * D
        for d in range(D):
            query[d] = x[q + d] * by
        start = table_at[texts[r]]
        attend(
            room, room_at, arena, tables[start:], t[N + 6] + (h // (H // G)) * PAGE * (D + wide),
            first, position, D, wide, room, room_at + 2 * wide, room, room_at + wide,
        )  # fmt: skip
        y = x[target : target + D]
        for d in range(D):
            y[d] = room[room_at + wide + d]
        if is_half:
            rounded(y)


@jit
def convolution(
    t: I64, x: F32, w: F32, arena: F32, before: I64, after: I64, ends: I64, cap: int, tid: int,
    n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    n, K = t[N], t[N + 1]
    taps, size = w[t[N + 2] : t[N + 2] + n * K], n * (K - 1)
    for s in range(tid, len(ends) - 1, n_threads):
        for r in range(ends[s], ends[s + 1]):
            a, b = before[r] + t[N + 3], after[r] + t[N + 3]
            source, target = place(t, A, cap, r), place(t, OUT, cap, r)
            y = x[target : target + n]
            convolve(x[source : source + n], y, taps, arena[a : a + size], arena[b : b + size], K)
            if is_half:
                rounded(y)


@jit
def shift(
    t: I64, x: F32, w: F32, arena: F32, before: I64, after: I64, ends: I64, cap: int, tid: int,
    n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    n = t[N]
    share = w[t[N + 1] : t[N + 1] + n]
    for s in range(tid, len(ends) - 1, n_threads):
        for r in range(ends[s], ends[s + 1]):
            a, b = before[r] + t[N + 2], after[r] + t[N + 2]
            source, target = place(t, A, cap, r), place(t, OUT, cap, r)
            y = x[target : target + n]
            shift_one(x[source : source + n], y, share, arena[a : a + n], arena[b : b + n])
            if is_half:
                rounded(y)


@jit
def decay_by_head(t: I64, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """dt = softplus(a + bias) into b; exp(-rate dt) into out."""
    n = t[N]
    for r in range(lo, hi):
        a, b, y = place(t, A, cap, r), place(t, B, cap, r), place(t, OUT, cap, r)
        for h in range(n):
            step = x[a + h] + w[t[N + 2] + h]
            dt = rows.softplus(round_one(step) if is_half else step)
            dt = round_one(dt) if is_half else dt
            log = -w[t[N + 1] + h] * dt
            x[b + h] = dt
            x[y + h] = rows.exp(round_one(log) if is_half else log)


@jit
def decay_by_channel(t: I64, x: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """exp of logsigmoid(a) / 16, or of -e^-1/2 sigmoid(a) where it is bounded."""
    n, is_bounded = t[N], t[N + 1]
    for r in range(lo, hi):
        a, y = place(t, A, cap, r), place(t, OUT, cap, r)
        for i in range(n):
            if is_bounded:
                log = np.float32(-0.6065306597126334) * rows.sigmoid(x[a + i])
            else:
                log = -rows.softplus(-x[a + i]) / np.float32(16)
            log = max(log, np.float32(-9.210340371976182))
            x[y + i] = rows.exp(round_one(log) if is_half else log)


@jit
def removal(t: I64, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """RWKV-7: r = unit(k removal) into out, p = gate r into c, k *= 1 + (gate - 1) kept."""
    H, D, by, kept = t[N], t[N + 1], t[N + 2], t[N + 3]
    for r in range(lo, hi):
        for h in range(H):
            k = place(t, A, cap, r) + h * D
            gate = place(t, B, cap, r) + h * D
            out, p = place(t, OUT, cap, r) + h * D, place(t, C, cap, r) + h * D
            y = x[out : out + D]
            for d in range(D):
                y[d] = x[k + d] * w[by + h * D + d]
            rows.unit(y)
            if is_half:
                rounded(y)
            for d in range(D):
                g = rows.sigmoid(x[gate + d])
                g = round_one(g) if is_half else g
                x[p + d] = g * y[d]
                x[k + d] *= np.float32(1) + (g - np.float32(1)) * w[kept + h * D + d]
            if is_half:
                rounded(x[p : p + D])
                rounded(x[k : k + D])


@jit
def recurrence(
    t: I64, x: F32, w: F32, arena: F32, before: I64, after: I64, ends: I64, room: F32,
    room_at: int, cap: int, tid: int, n_threads: int, is_half: bool,
) -> None:  # fmt: skip
    """q a, k b, v c; the decay, the removal key, its copy and the write strength behind them."""
    H, D, V, n_steps, state = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4]
    how, kind, writes = t[N + 5], t[N + 9], t[N + 16]
    own = room[room_at : room_at + D]
    u = room[room_at + D : room_at + D + V]
    one = room[room_at + D + V : room_at + D + V + 1]
    two = room[room_at + D + V + 1 :]
    for job in range(tid, (len(ends) - 1) * H, n_threads):
        s, h = job // H, job % H
        for r in range(ends[s], ends[s + 1]):
            at = before[r] + state + h * D * V
            S = arena[at : at + D * V]
            last = after[r] + state + h * D * V
            for j in range(n_steps):
                # micro-steps end in the row's own state, and never write where they read
                is_between = (n_steps - 1 - j) % 2
                S2 = two[0 : D * V] if is_between else arena[last : last + D * V]
                part = j * H + h
                k_at, v_at = place(t, B, cap, r) + part * D, place(t, C, cap, r) + part * V
                k = x[k_at : k_at + D]
                one[0] = np.float32(1)
                decay, per_channel = one, False
                if j == 0 and how == 1:
                    one[0] = w[t[N + 6] + h]
                elif j == 0 and how == 2:
                    one[0] = x[place(t, N + 6, cap, r) + h]
                elif j == 0 and how == 3:
                    a = place(t, N + 6, cap, r) + h * D
                    decay, per_channel = x[a : a + D], True
                erasing, p = own, own
                if kind == 1:
                    delta_key(own, k, decay, per_channel, is_half and j == 0 and how > 0)
                elif kind == 2:
                    a, b = place(t, N + 10, cap, r) + h * D, place(t, N + 13, cap, r) + h * D
                    erasing, p = x[a : a + D], x[b : b + D]
                strength = x[place(t, N + 17, cap, r) + part] if writes else np.float32(1)
                recur(
                    S, S2, k, x[v_at : v_at + V], strength, decay, per_channel, erasing, p, kind, u
                )
                S = S2
            q, y = place(t, A, cap, r) + h * D, place(t, OUT, cap, r) + h * V
            out = x[y : y + V]
            read(S, x[q : q + D], out)
            if is_half:
                rounded(out)


@jit
def direct(t: I64, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """out += share[h] v."""
    H, V = t[N], t[N + 1]
    for r in range(lo, hi):
        for h in range(H):
            v, y = place(t, A, cap, r) + h * V, place(t, OUT, cap, r) + h * V
            share = w[t[N + 2] + h]
            for i in range(V):
                more = share * x[v + i]
                x[y + i] += round_one(more) if is_half else more
            if is_half:
                rounded(x[y : y + V])


@jit
def bonus(t: I64, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """out += (q . u k) v of the token itself."""
    H, D, V = t[N], t[N + 1], t[N + 2]
    for r in range(lo, hi):
        for h in range(H):
            q, k, u = place(t, A, cap, r) + h * D, place(t, B, cap, r) + h * D, t[N + 3] + h * D
            v, y = place(t, C, cap, r) + h * V, place(t, OUT, cap, r) + h * V
            total = np.float32(0)
            for d in range(D):
                total += x[q + d] * w[u + d] * x[k + d]
            total = round_one(total) if is_half else total
            for i in range(V):
                more = total * x[v + i]
                x[y + i] += round_one(more) if is_half else more
            if is_half:
                rounded(x[y : y + V])


@jit
def gather(t: I64, x: F32, wanted: I64, cap: int, lo: int, hi: int) -> None:
    n = t[N]
    for r in range(lo, hi):
        source, target = place(t, A, cap, wanted[r]), place(t, OUT, cap, r)
        y, old = x[target : target + n], x[source : source + n]
        for i in range(n):
            y[i] = old[i]

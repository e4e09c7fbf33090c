"""Operations of mixers that leave a state: each text's rows in the order of their positions."""

from __future__ import annotations

import numpy as np

from mendel.serve.numerics import rows
from mendel.serve.numerics.mixing import convolve, delta_key, recur, weighted
from mendel.serve.numerics.mixing import shift as shift_one
from mendel.serve.numerics.ops import I64, OUT, A, B, C, N, place
from mendel.serve.numerics.rows import round_one, rounded
from mendel.serve.numerics.vectors import jit
from mendel.serve.protocols import F32


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
    """q a, k b, v c; the decay, the removal key, its copy and the write strength behind them.

    A micro-step reads one state and writes another: the row's own after the last of them.
    """
    H, D, V, n_steps, state, wide = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4], t[N + 20]
    how, kind, writes = t[N + 5], t[N + 9], t[N + 16]
    one, r, p, c = room_at, room_at + 16, room_at + 16 + D, room_at + 16 + 2 * D
    v, u = c + D, c + D + wide
    between = u + wide
    ones = room[one : one + 1]
    for job in range(tid, (len(ends) - 1) * H, n_threads):
        s, h = job // H, job % H
        for row in range(ends[s], ends[s + 1]):
            old, at = arena, before[row] + state + h * D * wide
            last = after[row] + state + h * D * wide
            for j in range(n_steps):
                is_between = (n_steps - 1 - j) % 2
                new, at_2 = (room, between) if is_between else (arena, last)
                part = j * H + h
                k_at, v_at = place(t, B, cap, row) + part * D, place(t, C, cap, row) + part * V
                k = x[k_at : k_at + D]
                ones[0] = np.float32(1)
                decay, decay_at, per_channel = room, one, 0
                if j == 0 and how == 1:
                    ones[0] = w[t[N + 6] + h]
                elif j == 0 and how == 2:
                    ones[0] = x[place(t, N + 6, cap, row) + h]
                elif j == 0 and how == 3:
                    decay, decay_at, per_channel = x, place(t, N + 6, cap, row) + h * D, 1
                if kind == 1:
                    rounds = is_half and j == 0 and how > 0
                    delta_key(room[r : r + D], k, decay[decay_at:], per_channel, rounds)
                elif kind == 2:
                    a, b = place(t, N + 10, cap, row) + h * D, place(t, N + 13, cap, row) + h * D
                    rows.copied(x[a : a + D], room[r : r + D])
                    rows.copied(x[b : b + D], room[p : p + D])
                strength = x[place(t, N + 17, cap, row) + part] if writes else np.float32(1)
                write = room[c : c + D]
                for d in range(D):
                    write[d] = strength * k[d]
                rows.copied(x[v_at : v_at + V], room[v : v + V])
                recur(old, at, new, at_2, decay, decay_at, per_channel, kind, room, r, D, wide)
                old, at = new, at_2
            weighted(x, place(t, A, cap, row) + h * D, old, at, D, wide, room, u)
            y = place(t, OUT, cap, row) + h * V
            out = x[y : y + V]
            rows.copied(room[u : u + V], out)
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

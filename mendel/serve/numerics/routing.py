"""Operations of mixers that weigh several views of a token anew at every token."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mendel.serve.numerics import rows
from mendel.serve.numerics.ops import I64, OUT, A, B, C, N, place
from mendel.serve.numerics.rows import round_one, rounded, sigmoid
from mendel.serve.numerics.vectors import LANES, jit
from mendel.serve.protocols import F32

SOFTMAX, SIGMOID, FLOOR, STAGED = range(4)
BRANCHES, HIDDEN = 4, 16
FEEL, CHOOSE = 0, 2 * BRANCHES * HIDDEN  # where in a route's numbers its matrices begin
SIZE = (BRANCHES + 1) * HIDDEN  # of the second one, with room for a staged gate
BIAS, FACTOR = CHOOSE + SIZE, CHOOSE + SIZE + LANES  # the last: 6 weights of the factor, its bias
HEATS = FACTOR + LANES  # the inverse temperature of each head


@jit
def to(x: Any, is_half: bool) -> Any:
    """As it is kept: where torch writes bf16, rounded."""
    return round_one(np.float32(x)) if is_half else np.float32(x)


@jit
def blend(t: I64, x: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """out = weight of the head * a, or out + it; of n weights a head in b, the one numbered."""
    H, D, n, which, adds = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4]
    for r in range(lo, hi):
        for h in range(H):
            a, out = place(t, A, cap, r) + h * D, place(t, OUT, cap, r) + h * D
            by = x[place(t, B, cap, r) + h * n + which]
            source, y = x[a : a + D], x[out : out + D]
            for d in range(D):
                more = to(by * source[d], is_half)
                y[d] = y[d] + more if adds else more
            if is_half:
                rounded(y)


@jit
def moments(x: F32, is_half: bool) -> Any:
    """Mean and deviation, as mendel.parts.routed has them."""
    total, n = np.float32(0), np.float32(len(x))
    for i in range(len(x)):
        total += x[i]
    mean, squares = to(total / n, is_half), np.float32(0)
    for i in range(len(x)):
        far = to(x[i] - mean, is_half)
        squares += to(far * far, is_half)
    small = to(to(squares / n, is_half) + np.float32(1e-6), is_half)
    return mean, to(np.sqrt(small), is_half)


@jit
def gelu(x: Any) -> Any:
    return np.float32(0.5) * x * (np.float32(1) + math.erf(x * np.float32(0.7071067811865476)))


@jit
def chosen(
    gate: int, floor: Any, heat: Any, seen: F32, felt: F32, w: F32, p: F32, is_half: bool
) -> None:
    """p = the weights of the branches, from what a head sees of the token and of the branches."""
    hidden = np.empty(HIDDEN, np.float32)
    for i in range(HIDDEN):
        total = np.float32(0)
        for j in range(2 * BRANCHES):
            total += felt[j] * w[FEEL + i * 2 * BRANCHES + j]
        hidden[i] = to(gelu(to(seen[i] + to(total, is_half), is_half)), is_half)
    n = BRANCHES + 1 if gate == STAGED else BRANCHES
    for i in range(n):
        total = w[BIAS + i]
        for j in range(HIDDEN):
            total += hidden[j] * w[CHOOSE + i * HIDDEN + j]
        p[i] = to(total, is_half)
    if gate == SIGMOID:
        for i in range(n):
            inner = to(sigmoid(p[i]), is_half)
            p[i] = to(np.float32(0.02) + to(np.float32(0.98) * inner, is_half), is_half)
    elif gate == STAGED:
        staged(p, is_half)
    else:
        if gate == SOFTMAX:
            for i in range(n):
                p[i] = to(p[i] * heat, is_half)
        rows.softmax(p[:n])
        for i in range(n):
            p[i] = to(p[i], is_half)
        if gate == FLOOR:
            for i in range(n):
                share = np.float32(1 - BRANCHES * floor)
                p[i] = to(np.float32(floor) + to(share * p[i], is_half), is_half)


@jit
def staged(p: F32, is_half: bool) -> None:
    """p[0]: local against global; p[1:3] and p[3:5]: inside each. They become p[:4]."""
    local = to(sigmoid(p[0]), is_half)
    rows.softmax(p[1:3])
    rows.softmax(p[3:5])
    far = to(np.float32(1) - local, is_half)
    for i in range(2):
        p[i] = to(local * to(p[1 + i], is_half), is_half)
    for i in range(2, BRANCHES):
        p[i] = to(far * to(p[1 + i], is_half), is_half)


@jit
def route(t: I64, f: F32, x: F32, w: F32, cap: int, lo: int, hi: int, is_half: bool) -> None:
    """out = the sum of a, b, c and v, each weighted by the gate of its head; and the factor."""
    H, V, gate, at, has_factor = t[N], t[N + 1], t[N + 2], t[N + 3], t[N + 4]
    own = w[at : at + HEATS + H]
    felt, p = np.empty(2 * BRANCHES, np.float32), np.empty(BRANCHES + 1, np.float32)
    for r in range(lo, hi):
        for h in range(H):
            one = x[place(t, A, cap, r) + h * V : place(t, A, cap, r) + (h + 1) * V]
            two = x[place(t, B, cap, r) + h * V : place(t, B, cap, r) + (h + 1) * V]
            three = x[place(t, C, cap, r) + h * V : place(t, C, cap, r) + (h + 1) * V]
            four = x[place(t, N + 5, cap, r) + h * V : place(t, N + 5, cap, r) + (h + 1) * V]
            felt[0], felt[1] = moments(one, is_half)
            felt[2], felt[3] = moments(two, is_half)
            felt[4], felt[5] = moments(three, is_half)
            felt[6], felt[7] = moments(four, is_half)
            see = place(t, N + 8, cap, r) + h * HIDDEN
            chosen(gate, f[0], own[HEATS + h], x[see : see + HIDDEN], felt, own, p, is_half)
            out = place(t, OUT, cap, r) + h * V
            y = x[out : out + V]
            for i in range(V):
                total = to(p[0] * one[i], is_half) + to(p[1] * two[i], is_half)
                total += to(p[2] * three[i], is_half)
                y[i] = to(total + to(p[3] * four[i], is_half), is_half)
            if has_factor:
                factor = place(t, N + 11, cap, r) + h
                x[factor] = factor_of(x[factor], y, p, own, is_half)


@jit
def factor_of(seen: Any, y: F32, p: F32, w: F32, is_half: bool) -> Any:
    """In (0, 4), for after the norm."""
    mean, deviation = moments(y, is_half)
    total = w[FACTOR + 6] + mean * w[FACTOR] + deviation * w[FACTOR + 1]
    for i in range(BRANCHES):
        total += p[i] * w[FACTOR + 2 + i]
    inner = sigmoid(to(seen + to(total, is_half), is_half))
    return to(np.float32(4) * to(inner, is_half), is_half)

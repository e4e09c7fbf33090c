"""What goes over the tokens of a text: attention over pages, recurrences and convolutions.

Every text is gone over in the order of its positions, so that its cuts leave no trace.
"""

from __future__ import annotations

import numpy as np

from mendel.serve.numerics.rows import exp, round_one
from mendel.serve.numerics.vectors import LANES, jit, mean_1, mean_4, scores
from mendel.serve.protocols import F32

PAGE = LANES  # tokens of a page, so that keys of a page fill the lanes


@jit
def remember(k: F32, v: F32, arena: F32, at: int, slot: int, D: int, wide: int) -> None:
    """A head's key and value into a page: keys (D, PAGE), then values (PAGE, wide)."""
    keys = arena[at : at + D * PAGE]
    for d in range(D):
        keys[d * PAGE + slot] = k[d]
    values = arena[at + D * PAGE + slot * wide : at + D * PAGE + slot * wide + D]
    for d in range(D):
        values[d] = v[d]


@jit
def attend(
    q: F32, q_at: int, arena: F32, table: np.ndarray, more: int, first: int, position: int, D: int,
    wide: int, w: F32, w_at: int, y: F32, y_at: int,
) -> None:  # fmt: skip
    """One head's query at a position over the keys from `first` on, in the order of positions.

    q      scaled already
    table  where each page of the text lies; `more` into it lies this head
    w      room for as many scores as the pages have
    y      (wide,)
    """
    page, last = first // PAGE, position // PAGE
    start = page * PAGE
    for i in range(page, last + 1):
        scores(q, q_at, arena, table[i] + more, w, w_at + i * PAGE - start, D)
    row = w[w_at : w_at + position + 1 - start]
    skipped = first - start
    seen = row[skipped:]
    high = seen[0]
    for i in range(len(seen)):
        high = max(high, seen[i])
    total = np.float32(0)
    for i in range(len(seen)):
        seen[i] = exp(seen[i] - high)
    for i in range(len(seen)):
        total += seen[i]
    out = y[y_at : y_at + wide]
    for d in range(wide):
        out[d] = np.float32(0)
    for i in range(page, last + 1):
        low = skipped if i == page else 0
        n = min(position + 1 - i * PAGE, PAGE) - low
        values = table[i] + more + D * PAGE + low * wide
        here = w_at + i * PAGE - start + low
        d = 0
        while d + 4 * LANES <= wide:
            mean_4(w, here, arena, values + d, wide, y, y_at + d, n)
            d += 4 * LANES
        while d < wide:
            mean_1(w, here, arena, values + d, wide, y, y_at + d, n)
            d += LANES
    scale = np.float32(1) / total
    for d in range(wide):
        out[d] *= scale


@jit
def convolve(x: F32, y: F32, taps: F32, before: F32, after: F32, K: int) -> None:
    """One token of a causal convolution a channel; taps (K, C), before and after (K - 1, C)."""
    C = len(x)
    newest = taps[(K - 1) * C : K * C]
    for c in range(C):
        y[c] = np.float32(0)
    for j in range(K - 1):
        old, tap = before[j * C : (j + 1) * C], taps[j * C : (j + 1) * C]
        for c in range(C):
            y[c] += tap[c] * old[c]
    for c in range(C):
        y[c] += newest[c] * x[c]
    for j in range(1, K - 1):
        source, target = before[j * C : (j + 1) * C], after[(j - 1) * C : j * C]
        for c in range(C):
            target[c] = source[c]
    if K > 1:
        target = after[(K - 2) * C : (K - 1) * C]
        for c in range(C):
            target[c] = x[c]


@jit
def shift(x: F32, y: F32, share: F32, before: F32, after: F32) -> None:
    """y = x + share (the token before - x)."""
    for c in range(len(x)):
        old = before[c]
        after[c] = x[c]
        y[c] = x[c] + share[c] * (old - x[c])


@jit
def delta_key(r: F32, k: F32, a: F32, per_channel: bool, is_half: bool) -> None:
    """r = a k, what a lone erasing key reads with; rounded where torch rounds."""
    for d in range(len(k)):
        decay = a[d] if per_channel else a[0]
        r[d] = round_one(round_one(decay) * k[d]) if is_half else decay * k[d]


@jit
def recur(
    S: F32, S2: F32, k: F32, v: F32, w: np.float32, a: F32, per_channel: bool, r: F32, p: F32,
    kind: int, u: F32,
) -> None:  # fmt: skip
    """S2 = a S + w k v^T - p (r^T S); kind 0: no erasing, 1: p = w k, 2: p as given.

    S S2   (D, V); the same memory may be both
    a      (1,) or (D,), the decay itself
    u      (V,), room
    """
    D, V = len(k), len(v)
    if kind:
        for j in range(V):
            u[j] = np.float32(0)
        for d in range(D):
            row, scale = S[d * V : (d + 1) * V], r[d]
            for j in range(V):
                u[j] += scale * row[j]
    if kind == 1:
        for j in range(V):
            u[j] = v[j] - u[j]
    for d in range(D):
        row, new = S[d * V : (d + 1) * V], S2[d * V : (d + 1) * V]
        decay = a[d] if per_channel else a[0]
        write = w * k[d]
        if kind == 1:
            for j in range(V):
                new[j] = decay * row[j] + write * u[j]
        elif kind == 2:
            for j in range(V):
                new[j] = decay * row[j] - p[d] * u[j] + write * v[j]
        else:
            for j in range(V):
                new[j] = decay * row[j] + write * v[j]


@jit
def read(S: F32, q: F32, y: F32) -> None:
    """y = S^T q."""
    V = len(y)
    for j in range(V):
        y[j] = np.float32(0)
    for d in range(len(q)):
        row, scale = S[d * V : (d + 1) * V], q[d]
        for j in range(V):
            y[j] += scale * row[j]

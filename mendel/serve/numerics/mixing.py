"""What goes over the tokens of a text: attention over pages, recurrences and convolutions.

Every text is gone over in the order of its positions, so that its cuts leave no trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mendel.serve.numerics.rows import round_one
from mendel.serve.numerics.softmax import softened
from mendel.serve.numerics.vectors import (
    LANES,
    QUERIES,
    jit,
    mean_1,
    mean_1_all,
    mean_4,
    mean_4_all,
    ordered,
    scores_1,
    scores_all,
    update_1,
    update_2,
)  # fmt: skip
from mendel.serve.protocols import F32

PAGE = LANES  # tokens of a page, so that keys of a page fill the lanes
UNSEEN = np.float32(-1e30)  # the score of a key that a query may not see


@jit
def remember(k: F32, v: F32, pages: F32, at: int, slot: int, D: int, wide: int) -> None:
    """A head's key and value into a page: keys (D, PAGE), then values (PAGE, wide)."""
    keys = pages[at : at + D * PAGE]
    for d in range(D):
        keys[d * PAGE + slot] = k[d]
    values = pages[at + D * PAGE + slot * wide : at + D * PAGE + slot * wide + D]
    for d in range(D):
        values[d] = v[d]


@jit
def remember_halves(
    k: F32, v: F32, pages: np.ndarray, at: int, slot: int, D: int, wide: int
) -> None:
    """The same for numbers that are bf16's."""
    key, value = k.view(np.int32), v.view(np.int32)
    keys = pages[at : at + D * PAGE]
    for d in range(D):
        keys[d * PAGE + slot] = np.uint16(key[d] >> np.int32(16))
    values = pages[at + D * PAGE + slot * wide : at + D * PAGE + slot * wide + D]
    for d in range(D):
        values[d] = np.uint16(value[d] >> np.int32(16))


@jit
def earliest(position: int, window: int) -> Any:
    """That a query at a position sees; window 0: all."""
    return max(0, position + 1 - window) if window else 0


@ordered
def weights_of(room: F32, at: int, first: int, last: int) -> Any:
    """Scores of whole pages, of which those before first and after last are not seen, as weights.

    They become 1e-38 or less, too little for the sum, which is returned.
    """
    n = last // PAGE + 1
    for i in range(at, at + first):
        room[i] = UNSEEN
    for i in range(at + last + 1, at + n * PAGE):
        room[i] = UNSEEN
    return softened(room, at, n)


@ordered
def attend(
    n: int, room: F32, at: int, pages: np.ndarray, unit: int, table: np.ndarray, more: int,
    start: int, j: int, n_heads: int, window: int, D: int, wide: int,
) -> None:  # fmt: skip
    """n queries j, j + 1, ... of one head of keys, each over what it sees in order of positions.

    room     from `at` on: queries (QUERIES, wide), scaled already; what they give, of the same
             shape; their sums of weights; then room for as many scores as the pages have
    table    where each page of the text lies, in units; `more` into it lies this head
    n_heads  of queries: query j is of position start + j // n_heads
    """
    y, totals = at + QUERIES * wide, at + 2 * QUERIES * wide
    w = totals + LANES
    low, high = start + j // n_heads, start + (j + n - 1) // n_heads
    page, last = earliest(low, window) // PAGE, high // PAGE
    ld = (last + 1 - page) * PAGE
    for i in range(page, last + 1):
        keys, to = table[i] * unit + more, w + (i - page) * PAGE
        if n == QUERIES:
            scores_all(room, at, wide, pages, keys, room, to, ld, D)
        else:
            for r in range(n):
                scores_1(room, at + r * wide, 0, pages, keys, room, to + r * ld, 0, D)
    for r in range(n):
        position = start + (j + r) // n_heads
        begin = earliest(position, window)
        own = begin // PAGE * PAGE
        row = w + r * ld + own - page * PAGE
        room[totals + r] = weights_of(room, row, begin - own, position - own)
    for i in range(y, y + n * wide):
        room[i] = np.float32(0)
    for i in range(page, last + 1):
        values, first = table[i] * unit + more + D * PAGE, i * PAGE
        if n == QUERIES and first >= earliest(high, window) and first + PAGE <= low + 1:
            means(n, PAGE, room, w + first - page * PAGE, ld, pages, values, wide, y)
            continue
        for r in range(n):
            position = start + (j + r) // n_heads
            begin = max(earliest(position, window), first)
            here = w + r * ld + begin - page * PAGE
            n_seen = min(position + 1, first + PAGE) - begin
            if n_seen > 0:
                row = values + (begin - first) * wide
                means(1, n_seen, room, here, ld, pages, row, wide, y + r * wide)
    for r in range(n):
        scale = np.float32(1) / room[totals + r]
        out = room[y + r * wide : y + (r + 1) * wide]
        for d in range(wide):
            out[d] *= scale


@ordered
def means(
    n: int, n_keys: int, room: F32, w: int, ld: int, pages: np.ndarray, values: int, wide: int,
    y: int,
) -> None:  # fmt: skip
    """y += weights times the values of a page, for QUERIES queries or one."""
    d = 0
    if n == 1:
        while d + 4 * LANES <= wide:
            mean_4(room, w, 0, pages, values + d, wide, room, y + d, 0, n_keys)
            d += 4 * LANES
        while d < wide:
            mean_1(room, w, 0, pages, values + d, wide, room, y + d, 0, n_keys)
            d += LANES
        return
    while d + 4 * LANES <= wide:
        mean_4_all(room, w, ld, pages, values + d, wide, room, y + d, wide, n_keys)
        d += 4 * LANES
    while d < wide:
        mean_1_all(room, w, ld, pages, values + d, wide, room, y + d, wide, n_keys)
        d += LANES


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
def delta_key(r: F32, k: F32, decay: F32, per_channel: int, is_half: bool) -> None:
    """r = a k, what a lone erasing key reads with; rounded where torch rounds."""
    for d in range(len(k)):
        a = decay[d * per_channel]
        r[d] = round_one(round_one(a) * k[d]) if is_half else a * k[d]


@ordered
def weighted(w: F32, w_at: int, S: F32, at: int, n: int, wide: int, y: F32, y_at: int) -> None:
    """y = the sum over n rows of S, of `wide` numbers, each times its weight."""
    out = y[y_at : y_at + wide]
    for j in range(wide):
        out[j] = np.float32(0)
    j = 0
    while j + 4 * LANES <= wide:
        mean_4(w, w_at, 0, S, at + j, wide, y, y_at + j, 0, n)
        j += 4 * LANES
    while j < wide:
        mean_1(w, w_at, 0, S, at + j, wide, y, y_at + j, 0, n)
        j += LANES


@ordered
def recur(
    S: F32, at: int, S2: F32, at_2: int, decay: F32, decay_at: int, per_channel: int, kind: int,
    room: F32, own: int, D: int, wide: int,
) -> None:  # fmt: skip
    """S2 = a S + c v^T - p (r^T S), S of D rows; kind 0: no erasing, 1: p = c, 2: p as given.

    room   from `own` on: r, p, c of D numbers each, then v and r^T S, each `wide`
    """
    r, p, c = own, own + D, own + 2 * D
    v, u = own + 3 * D, own + 3 * D + wide
    if kind:
        weighted(room, r, S, at, D, wide, room, u)
    values, erased = room[v : v + wide], room[u : u + wide]
    if kind == 1:
        for j in range(wide):
            values[j] -= erased[j]
    for j in range(0, wide, LANES):
        if kind == 2:
            update_2(
                S, at + j, S2, at_2 + j, wide, decay, decay_at, per_channel, room, c, room, v + j,
                room, p, room, u + j, D,
            )  # fmt: skip
        else:
            update_1(
                S, at + j, S2, at_2 + j, wide, decay, decay_at, per_channel, room, c, room, v + j,
                room, p, room, u + j, D,
            )  # fmt: skip

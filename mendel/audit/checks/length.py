"""No output knows how long the sequence is: a prefix alone gives the prefix of the output."""

from __future__ import annotations

from torch import Tensor

from mendel.audit.auditor import Auditor


def check(a: Auditor) -> None:
    if a.found("causality"):
        a.skip("length", "later content leaks, and hides it")
        return
    if not a.comparable("length"):
        return
    for long in _longs(a):
        for short in [T for T in a.lengths if long > T]:
            if _at(a, short, long):
                return


def _longs(a: Auditor) -> list[int]:
    return a.lengths[-1:] if not a.full or a.wide else [T for T in a.lengths if T > 1][-1:-8:-3]


def _at(a: Auditor, short: int, long: int) -> bool:
    x = a.draw(1 if a.wide else 2, long, 300 + long)
    whole, prefix = a.rows(x).y, a.rows(x[:, :short]).y
    if whole is None or prefix is None:
        return False
    if whole.shape[2:] != prefix.shape[2:]:
        a.skip("length", "outputs have another shape at another length")
        return False
    pair = a.apart(whole[:, :short], prefix, lambda: [a.noise(x)[:, :short], a.noise(x[:, :short])])
    if pair is None:
        return False
    row, at = pair.worst
    a.report(
        "length",
        f"output {at} is another one in a sequence of {short} than in one of {long} that begins "
        "with it",
        sure=f"it moves by {float(pair.gap[row]):.3g}, {pair.margin:.2g} times the measured floor "
        f"({a.dtype}), though changing later content moves nothing",
        cause=_cause(whole[:, :short] - prefix),
        reproduce=a.recipe(
            2, long, 300 + long, f"compare model(x)[:, :{short}], model(x[:, :{short}])"
        ),
        gap=float(pair.gap[row]),
        floor=float(pair.floor[row]),
        short=short,
        long=long,
    )
    return True


def _cause(gaps: Tensor) -> str:
    size = gaps.abs().reshape(gaps.shape[0], gaps.shape[1], -1).amax(-1).amax(0)
    n_moved = int((size > 1e-3 * size.max()).sum())
    if n_moved <= max(1, gaps.shape[1] // 8):
        return "padding or the end of a chunk: only few positions move"
    return (
        "positions counted from the end, divided by or offset by the length; a temperature or a "
        "scale that depends on the length"
    )

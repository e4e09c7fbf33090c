"""Token by token equals all at once, where a state is carried."""

from __future__ import annotations

import torch

from mendel.audit.auditor import Auditor


def check(a: Auditor) -> None:
    if a.facts.state is None:
        a.skip("step", "forward takes no state (name its argument by --state)")
        return
    if a.found("causality") or a.found("length"):
        a.skip("step", "what comes later leaks")
        return
    if not a.comparable("step"):
        return
    sizes: dict[int, int] = {}
    for T, pieces in _splits(a):
        if _at(a, T, pieces, sizes):
            return
    _size(a, sizes)


def _splits(a: Auditor) -> list[tuple[int, tuple[int, ...]]]:
    short = a.short
    found = [(short, (1,) * short)]
    for T in a.fits(65, 330) if not a.full else a.fits(33, 65, 130, 200, 257):
        found.append((T, _pieces(T)))
    return found


def _pieces(T: int) -> tuple[int, ...]:
    """Uneven ones, single steps among them, across chunk borders."""
    pieces: list[int] = []
    for size in (20, 1, 1, 43, 64, 1, 3, 67, 1):
        pieces.append(min(size, T - sum(pieces)))
    pieces.append(T - sum(pieces))
    return tuple(p for p in pieces if p > 0)


def _at(a: Auditor, T: int, pieces: tuple[int, ...], sizes: dict[int, int]) -> bool:
    x = a.draw(2, T, 700 + T)
    whole, parts = a.rows(x), a.rows(x, pieces=pieces)
    if whole.y is None:
        return False
    if parts.y is None:
        return _refused(a, T, pieces, parts.error or "")
    if parts.state_bytes is not None:
        sizes[T] = parts.state_bytes // (1 if a.alone else 2)
    if parts.wrote_input:
        return _overwrites(a, T, pieces)
    pair = a.apart(whole.y, parts.y, lambda: [a.noise(x), a.noise(x, pieces=pieces)])
    if pair is None:
        return False
    row, at = pair.worst
    borders = torch.tensor(pieces).cumsum(0).tolist()
    a.report(
        "step",
        f"fed in pieces of {_some(pieces)}, with its state, it gives another output than at once",
        sure=f"output {at} differs by {float(pair.gap[row]):.3g}, {pair.margin:.2g} times the "
        f"measured floor ({a.dtype})",
        cause="something is not carried (a convolution's last inputs, the position) or done twice "
        "at a border",
        reproduce=a.recipe(2, T, 700 + T, f"{a.facts.state} carried over borders {borders[:4]}"),
        gap=float(pair.gap[row]),
        floor=float(pair.floor[row]),
        T=T,
        pieces=list(pieces),
    )
    return True


def _overwrites(a: Auditor, T: int, pieces: tuple[int, ...]) -> bool:
    a.report(
        "step",
        "it changes the state that it is given, so that nobody can go on from it twice",
        sure="the tensors of the state differ after the call",
        cause="an in-place operation on the state",
        reproduce=a.recipe(2, T, 700 + T, f"keep a copy of {a.facts.state}; compare after a call"),
        pieces=list(pieces),
    )
    return True


def _refused(a: Auditor, T: int, pieces: tuple[int, ...], error: str) -> bool:
    if a.claims.state is None:
        a.skip("step", f"what forward returned was not taken as {a.facts.state}: {error}")
        return True
    a.report(
        "step",
        f"it cannot go on from its own state, in pieces of {_some(pieces)}",
        sure=f"it raised {error}",
        cause="the state has another shape or layout than forward takes",
        reproduce=a.recipe(2, T, 700 + T, f"give what it returned as {a.facts.state}"),
    )
    return True


def _size(a: Auditor, sizes: dict[int, int]) -> None:
    """A state that is claimed constant or of a size is held to it."""
    if not sizes:
        return
    scale = 2 if a.dtype == "float64" else 1  # to bytes in float32
    (_, least), (T, most) = min(sizes.items()), max(sizes.items())
    a.measured["state_bytes"] = {str(length): size // scale for length, size in sizes.items()}
    stated = a.claims.state_bytes
    if stated is not None and most // scale != stated:
        what = f"the state of a row has {most // scale} bytes after {T} tokens, stated are {stated}"
    elif a.claims.linear and most > least * 1.5 and most > 1.5 * sizes.get(65, least):
        what = f"the state grows: {least // scale} bytes, and {most // scale} after {T} tokens"
    else:
        return
    a.report(
        "step",
        what,
        sure="counted: all tensors of the state, as float32",
        cause="it keeps keys or inputs of every token",
        reproduce=a.recipe(1, T, 700 + T, "count the bytes of what it returns"),
        sizes=a.measured["state_bytes"],
    )


def _some(pieces: tuple[int, ...]) -> str:
    told = ", ".join(map(str, pieces[:4]))
    return told + (", ..." if len(pieces) > 4 else "")

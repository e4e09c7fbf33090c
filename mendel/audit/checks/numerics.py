"""Extreme inputs give finite outputs; a NaN is never swallowed, and where it spreads is told."""

from __future__ import annotations

import torch
from torch import Tensor

from mendel.audit.auditor import Auditor
from mendel.audit.subject import Call

DRIFT, STEEP = 0.02, 6.0  # most sound modules are below 0.024, and below 3.3 times


def check(a: Auditor) -> None:
    base = a.draw(2, a.lengths[-1], 900)
    meant: Tensor | None = None  # -infinity on ordinary inputs too: a padded vocabulary
    for name, x in _inputs(a, base):
        answer = a.subject.calls([Call(x)], "float32")[0]
        if answer.y is None:
            continue
        meant = answer.y == -torch.inf if meant is None else meant
        wrong = ~answer.y.isfinite() & ~(meant & (answer.y == -torch.inf))
        if wrong.any():
            _report(a, name, wrong, "NaN" if answer.y.isnan().any() else "infinity")
            break
    if not a.found("numerics"):
        _drift(a)
    if a.spec.kind == "float":
        _nan(a, base[:, : max((T for T in a.lengths if T <= 65), default=a.lengths[0])])


def _inputs(a: Auditor, x: Tensor) -> list[tuple[str, Tensor]]:
    if a.spec.kind == "tokens":
        return [("one token repeated", torch.full_like(x, v)) for v in (0, a.spec.vocab - 1)]
    return [
        ("standard normals", x),
        ("zeros", x * 0),
        ("ones", x * 0 + 1),
        ("one position repeated", x[:, :1].expand_as(x)),
        ("inputs of size 100", x * 1e2),
        ("inputs of size 10,000", x * 1e4),
        ("inputs of size 1e-8", x * 1e-8),
        ("inputs of size 1e-30", x * 1e-30),
    ]


def _report(a: Auditor, name: str, wrong: Tensor, kind: str) -> None:
    at = int(wrong.reshape(len(wrong), wrong.shape[1], -1).any(-1).any(0).nonzero()[0])
    a.report(
        "numerics",
        f"{name} give {kind}, first at position {at}",
        sure=f"{int(wrong.sum())} of {wrong.numel()} outputs, float32",
        cause={"zeros": "a division by a norm, a variance or a sum that is 0: add an epsilon",
               "ones": "a division by a variance that is 0: add an epsilon"}.get(
            name, "an exponential or a power that overflows, or a sum that becomes 0 and divides"
        ),
        reproduce=a.recipe(2, wrong.shape[1], 900, f"{name}, float32", "float32"),
        position=at,
    )  # fmt: skip


def _drift(a: Auditor) -> None:
    """In bfloat16 a position above 256 is another one; what is sound is as exact late as early."""
    T = a.lengths[-1]
    if T < 64 or "bfloat16" in a.facts.dtypes or a.unstable or a.noisy:
        return
    x = a.draw(2, T, 950)
    x = x.bfloat16().to(x.dtype) if a.spec.kind == "float" else x
    exact, coarse = (a.subject.calls([Call(x)], dtype)[0].y for dtype in ("rounded", "bfloat16"))
    if exact is None or coarse is None:
        return
    exact, coarse = (y.nan_to_num(0, 0, 0) for y in (exact, coarse))
    error = (exact - coarse).square().reshape(2, T, -1).mean((0, 2)).sqrt()
    scale = exact.square().mean().sqrt().clamp_min(1e-30)
    early, late = (float(part.mean() / scale) for part in (error[: T // 8], error[-(T // 8) :]))
    a.measured["error_in_bfloat16"] = {"early": early, "late": late}
    if late > DRIFT and late > STEEP * early:
        a.report(
            "numerics",
            f"in bfloat16 the error grows with the position: {early:.2%} early, {late:.2%} late",
            level="warning",
            sure=f"root mean square against float32 on the same rounded weights and inputs, T={T}; "
            "a module without positions or a long memory is as exact late as early",
            cause="positions, angles or counts in the input's type, which is exact to 256 only; or "
            "a memory so long that sums in bfloat16 lose what is added",
            reproduce=a.recipe(2, T, 950, "compare bfloat16 and float32", "bfloat16"),
            early=early,
            late=late,
        )


def _nan(a: Auditor, base: Tensor) -> None:
    """A NaN in one position: it must be seen from there on, and only locates what is before."""
    u = base.shape[1] // 2
    x = base.clone()
    x[:, u] = float("nan")
    answer = a.subject.calls([Call(x)], "float32")[0]
    if answer.y is None:
        return
    bad = answer.y.isnan().reshape(len(x), base.shape[1], -1).any(-1)
    if not bad.any():
        other = base.index_fill(1, torch.tensor([u]), 3.0)
        one, two = (a.subject.calls([Call(which)], "float32")[0].y for which in (base, other))
        if one is not None and two is not None and torch.equal(one, two):
            return  # no output reads that input at all
        a.report(
            "numerics",
            "a NaN in the input is swallowed: the output is finite everywhere",
            sure=f"all of input {u} was NaN, float32",
            cause="nan_to_num, a comparison, where() or a maximum that prefers numbers",
            reproduce=a.recipe(2, base.shape[1], 900, f"x[:, {u}] = nan", "float32"),
            position=u,
        )
    elif bad[:, :u].any() and not a.found("causality") and not a.claims.bidirectional:
        first = int(bad.any(0).nonzero()[0])
        a.report(
            "numerics",
            f"a NaN at input {u} reaches outputs from {first} on, though no content leaks",
            level="warning",
            sure="float32; finite changes of the same input move nothing before it",
            cause="masking by multiplication: 0 x NaN is NaN. Sound for finite numbers",
            reproduce=a.recipe(2, base.shape[1], 900, f"x[:, {u}] = nan", "float32"),
            position=u,
        )

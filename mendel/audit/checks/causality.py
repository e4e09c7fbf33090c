"""No output reads a later input: by changing inputs, and by gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mendel.audit.auditor import MARGIN, Auditor, CallFailed, Pair, quantile
from mendel.audit.cause import explain, trace

# how the inputs from a cut on are changed: drawn anew, one of them alone, all large, ...
MILD, HARD = ("suffix", "single", "up"), ("loud", "down", "zero", "faint")
JACOBIANS = (3, 17, 65, 129, 200)  # lengths of a wide module's
MIXED = ("suffix", "loud", "single", "up", "down")


@dataclass(frozen=True)
class Plan:
    """One batch of inputs and the ways in which they are changed."""

    T: int
    n_rows: int
    train: bool = False
    kinds: tuple[tuple[str, ...], ...] = (MILD, HARD)
    jacobian: bool = True
    scale: float = 1.0  # of all inputs
    dtype: str | None = None  # None: the finest

    @property
    def salt(self) -> int:
        return self.T + 7 * self.train


def check(a: Auditor) -> None:
    for plan in _plans(a):
        with a.using(plan.dtype):
            if _at(a, plan):
                return


def _plans(a: Auditor) -> list[Plan]:
    """Short lengths with every cut, long ones for what begins behind a chunk or needs its end."""
    lengths = [T for T in a.lengths if T > 1]
    if not a.full:
        plans = _quick_plans(a, lengths)
    elif a.wide:
        plans = [Plan(T, 2, kinds=(MIXED,), jacobian=T in JACOBIANS) for T in lengths]
        plans += [Plan(T, 2, True, (MIXED,), False) for T in lengths if T in JACOBIANS]
    else:  # 17 first: long enough to tell from a leak what it comes from
        first = sorted(lengths, key=lambda T: T != 17)
        plans = [Plan(T, 20 if T <= 65 else 10) for T in first]
        plans += [Plan(T, 20, True) for T in first if T <= 65]
        plans += [Plan(T, 6, True, (MIXED,), T in JACOBIANS) for T in first if T > 65]
    return [*plans, *_odd_plans(a, lengths)]


def _quick_plans(a: Auditor, lengths: list[int]) -> list[Plan]:
    many, few = (5, 2) if a.wide else (21, 8)
    plans = [Plan(T, many) for T in reversed(lengths) if T <= 17]
    plans += [Plan(T, few if T < 100 else 5, False, (MIXED,), T == 65) for T in lengths if T > 17]
    plans.append(Plan(lengths[-1], 4, True, (MIXED,), False))
    return plans + [Plan(T, many, True) for T in lengths if T == 17]


def _odd_plans(a: Auditor, lengths: list[int]) -> list[Plan]:
    """Inputs so large that a mask of -10,000 is none; precisions that take another path."""
    T = max((T for T in lengths if T <= 17), default=lengths[0])
    plans = [Plan(T, 10, kinds=(("suffix", "single"),), jacobian=False, scale=1e3)]
    for dtype in ("float32", "bfloat16"):
        if dtype not in a.facts.dtypes and dtype != a.dtype:
            plans.append(Plan(T, 10, kinds=(("suffix", "up"),), jacobian=False, dtype=dtype))
    return plans if a.spec.kind == "float" else plans[1:]


def _at(a: Auditor, plan: Plan) -> bool:
    x = a.draw(plan.n_rows, plan.T, plan.salt)
    x = x * plan.scale if plan.scale != 1 else x
    cuts = _cuts(plan.T, plan.n_rows)
    try:
        leak = _by_change(a, plan, x, cuts)
        if leak is None and plan.jacobian:
            leak = _by_gradient(a, plan, x, cuts)
    except CallFailed as error:
        a.skip("causality", f"at T={plan.T} a call failed: {error}")
        return False
    if leak is None:
        return False
    _report(a, plan, x, cuts, *leak)
    return True


def _cuts(T: int, n: int) -> Tensor:
    """(n,) first changed positions: spread out, both sides of chunk borders among them."""
    borders = [u for c in (16, 32, 64, 128, 256) for u in (c - 1, c, c + 1, c + 2) if 0 < u < T]
    spread = torch.linspace(1, T - 1, max(n - len(borders) // 2, n // 2)).round().long().tolist()
    chosen = sorted({*spread, *borders[-(n // 2) :], T - 1, 1})
    while len(chosen) < n:
        chosen += chosen
    picks = torch.linspace(0, len(chosen) - 1, n).round().long()
    return torch.tensor(chosen)[picks]


def _by_change(a: Auditor, plan: Plan, x: Tensor, cuts: Tensor) -> tuple[str, Pair] | None:
    y = a.rows(x, train=plan.train, seed=plan.salt)
    if y.y is None:
        raise CallFailed(y.error or "no answer")
    for kinds in plan.kinds:
        changed = _change(a, plan, x, cuts, kinds)
        y2 = a.rows(changed, train=plan.train, seed=plan.salt)
        if y2.y is None:
            raise CallFailed(y2.error or "no answer")
        pair = _judge(a, plan, (x, changed), (y.y, y2.y), cuts)
        if pair is not None:
            row = pair.worst[0]
            return kinds[row % len(kinds)], pair
    return None


def _change(a: Auditor, plan: Plan, x: Tensor, cuts: Tensor, kinds: tuple[str, ...]) -> Tensor:
    other = a.draw(len(x), plan.T, plan.salt + 500_000)
    other = other * plan.scale if plan.scale != 1 else other
    changed = x.clone()
    for i, u in enumerate(cuts.tolist()):
        kind = kinds[i % len(kinds)]
        end = u + 1 if kind == "single" else x.shape[1]
        changed[i, u:end] = _replacement(a, kind, x[i, u:end], other[i, u:end])
    return changed


def _replacement(a: Auditor, kind: str, old: Tensor, new: Tensor) -> Tensor:
    if a.spec.kind == "tokens":
        vocab = a.spec.vocab
        moved = {"up": vocab - 1, "down": 0, "zero": 1 % vocab}
        return torch.full_like(old, moved[kind]) if kind in moved else (old + 1 + new) % vocab
    if kind == "loud":
        return new * 1e3
    if kind in ("up", "down"):
        return (new.abs() + 4) * (1 if kind == "up" else -1)
    return {"faint": old + 1e-3 * new, "zero": torch.zeros_like(old)}.get(kind, new)


def _judge(
    a: Auditor, plan: Plan, xs: tuple[Tensor, Tensor], ys: tuple[Tensor, Tensor], cuts: Tensor
) -> Pair | None:
    before = torch.arange(plan.T)[None] < cuts[:, None]
    pair = a.compare(*ys, before, [])
    if not pair.real.any():
        _note_broken(a, plan, pair)
        return None
    rows = pair.clearest(8)
    how: dict[str, Any] = {"train": plan.train, "seed": plan.salt}
    noises = []
    for x in reversed(xs):  # the changed one is the louder: most rounding ends here
        noises.append(a.noise(x[rows], **how))
        pair = a.compare(ys[0][rows], ys[1][rows], before[rows], noises)
        if not pair.real.any():
            return None
    if a.unstable:  # what equal calls differ by, tenfold
        again = a.rows(xs[0][rows], **how).y
        moved = 0.0 if again is None else 10 * float((again - ys[0][rows]).abs().max())
        pair = replace(pair, floor=pair.floor.clamp_min(moved))
    return pair.at(rows, len(cuts)) if pair.real.any() else None


def _note_broken(a: Auditor, plan: Plan, pair: Pair) -> None:
    if pair.broken.any():
        a.note("a large later input makes earlier outputs infinite or NaN: see numerics")


def _by_gradient(a: Auditor, plan: Plan, x: Tensor, cuts: Tensor) -> tuple[str, Pair] | None:
    """Cotangents on the outputs before the cut: no gradient may arrive from the cut on."""
    before = torch.arange(plan.T)[None] < cuts[:, None]
    how: dict[str, Any] = {"train": plan.train, "seed": plan.salt}
    one = a.rows(x[:1], **how).y
    if one is None:
        return None
    cotangent = torch.randn(
        (len(x), *one.shape[1:]),
        generator=torch.Generator().manual_seed(plan.salt),
        dtype=torch.float64,
    ) * before.reshape(*before.shape, *[1] * (one.dim() - 2))
    answer = a.rows(x, cotangent=cotangent, **how)
    if answer.gradient is None:
        a.note(f"the Jacobian was not looked at: {answer.error}")
        return None
    late = answer.gradient.reshape(len(x), plan.T, -1).abs().amax(-1) * ~before
    floor = a.rounding * answer.gradient.reshape(len(x), -1).abs().amax(1)
    if not (late.amax(1) > floor).any():
        return None
    noise = a.noise(x, "gradient", cotangent=cotangent, **how)
    floor = torch.maximum(
        floor, MARGIN[a.dtype] * quantile(noise.reshape(len(x), plan.T, -1), ~before)
    )
    over = late / floor.clamp_min(1e-300)[:, None]
    pair = Pair(
        late.amax(1), floor, torch.zeros(len(x), dtype=torch.bool),
        divmod(int(over.argmax()), plan.T),
    )  # fmt: skip
    return ("gradient", pair) if pair.real.any() else None


def _report(a: Auditor, plan: Plan, x: Tensor, cuts: Tensor, how: str, pair: Pair) -> None:
    row, at = pair.worst
    cut, mode = int(cuts[row]), " in train mode" if plan.train else ""
    gap, floor = float(pair.gap[row]), float(pair.floor[row])
    if how == "gradient":
        seen = f"the gradient of outputs before {cut} reaches input {at}: {gap:.3g}"
    else:
        seen = f"inputs from {cut} on changed ({how}), and output {at} moved by {gap:.3g}"
    leaks = trace(a, x[row : row + 1], plan.train, plan.salt, plan.scale)
    pairs = sorted(leaks, key=lambda leak: -leak.amount)[:5]
    told = [f"output {p.t} reads input {p.u}: {p.amount:.3g}" for p in pairs]
    a.report(
        "causality",
        f"outputs read later inputs{mode}" + (f"; {told[0]}" if told else ""),
        sure=f"{seen}, {pair.margin:.2g} times the floor of {floor:.2g}, which was measured "
        f"({a.dtype}); {int(pair.real.sum())} of {len(x)} rows show it",
        cause=explain(leaks, plan.T, plan.train),
        reproduce=_reproduce(a, plan, row, cut, how),
        pairs=[(p.t, p.u, p.amount) for p in pairs],
        gap=gap,
        floor=floor,
        T=plan.T,
        train=plan.train,
        by=how,
    )


# the change of each kind, as a reader would write it; z is another draw
WRITTEN = {
    "suffix": "z[:, {u}:]", "single": "z[:, {u}:{u} + 1]", "loud": "z[:, {u}:] * 1e3",
    "up": "z[:, {u}:].abs() + 4", "down": "-z[:, {u}:].abs() - 4",
    "faint": "x[:, {u}:] + 1e-3 * z[:, {u}:]", "zero": "0 * z[:, {u}:]",
}  # fmt: skip


def _reproduce(a: Auditor, plan: Plan, row: int, cut: int, how: str) -> str:
    """Lines to run; then compare model(x) and model(changed) before the cut."""
    one = f"[{row}:{row + 1}]" + (f" * {plan.scale:g}" if plan.scale != 1 else "")
    seeds = (a.seed * 1_000_003 + plan.salt + offset for offset in (0, 500_000))
    n_rows = plan.n_rows
    first, second = (f"spec.draw({n_rows}, {plan.T}, seed={seed}){one}" for seed in seeds)
    mode = f"{a.dtype}, {'train' if plan.train else 'eval'} mode, torch.manual_seed({plan.salt})"
    lines = [
        "from mendel.audit import InputSpec",
        f"spec = InputSpec.parse({str(a.spec)!r})",
        f"x, z = {first}, {second}",
    ]
    if how == "gradient" or a.spec.kind == "tokens":
        lines.append(f"# {mode}: outputs before {cut} depend on inputs from {cut} on")
        return "; ".join(lines[:-1]) + f"  {lines[-1]}"
    end = f"{cut} + 1" if how == "single" else ""
    lines += [
        "changed = x.clone()",
        f"changed[:, {cut}:{end}] = {WRITTEN[how].format(u=cut)}",
        f"x, changed = spec.lay_out(x), spec.lay_out(changed)  # {mode}: they differ before {cut}",
    ]
    return "; ".join(lines)

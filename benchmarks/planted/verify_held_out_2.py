"""Is each fault of the second held-out set real? By brute force, without the auditor.

    cd benchmarks; python -m planted.verify_held_out_2 [PART OF A NAME ...]

One line a case with the size, in the outputs' sd, on standard normals in float64 unless said
otherwise, beside a control in which the fault is to be silent. Exit 1 where one is not real.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from . import Case
from .held_out_2 import HELD_OUT_2
from .verify_held_out import (
    NOISE,
    WIDTH,
    Verdict,
    apart,
    built,
    by_batch,
    future,
    leak,
    lengths,
    normals,
    out,
    steps,
)

Rule = Callable[[Case], Verdict]


@torch.no_grad()
def patches(case: Case) -> Verdict:
    """Outputs that move with later tokens, in the first patch and behind it."""
    module, inside, behind, T = built(case), 0.0, 0.0, 64
    draw = torch.Generator().manual_seed(1)
    for _ in range(8):
        x, y = (torch.randint(0, 50, (1, T), generator=draw) for _ in range(2))
        before = out(module, x)
        for u in range(1, T):
            other = torch.cat((x[:, :u], y[:, u:]), 1)
            moved = (out(module, other) - before)[:, :u].abs().amax(-1)[0] / before.std()
            first = (x[0, :u] < 6).long().cumsum(0).roll(1)
            first[0] = 0
            inside = max(inside, moved[first == 0].max().item())
            behind = max(behind, moved[first > 0].amax().item() if (first > 0).any() else 0.0)
    text = f"later tokens move the first patch by {inside:.1e}, what is behind it by {behind:.1e}"
    return Verdict(inside > 1e-5 and behind < NOISE, text)


def span(case: Case) -> Verdict:
    text, sizes = future({"T": 64}, {"T": 12})(case), []
    sizes = [by_batch(case, T, texts=4) for T in (64, 12)]
    rows = f"; other rows move a row by {sizes[0][0]:.1e}, in {sizes[0][1]:.0%} of batches"
    return Verdict(text.real and sizes[0][0] > 1e-5 and sizes[1][0] < NOISE, text.text + rows)


@torch.no_grad()
def by_row(case: Case) -> Verdict:
    x, module = normals(5, 33), built(case)
    sizes = [apart(out(module, x)[i : i + 1], out(module, x[i : i + 1])) for i in range(5)]
    again, content = apart(out(module, x), out(module, x)), leak(case, 33)
    text = f"row 0 of 5 differs from itself alone by {sizes[0]:.1e}, others by {min(sizes[1:]):.1e}"
    real = min(sizes[1:]) > 1e-5 and max(sizes[0], again, content) < NOISE
    return Verdict(real, text + " or more; repeatable, no content leaks")


def unsorted(case: Case) -> Verdict:
    found = [by_batch(case, 16, rows, texts=20) for rows in (2, 3, 4, 5)]
    told = ", ".join(f"{B}: {size:.0e}" for B, (size, _) in enumerate(found, 2))
    text = f"a row differs in batches of up to {told}; {found[3][1]:.0%} of rows; no content leaks"
    return Verdict(found[0][0] < NOISE and found[1][0] > 1e-2 and leak(case, 33) < NOISE, text)


@torch.no_grad()
def first_data(case: Case) -> Verdict:
    x, module, other = normals(2, 64), built(case), built(case)
    fresh = out(module, x)
    again = apart(out(module, x), fresh)
    out(other, normals(2, 64, 2))
    size = apart(out(other, x), fresh)
    out(other, normals(2, 64, 3))
    later = apart(out(other, x), out(other, x))
    text = f"after another text it differs by {size:.1e} from a fresh one; the same call again"
    return Verdict(size > 1e-5 and max(again, later) < NOISE, f"{text} by {again:.1e}")


@torch.no_grad()
def table(case: Case) -> Verdict:
    x, sizes = normals(2, 40), []
    fresh = out(built(case), x)
    for T in (41, 64, 330, 40, 17):
        module = built(case)
        out(module, normals(2, T, 2))
        sizes.append(apart(out(module, x), fresh))
    text = "40 tokens after a text of 41, 64, 330 differ by {:.1e}, {:.1e}, {:.1e}, after one of"
    text += " 40, 17 by {:.1e}, {:.1e}"
    return Verdict(min(sizes[:3]) > 1e-5 and max(sizes[3:]) < NOISE, text.format(*sizes))


@torch.no_grad()
def formulas(case: Case) -> Verdict:
    x = normals(2, 64)
    train, again, still = (out(built(case, mode), x) for mode in (True, True, False))
    moved, size = max(leak(case, 64, train=mode) for mode in (True, False)), apart(still, train)
    real = size > 1e-3 and torch.equal(train, again) and moved < NOISE
    return Verdict(real, f"eval differs from training by {size:.1e}; each is exact and causal")


@torch.no_grad()
def single_steps(case: Case) -> Verdict:
    x, module, ends = normals(2, 96), built(case), []
    whole = out(module, x)
    for size in (1, 2, 32):
        state, ys = None, []
        for part in x.split(size, 1):
            y, state = module(part, state)
            ys.append(y)
        ends.append(torch.cat(ys, 1))
    one, two, many = (apart(y, whole) for y in ends)
    share = ((ends[0] - whole).abs().amax(-1) > 1e-6).double().mean().item()
    text = f"token by token differs by {one:.1e}, in {share:.0%} of tokens; by twos {two:.1e},"
    return Verdict(one > 1e-5 and max(two, many) < NOISE, f"{text} by 32 {many:.1e}")


def root(case: Case) -> Verdict:
    """The share of the decays' gradients that are not finite; outputs always are."""
    shares, finite = [], True
    for dtype, scale in ((torch.bfloat16, 1), (torch.float32, 100), (torch.float32, 1)):
        module = built(case, dtype=dtype)
        y = out(module, (normals(2, 64) * scale).to(dtype))
        y.float().square().mean().backward()
        finite = finite and bool(y.isfinite().all())
        grad = module.get_parameter("decay").grad
        assert grad is not None
        shares.append(1 - grad.isfinite().double().mean().item())
    text = "gradients not finite: {:.0%} of decays in bfloat16, {:.0%} in float32 with inputs"
    text += " x 100, {:.0%} in float32; outputs are finite"
    return Verdict(min(shares[:2]) > 0 and shares[2] == 0 and finite, text.format(*shares))


@torch.no_grad()
def underflow(case: Case) -> Verdict:
    shares = []
    for scale in (1, 10, 100):
        y = out(built(case, dtype=torch.float32), (normals(2, 64) * scale).float())
        shares.append(1 - y.isfinite().double().mean().item())
    text = "outputs not finite in float32: {:.0%}, inputs x 10: {:.0%}, x 100: {:.0%}"
    return Verdict(max(shares[:2]) == 0 and shares[2] > 0, text.format(*shares))


class Elements(TorchDispatchMode):
    """Counts the elements of all that is computed, views apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            several = result if isinstance(result, tuple | list) else (result,)
            self.total += sum(z.numel() for z in several if isinstance(z, Tensor))
        return result


@torch.no_grad()
def searched(case: Case) -> Verdict:
    module, counts, flops = built(case, dtype=torch.float32), {}, {}
    for T in (165, 330, 2048, 4096):
        x = normals(1, T).float()
        with Elements() as elements:
            out(module, x)
        with FlopCounterMode(display=False) as counter:
            out(module, x)
        counts[T], flops[T] = elements.total, counter.get_total_flops()
    short, long = (math.log2(counts[2 * T] / counts[T]) for T in (165, 2048))
    known = math.log2(flops[4096] / flops[2048])
    text = f"elements grow as T^{short:.2f} from 165 to 330, as T^{long:.2f} from 2048 to 4096;"
    return Verdict(short > 1.2 and long > 1.6, f"{text} FLOPs that are counted as T^{known:.2f}")


RULES: dict[str, Rule] = {
    "tiles-unmasked": future({"T": 64}, {"T": 33}),
    "first-patch": patches,
    "summaries-mixed": future({"T": 64}, {"T": 63}),
    "heavy-hitters": future({"T": 128}, {"T": 48}),
    "depths-by-score": future({"T": 64}, {"T": 1}),
    "span-trimmed": span,
    "inverse-corner": future({"T": 32}, {"T": 16}),
    "bisection-bracket": future({"T": 64}, {"T": 1}),
    "kernel-aliased": lengths((64, 330), (700, 800)),
    "random-blocks": lengths((128, 129), (129, 144)),
    "features-by-row": by_row,
    "rows-unsorted": unsorted,
    "set-by-first-data": first_data,
    "table-of-longest": table,
    "two-discretisations": formulas,
    "mlstm-floor": single_steps,
    "mingru-positive-twice": steps(1),
    "rglru-root": root,
    "forget-log-sigmoid": underflow,
    "nearest-by-l1": searched,
}


def main() -> int:
    torch.set_num_threads(1)
    wanted, wrong = sys.argv[1:], 0
    assert set(RULES) == {case.name for case in HELD_OUT_2} and len(RULES) == 20 and WIDTH == 64
    for case in HELD_OUT_2:
        if wanted and not any(part in case.name for part in wanted):
            continue
        verdict = RULES[case.name](case)
        wrong += not verdict.real
        mark = "real" if verdict.real else "NOT REAL"
        print(f"{mark:<9}{case.expected[0]:<11}{case.name:<24}{verdict.text}", flush=True)
    print(f"{wrong} not real")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())

"""Is each held-out fault real? By brute force, without the auditor.

    cd benchmarks; python -m planted.verify_held_out [PART OF A NAME ...]

One line a case with the size, in the outputs' sd, on standard normals in float64 unless said
otherwise, beside a control in which the fault is to be silent. Exit 1 where one is not real.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from . import Case, held_out

WIDTH, NOISE = 64, 1e-9


class Verdict(NamedTuple):
    real: bool
    text: str


def built(case: Case, train: bool = False, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return case.build(WIDTH).to(dtype).train(train)


def normals(B: int, T: int, seed: int = 1) -> Tensor:
    return torch.randn(B, T, WIDTH, generator=torch.Generator().manual_seed(seed)).double()


def out(module: nn.Module, x: Tensor, **state: Any) -> Tensor:
    y = module(x, **state)
    sequence: Tensor = y if isinstance(y, Tensor) else y[0]
    return sequence


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.std()).item() if b.numel() else 0.0


@torch.no_grad()
def leak(case: Case, T: int, train: bool = False, scale: float = 1.0, loud: float = 1.0) -> float:
    """How far outputs before u move when the inputs from u on are drawn again."""
    x, module, largest = normals(2, T) * scale, built(case, train), 0.0
    before = out(module, x)
    for u in range(1, T, T // 16 | 1):
        for end in (u + 1, T):
            other = x.clone()
            other[:, u:end] = normals(2, T, 2)[:, u:end] * scale * loud
            largest = max(largest, apart(out(module, other)[:, :u], before[:, :u]))
    return largest


@torch.no_grad()
def by_length(case: Case, T: int, longer: int) -> float:
    x, module = normals(2, longer), built(case)
    return apart(out(module, x[:, :T]), out(module, x)[:, :T])


@torch.no_grad()
def by_batch(case: Case, T: int, rows: int = 5, texts: int = 1) -> tuple[float, float]:
    """The largest change of a row alone in larger batches, and the share of them that change."""
    module, sizes = built(case), []
    for seed in range(texts):
        x = normals(rows, T, seed + 1)
        alone = [out(module, x[i : i + 1]) for i in range(rows)]
        for B in range(2, rows + 1):
            y = out(module, x[:B])
            sizes += [apart(y[i : i + 1], alone[i]) for i in range(B)]
    return max(sizes), sum(size > NOISE for size in sizes) / len(sizes)


def future(where: dict[str, Any], silent: dict[str, Any]) -> Callable[[Case], Verdict]:
    def rule(case: Case) -> Verdict:
        size, control = leak(case, **where), leak(case, **silent)
        text = f"earlier outputs move by {size:.1e} at {where}, by {control:.1e} at {silent}"
        return Verdict(size > 1e-5 and control < NOISE, text)

    return rule


def lengths(seen: tuple[int, int], silent: tuple[int, int]) -> Callable[[Case], Verdict]:
    def rule(case: Case) -> Verdict:
        size, control = by_length(case, *seen), by_length(case, *silent)
        content = leak(case, seen[1])
        text = f"lengths {seen} differ by {size:.1e}, {silent} by {control:.1e}, no content leaks"
        return Verdict(size > 1e-5 and max(control, content) < NOISE, text)

    return rule


def slopes(case: Case) -> Verdict:
    size, share = by_batch(case, 33)
    content = leak(case, 33)
    text = f"a row alone and in 2 to 5 differ by {size:.1e}, {share:.0%} of them; no content leaks"
    return Verdict(size > 1e-5 and content < NOISE, text)


def stopping(case: Case) -> Verdict:
    size, share = by_batch(case, 64, texts=8)
    moved = max(leak(case, T) for T in (64, 128, 129))
    text = f"in {share:.0%} of batches a row moves, by {size:.1e}; later tokens move it {moved:.1e}"
    return Verdict(size > 1e-5 and share > 0.1 and moved > 1e-5, text)


def load(case: Case) -> Verdict:
    x, quiet = normals(4, 64), built(case)
    with torch.no_grad():
        first = out(quiet, x)
        control = max(apart(out(quiet, x), first) for _ in range(5))
    module = built(case)
    y = [out(module, x).detach() for _ in range(6)]
    flips = ((y[1] - y[0]).abs().amax(-1) > NOISE).double().mean().item()
    text = f"the same call again in eval: {apart(y[1], y[0]):.1e} in {flips:.1%} of tokens,"
    text += f" after 5 calls {apart(y[5], y[0]):.1e}; {control:.1e} without gradients"
    return Verdict(apart(y[1], y[0]) > 1e-5 and control < NOISE, text)


@torch.no_grad()
def one_token(case: Case) -> Verdict:
    x, sizes = normals(2, 64), []
    for T in (1, 2):
        module = built(case)
        fresh = out(module, x[:, :T])
        out(module, normals(2, 64, 2))
        sizes.append(apart(out(module, x[:, :T]), fresh))
    text = f"T = 1 after another text differs by {sizes[0]:.1e}, T = 2 by {sizes[1]:.1e}"
    return Verdict(sizes[0] > 1e-5 and sizes[1] < NOISE, text)


@torch.no_grad()
def fused(case: Case) -> Verdict:
    x = normals(2, 64)
    train, again, still = (out(built(case, mode), x) for mode in (True, True, False))
    moved = max(leak(case, 64, train=mode) for mode in (True, False))
    size = apart(still, train)
    real = size > 1e-3 and torch.equal(train, again) and moved < NOISE
    return Verdict(real, f"eval differs from training by {size:.1e}; each is exact and causal")


def steps(silent: int) -> Callable[[Case], Verdict]:
    @torch.no_grad()
    def rule(case: Case) -> Verdict:
        x, module = normals(2, 96), built(case)
        whole, state, ys = out(module, x), None, []
        for x_t in x.split(1, 1):
            y, state = module(x_t, state)
            ys.append(y)
        stepped = torch.cat(ys, 1)
        size = apart(stepped, whole)
        control = apart(stepped[:, :silent], whole[:, :silent])
        text = f"token by token differs by {size:.1e}, by {control:.1e} in the first {silent}"
        return Verdict(size > 1e-5 and control < NOISE, text)

    return rule


def zeros(case: Case) -> Verdict:
    module = built(case)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2, weight_decay=0)
    largest = dict.fromkeys((name for name, _ in module.named_parameters()), 0.0)
    for seed in range(50):
        optimiser.zero_grad()
        (out(module, normals(4, 32, seed)) - normals(4, 32, 99)).square().mean().backward()
        for name, p in module.named_parameters():
            largest[name] = max(largest[name], 0 if p.grad is None else p.grad.abs().max().item())
        optimiser.step()
    dead = sorted(name for name, size in largest.items() if not size)
    real = dead == ["enter.bias", "enter.weight", "gate", "out.bias", "out.weight"]
    return Verdict(real, f"after 50 steps no gradient has reached {', '.join(dead)}")


@torch.no_grad()
def rounded(case: Case) -> Verdict:
    """bfloat16 against the same rounded weights in float64: with its own angles, and exact ones."""
    x = normals(2, 330).bfloat16()
    module = built(case, dtype=torch.bfloat16)
    exact = out(built(case, dtype=torch.bfloat16).double(), x.double())
    single = out(built(case, dtype=torch.bfloat16).float(), x.float())
    assert isinstance(module, held_out.Layer)
    mine = out(module, x).double()
    t = torch.arange(330).double()
    module.rule = lambda q, k, v: held_out.rotary(q, k, v, 1e4, t)
    right = out(module, x).double()

    def error(y: Tensor) -> float:
        return ((y - exact).square().mean().sqrt() / (exact - x.double()).std()).item()

    text = f"rms error of the branch in bfloat16 {error(mine):.1e}, {error(right):.1e} with exact"
    text += f" angles, {error(single.double()):.1e} in float32"
    return Verdict(error(mine) > 5 * error(right) and error(single.double()) < 1e-3, text)


@torch.no_grad()
def quadratic(case: Case) -> Verdict:
    module, counts = built(case, dtype=torch.float32), {}
    for T in (165, 330, 2048, 4096):
        with FlopCounterMode(display=False) as counter:
            out(module, normals(1, T).float())
        counts[T] = counter.get_total_flops()
    short, long = (math.log2(counts[2 * T] / counts[T]) for T in (165, 2048))
    text = f"FLOPs grow as T^{short:.2f} from 165 to 330, as T^{long:.2f} from 2048 to 4096"
    return Verdict(short > 1.2 and long > 1.6, text)


RULES: dict[str, Callable[[Case], Verdict]] = {
    "nsa-blocks-overlap": future({"T": 64}, {"T": 15}),
    "inner-step-clipped": future({"T": 64, "scale": 2.0}, {"T": 64}),
    "lsh-chunks": future({"T": 128}, {"T": 16}),
    "ssd-decay-of-chunk": future({"T": 128}, {"T": 32}),
    "unet-crop": future({"T": 65}, {"T": 64}),
    "sinkhorn-router": future({"T": 64, "train": True}, {"T": 64}),
    "blocks-chosen-by-block": future({"T": 128}, {"T": 48}),
    "cope-gates-unmasked": future({"T": 128}, {"T": 1}),
    "rotary-base-by-length": lengths((256, 330), (200, 256)),
    "padded-in-front": lengths((64, 65), (64, 128)),
    "alibi-repeat": slopes,
    "stops-for-all": stopping,
    "load-bias": load,
    "one-token-is-a-step": one_token,
    "kernel-fused": fused,
    "sinks-evicted": steps(32),
    "wkv-exponent": steps(1),
    "identity-twice": zeros,
    "positions-in-bf16": rounded,
    "compressed-memory": quadratic,
}


def main() -> int:
    torch.set_num_threads(1)
    wanted, wrong = sys.argv[1:], 0
    assert set(RULES) == {case.name for case in held_out.HELD_OUT} and len(RULES) == 20
    for case in held_out.HELD_OUT:
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

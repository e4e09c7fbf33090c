"""Fast paths, forward and backward, beside naive twins, peers, and the matmuls alone.

B=4, T=512, H=4, D=32, float32. Peers: torch's scaled_dot_product_attention, and the pure-torch
chunked forms of flash-linear-attention (its naive.py files). Growth: T from 512 to 4,096.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mendel.parts.attention import attend, attend_naive
from mendel.parts.convolution import causal_convolve, causal_convolve_naive
from mendel.parts.flops import count_flops
from mendel.parts.recurrence import scan, scan_naive

B, T, H, D = 4, 512, 4, 32
LENGTHS = (512, 1024, 2048, 4096)
N_ROUNDS = 5

Work = Callable[[], object]


class Inputs:
    """Random inputs of one length, leaves of the graph."""

    def __init__(self, T: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.q, self.k, self.v = (random(B, T, H, D).transpose(1, 2) for _ in range(3))
        self.unit = F.normalize(self.k, dim=-1)
        self.beta = torch.sigmoid(random(B, H, T))
        self.head = F.logsigmoid(random(B, H, T) + 3)  # log decay a head
        self.channel = F.logsigmoid(random(B, H, T, D) + 3)
        self.gate = torch.sigmoid(random(B, H, T, D))
        self.fixed = torch.log1p(-(2.0 ** -(5 + torch.arange(H))))
        self.x = random(B, T, H * D)
        self.short = random(H * D, 4)
        self.long = random(H * D, 63) / 8
        self.whole = random(H * D, T) / T**0.5
        for value in vars(self).values():
            value.requires_grad_(value is not self.fixed)


def tied(name: str, i: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """What a named mixer gives the recurrence; computed in each call, since it is part of it."""
    ties: dict[str, Callable[[], dict[str, Any]]] = {
        "linear attention": lambda: {},
        "RetNet": lambda: {"log_decay": i.fixed},
        "Mamba-2": lambda: {"log_decay": i.head, "write": i.beta},
        "GLA": lambda: {"log_decay": i.channel},
        "DeltaNet": lambda: {"erase": i.unit, "write": i.beta},
        "Gated DeltaNet": lambda: {
            "log_decay": i.head, "erase": i.head.exp()[..., None] * i.unit, "write": i.beta,
        },
        "Kimi Delta": lambda: {
            "log_decay": i.channel, "erase": i.channel.exp() * i.unit, "write": i.beta,
        },
        "RWKV-7": lambda: {"log_decay": i.channel, "erase": (i.gate * i.unit, i.unit)},
    }  # fmt: skip
    return (i.q, i.unit if "Delta" in name else i.k, i.v), ties[name]()


def outputs(run: Callable[..., tuple[Tensor, Tensor]], name: str, i: Inputs) -> Tensor:
    inputs, fields = tied(name, i)
    return run(*inputs, **fields)[0]


MIXERS = (
    "linear attention", "RetNet", "Mamba-2", "GLA",
    "DeltaNet", "Gated DeltaNet", "Kimi Delta", "RWKV-7",
)  # fmt: skip


def both_ways(forward: Callable[[], Tensor], leaves: Inputs) -> Work:
    """Forward, and the gradient of every leaf that it used."""
    inputs = [v for v in vars(leaves).values() if v.requires_grad]

    def work() -> None:
        y = forward()
        torch.autograd.grad(y, inputs, torch.ones_like(y), allow_unused=True)

    return work


def paired(works: dict[str, Work], n: int = N_ROUNDS) -> dict[str, float]:
    """Median milliseconds of each; they take turns, so that they share the machine's noise.

    Of the processor's time: on one thread that is the wall's, less what other processes took.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            times[name].append(1e3 * (time.process_time() - began))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def matmul_time(flops: int) -> Work:
    """As many FLOPs in one batched product of the sizes that chunks have."""
    a = torch.randn(64, 64, 32)
    b = torch.randn(64, 32, 64)
    n = max(1, round(flops / (2 * 64 * 64 * 32 * 64)))
    out = torch.empty(64, 64, 64)

    def work() -> None:
        for _ in range(n):
            torch.bmm(a, b, out=out)

    return work


def peer(path: str, name: str) -> Any:
    """A function of one of fla's naive.py files; its package needs triton, the file does not."""
    found = importlib.util.find_spec("fla")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(next(iter(found.submodule_search_locations))) / "ops" / path / "naive.py"
    spec = importlib.util.spec_from_file_location(f"fla_{path.replace('/', '_')}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def peers(i: Inputs) -> dict[str, Callable[[], Tensor]]:
    """The chunked forms that fla has in plain torch, on the same numbers; outputs (B, H, T, V)."""
    linear = peer("linear_attn", "naive_chunk_linear_attn")
    if linear is None:
        return {}
    simple = peer("simple_gla", "naive_chunk_simple_gla")
    delta = peer("delta_rule", "delta_rule_chunkwise")
    gated = peer("gated_delta_rule", "naive_chunk_gated_delta_rule")
    kimi, dplr = (
        peer("kda", "naive_chunk_kda"),
        peer("generalized_delta_rule/dplr", "dplr_chunkwise"),
    )

    def turned(*tensors: Tensor) -> list[Tensor]:
        return [x.transpose(1, 2) for x in tensors]

    root = D**0.5  # those without a scale of their own divide q by it
    fixed = i.fixed[None, :, None].expand(B, H, i.q.shape[2])
    return {
        "linear attention": lambda: turned(
            linear(*turned(i.q, i.k, i.v), scale=1.0, normalize=False)
        )[0],
        "RetNet": lambda: turned(simple(*turned(i.q, i.k, i.v, fixed), scale=1.0)[0])[0],
        "Mamba-2": lambda: turned(
            simple(*turned(i.q, i.k * i.beta[..., None], i.v, i.head), scale=1.0)[0]
        )[0],
        "DeltaNet": lambda: delta(i.q * root, i.unit, i.v, i.beta)[0],
        "Gated DeltaNet": lambda: turned(
            gated(*turned(i.q, i.unit, i.v, i.head, i.beta), scale=1.0)[0]
        )[0],
        "Kimi Delta": lambda: turned(
            kimi(*turned(i.q, i.unit, i.v, i.channel, i.beta), scale=1.0)[0]
        )[0],
        "RWKV-7": lambda: dplr(i.q * root, i.k, i.v, i.unit, -i.gate * i.unit, i.channel)[0],
    }


def same(name: str, fast: Callable[[], Tensor], other: Callable[[], Tensor]) -> None:
    """A peer is one only if it computes the same."""
    with torch.no_grad():
        a, b = fast(), other()
    gap = float((a - b).norm() / b.norm())
    assert a.shape == b.shape and gap < 1e-3, f"{name}: {a.shape} {b.shape} differ by {gap:.1e}"


def row(fast: Callable[[], Tensor], slow: Callable[[], Tensor], other: Any, i: Inputs) -> Any:
    flops = count_flops(both_ways(fast, i))
    works = {
        "fast": both_ways(fast, i),
        "matmuls": matmul_time(flops),
        "naive": both_ways(slow, i),
    }
    if other is not None:
        works["peer"] = both_ways(other, i)
    return {**paired(works), "mflop": flops / 1e6}


def speeds() -> dict[str, Any]:
    i = Inputs(T)
    others = peers(i)
    rows = {
        "softmax attention": row(
            lambda: attend(i.q, i.k, i.v), lambda: attend_naive(i.q, i.k, i.v),
            lambda: F.scaled_dot_product_attention(i.q, i.k, i.v, is_causal=True), i,
        ),
        "sliding window of 64": row(
            lambda: attend(i.q, i.k, i.v, window=64),
            lambda: attend_naive(i.q, i.k, i.v, window=64), None, i,
        ),
    }  # fmt: skip
    for name in MIXERS:
        fast, slow = (partial(outputs, run, name, i) for run in (scan, scan_naive))
        if name in others:
            same(name, fast, others[name])
        rows[name] = row(fast, slow, others.get(name), i)
    rows["DeltaProduct, 2 steps a token"] = product(2)
    for label, filters in (("4 taps", i.short), ("63 taps", i.long)):
        rows[f"convolution, {label}"] = row(
            lambda f=filters: causal_convolve(i.x, f)[0],
            lambda f=filters: causal_convolve_naive(i.x, f)[0], None, i,
        )  # fmt: skip
    rows["long convolution (Hyena)"] = row(
        lambda: causal_convolve(i.x, i.whole)[0],
        lambda: causal_convolve_naive(i.x, i.whole)[0],
        None,
        i,
    )
    return rows


def product(n: int) -> Any:
    """DeltaProduct: n micro-steps a token, the decay in the first."""
    i, more = Inputs(T), Inputs(T * n)
    fields = {"erase": more.unit, "write": more.beta, "n_steps": n}
    return row(
        lambda: scan(i.q, more.unit, more.v, **fields)[0],
        lambda: scan_naive(i.q, more.unit, more.v, **fields)[0], None, more,
    )  # fmt: skip


def growth() -> dict[str, float]:
    """The exponent of time with T, by least squares on logarithms."""
    lengths = {n: Inputs(n) for n in LENGTHS}
    found = {}
    for name in MIXERS:
        works = {str(n): both_ways(partial(outputs, scan, name, i), i)
                 for n, i in lengths.items()}  # fmt: skip
        found[name] = exponent(paired(works, 7))
    found["convolution, 63 taps"] = exponent(
        paired({str(n): both_ways(lambda i=i: causal_convolve(i.x, i.long)[0], i)
                for n, i in lengths.items()}, 7)
    )  # fmt: skip
    found["long convolution (FFT)"] = exponent(
        paired({str(n): both_ways(lambda i=i: causal_convolve(i.x, i.whole)[0], i)
                for n, i in lengths.items()}, 7)
    )  # fmt: skip
    found["sliding window of 64"] = exponent(
        paired({str(n): both_ways(lambda i=i: attend(i.q, i.k, i.v, window=64), i)
                for n, i in lengths.items()}, 7)
    )  # fmt: skip
    return found


def exponent(times: dict[str, float]) -> float:
    x = [math.log(int(n)) for n in times]
    y = [math.log(ms) for ms in times.values()]
    return float(statistics.linear_regression(x, y).slope)


def measure() -> dict[str, Any]:
    rows = {"milliseconds": speeds(), "growth exponent": growth()}
    for name, each in rows["milliseconds"].items():
        print(name, {key: round(value, 2) for key, value in each.items()}, flush=True)
    print(rows["growth exponent"], flush=True)
    return rows

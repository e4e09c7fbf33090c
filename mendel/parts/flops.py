"""FLOPs of any call: torch's formulas, and the operators that it has none for on a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

aten = torch.ops.aten


def _attention(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    """Both matrix products, the masked half too, as torch counts it on a GPU."""
    B, H, T, D = q
    return int(2 * B * H * T * k[2] * (D + v[3]))


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return _attention(q, k, v) * 5 // 2  # the scores once more, and two products for each


def _solve(a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    return int(math.prod(b) * a[-1])


def _fft(x: Any, dims: Any, *args: Any, **kwargs: Any) -> int:
    """2.5 N log2 N of real numbers, the usual count."""
    n = math.prod(x[dim] for dim in dims)
    return int(math.prod(x) * 2.5 * math.log2(max(n, 2)))


def _convolution_backward(grad: Any, x: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """Two products of the forward's size; torch 2.13 takes a depthwise one for a dense one."""
    output_mask = args[-1]
    return int(2 * math.prod(grad) * math.prod(weight[1:]) * sum(output_mask[:2]))


EXTRA = {
    aten.convolution_backward: _convolution_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.linalg_solve_triangular: _solve,
    aten._fft_r2c: _fft,
    aten._fft_c2r: _fft,
}


RULES: dict[Any, Callable[..., int]] = {
    **flop_registry,
    **{op: shape_wrapper(rule) for op, rule in EXTRA.items()},
}


class _Counter(TorchDispatchMode):
    """torch's FlopCounterMode without what imports torch._dynamo: 2 s, and nothing is compiled."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's own switch: there is no dynamo here to be skipped

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # what is made of other operators is counted as those
            found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
        found = func(*args, **kwargs)
        if rule := RULES.get(func._overloadpacket):
            self.total += int(rule(*args, **kwargs, out_val=found))
        return found


def count_flops(call: Callable[[], object]) -> int:
    """FLOPs of matrix products, convolutions, attention, solves and FFTs in one call.

    What works on each element alone is not counted, as is the custom; 2 FLOPs a multiply-add.
    """
    counter = _Counter()
    with counter:
        call()
    return counter.total

"""What one forward costs, counted: FLOPs, numbers touched, bytes alive at the worst moment."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mendel.parts.flops import count_flops


@dataclass(frozen=True)
class Cost:
    """Counted things are the same on every machine; seconds are not."""

    T: int
    flops: int  # of products, convolutions, attention, solves and FFTs
    touched: int  # numbers read and written by operators that are no views
    n_calls: int  # of operators
    peak_bytes: int  # of storages alive at once, beside the weights
    seconds: float | None = None  # processor time, the median


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.touched = self.n_calls = self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.n_calls += 1
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.touched += sum(t.numel() for t in tensors)
        for t in tree_leaves(out):
            if isinstance(t, Tensor):
                self._follow(t)
        return out

    def _follow(self, t: Tensor) -> None:
        storage = t.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


def measure(call: Callable[[], Any], repeats: int, T: int = 0) -> Cost:
    """Run the call once under the counters, then `repeats` times against the clock."""
    traffic = _Traffic()

    def counted() -> None:
        with traffic:
            call()

    flops = count_flops(counted)
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    seconds = statistics.median(taken) if taken else None
    return Cost(T, flops, traffic.touched, traffic.n_calls, traffic.peak, seconds)

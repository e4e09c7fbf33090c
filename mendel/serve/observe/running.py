"""Running means with bounded memory: of the traffic, and of the layers, for each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.serve.observe.layers import Look
from mendel.serve.protocols import Trace

Floats = NDArray[np.float64]
MOST_CLASSES = 16  # more are counted together
REST = "other"
KEPT = 512  # newest times of a class, for its quantiles


class Mean:
    """Of arrays of one shape; NaN is left out."""

    def __init__(self) -> None:
        self.n: Floats = np.zeros(0)
        self.sum: Floats = np.zeros(0)

    def add(self, values: Floats) -> None:
        if self.n.shape != values.shape:
            self.n, self.sum = np.zeros(values.shape), np.zeros(values.shape)
        told = np.isfinite(values)
        self.n += told
        self.sum += np.where(told, values, 0.0)

    def to_list(self) -> list[float | None]:
        pairs = zip(self.sum.tolist(), self.n.tolist(), strict=True)
        return [round(s / n, 5) if n else None for s, n in pairs]


@dataclass
class Layers:
    """What looks at texts of one class have shown."""

    n: int = 0
    influence: Mean = field(default_factory=Mean)
    sparsity: Mean = field(default_factory=Mean)
    exit: Mean = field(default_factory=Mean)
    entropy: dict[int, Mean] = field(default_factory=dict)
    use: dict[int, Mean] = field(default_factory=dict)
    intensity: Mean = field(default_factory=Mean)  # of a text's tenths

    def add(self, seen: Look) -> None:
        self.n += 1
        self.influence.add(seen.influence)
        self.sparsity.add(seen.sparsity)
        self.exit.add(seen.exit)
        tenths = np.array_split(seen.intensity, 10)
        self.intensity.add(np.array([t.mean() if len(t) else np.nan for t in tenths]))
        for told, kept in ((seen.entropy, self.entropy), (seen.use, self.use)):
            for i, heads in enumerate(told):
                if heads is not None:
                    kept.setdefault(i, Mean()).add(heads)

    def to_dict(self) -> dict[str, Any]:
        exits = self.exit.to_list()
        depths = [(i + 1) * (share or 0.0) for i, share in enumerate(exits)]
        return {
            "n_texts": self.n,
            "influence": self.influence.to_list(),
            "sparsity": self.sparsity.to_list(),
            "exit_share": exits,
            "mean_exit_depth": round(sum(depths), 3),
            "head_entropy": {i: mean.to_list() for i, mean in sorted(self.entropy.items())},
            "head_use": {i: mean.to_list() for i, mean in sorted(self.use.items())},
            "intensity_by_tenth": self.intensity.to_list(),
        }


class Traffic:
    """Times and counts of one class: totals, and the newest for quantiles."""

    def __init__(self) -> None:
        self.n = self.n_prompt = self.n_cached = self.n_out = 0
        self.n_drafted = self.n_accepted = self.n_hits = 0
        self.work_s = 0.0
        self._first: Floats = np.full(KEPT, np.nan, np.float32)
        self._token: Floats = np.full(KEPT, np.nan, np.float32)

    def add(self, trace: Trace) -> None:
        f, i = trace.features, self.n % KEPT
        self.n += 1
        self.n_prompt += f.n_prompt
        self.n_cached += f.n_cached
        self.n_hits += f.n_cached > 0
        self.n_out += trace.n_out
        self.n_drafted += trace.n_drafted
        self.n_accepted += trace.n_accepted
        self.work_s += trace.work_s
        self._first[i] = 1e3 * trace.first_token_s if trace.n_out else np.nan
        more = trace.n_out > 1
        self._token[i] = 1e3 * trace.decode_s / (trace.n_out - 1) if more else np.nan

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "first_token_ms": _quantiles(self._first),
            "token_ms": _quantiles(self._token),
            "work_s": round(self.work_s, 4),
            "n_prompt": self.n_prompt,
            "n_out": self.n_out,
            "acceptance": _share(self.n_accepted, self.n_drafted),
            "cache_hits": _share(self.n_hits, self.n),
            "cached_tokens": _share(self.n_cached, self.n_prompt),
        }


def _quantiles(values: Floats) -> dict[str, float] | None:
    told = values[np.isfinite(values)]
    if not len(told):
        return None
    low, high = np.quantile(told, (0.5, 0.95))
    return {"p50": round(float(low), 4), "p95": round(float(high), 4)}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None

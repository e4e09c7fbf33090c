"""Parity of a string of bits: trained up to length 32, asked at lengths 112 to 128, 5 seeds.

A state whose transition has eigenvalues in [0, 1] cannot count modulo 2; in [-1, 1] it can.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mendel.data.corpus import batch_rng
from mendel.model import Model
from mendel.spec import ModelSpec, TrainSpec
from mendel.train.run import Training

N_STEPS, SEEDS, N_TEST = 400, range(10, 15), 512
TRAIN_LENGTH, ASKED = 32, range(112, 129)
MIXERS: dict[str, Any] = {  # without short convolutions, which parity has no use for
    "delta rule, b up to 2": {"part": "delta_net_signed", "n_heads": 2, "conv": 0},
    "delta rule, b up to 1": {"part": "delta_net", "n_heads": 2, "conv": 0},
    "gated delta rule, b up to 2": {
        "part": "gated_delta_net", "n_heads": 2, "conv": 0, "beta_max": 2,
    },
    "softmax attention": {"part": "attention", "n_heads": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """Bits, and at each place the parity of those so far."""

    length: int

    def batch(self, rng: np.random.Generator, n: int, context: int) -> tuple[Tensor, Tensor]:
        """Strings of 1 to `context` bits; behind their end there is nothing to predict (-1)."""
        bits = rng.integers(0, 2, (n, context))
        parity = bits.cumsum(1) % 2
        lengths = rng.integers(1, context + 1, (n, 1))
        parity[np.arange(context) >= lengths] = -1
        return torch.from_numpy(bits), torch.from_numpy(parity)

    def windows(self, context: int, n: int) -> Iterable[tuple[Tensor, Tensor]]:
        """One batch of other strings, of the length trained at."""
        yield self.batch(batch_rng(2**32, 0), N_TEST, self.length)


@torch.no_grad()
def accuracy(model: Model) -> float:
    """Share of right parities at the places asked, all longer than any string trained on."""
    rng = batch_rng(2**33, 0)
    bits = rng.integers(0, 2, (N_TEST, ASKED.stop - 1))
    right = torch.from_numpy(bits.cumsum(1) % 2)
    answers = model(torch.from_numpy(bits))[0].argmax(-1)
    places = slice(ASKED.start - 1, ASKED.stop - 1)
    return float((answers[:, places] == right[:, places]).double().mean())


def run(mixer: Any, n_seeds: int = len(SEEDS)) -> dict[str, Any]:
    """All seeds of one mixer: a layer of width 64, no channel mixer."""
    spec = ModelSpec.parse(
        {"width": 64, "n_layers": 1, "context": TRAIN_LENGTH, "vocab": 2, "mixers": [mixer],
         "channels": []}
    )  # fmt: skip
    how = TrainSpec(
        budget=f"{N_STEPS}steps", batch=64, lr=2e-2, weight_decay=0.0, seed=SEEDS.start,
        n_seeds=n_seeds, n_evaluations=1,
    )  # fmt: skip
    began = time.perf_counter()
    outcome = Training(spec, how, Parity(TRAIN_LENGTH)).run()
    found = [accuracy(model) for model in outcome.models]
    return {
        "accuracy_min": min(found),
        "accuracy_median": statistics.median(found),
        "accuracy_max": max(found),
        "each": found,
        "seconds": time.perf_counter() - began,
    }


def measure() -> dict[str, Any]:
    rows = {}
    for name, mixer in MIXERS.items():
        rows[name] = run(mixer)
        print(name, rows[name], flush=True)
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()

"""Four paired seeds in one batched run and one by one: time of a step, and who wins.

The same candidates, seeds and batches both ways, on tinyshakespeare's characters.
"""

from __future__ import annotations

import statistics
from typing import Any

from engine_sections.shakespeare import tokens
from mendel.data.corpus import Tokens
from mendel.spec import ModelSpec, TrainSpec
from mendel.train import grouping
from mendel.train.group import Group, pick_device
from mendel.train.run import Training

N_SEEDS, N_STEPS = 4, 200
WIDTHS = (16, 32, 64, 128)
CANDIDATES = ("attention", "gated_delta_net", "short_conv")


def spec(width: int, mixer: str, data: Tokens) -> ModelSpec:
    return ModelSpec.parse(
        {"width": width, "n_layers": 2, "context": 32, "vocab": data.vocab_size, "mixers": [mixer]}
    )


def times(data: Tokens) -> dict[str, Any]:
    """Median milliseconds of a step of all seeds; the two ways take turns."""
    rows = {}
    seeds, device = tuple(range(N_SEEDS)), pick_device()
    how = TrainSpec(batch=8)
    for width in WIDTHS:
        for mixer in CANDIDATES[:2]:
            model = spec(width, mixer, data)
            ways = {
                "together": [Group(model, how, seeds, device)],
                "apart": [Group(model, how, (seed,), device) for seed in seeds],
            }
            found = grouping.time_ways(ways, data)
            rows[f"{mixer}, width {width}"] = {way: 1e3 * found[way] for way in found}
    return rows


def winners(data: Tokens) -> dict[str, Any]:
    """Mean validation loss of each candidate over the seeds, both ways."""
    how = TrainSpec(batch=8, budget=f"{N_STEPS}steps", n_seeds=N_SEEDS, n_evaluations=1)
    rows: dict[str, Any] = {}
    for together in (True, False):
        way = "together" if together else "apart"
        rows[way] = {}
        for mixer in CANDIDATES:
            training = Training(spec(32, mixer, data), how, data, together=together)
            scores = training.run().result.scores
            rows[way][mixer] = -statistics.mean(scores)
    rows["same winner"] = len({min(rows[way], key=rows[way].get) for way in rows}) == 1
    return rows


def measure() -> dict[str, Any]:
    data = tokens(tune=True)
    rows = {"milliseconds a step": times(data), "nats": winners(data)}
    print(rows, flush=True)
    return rows

"""Published tables of trained designs, as spaces and scores.

NATS-Bench (Dong et al., 2021), topology: a cell of four nodes, one of five operations on each of
its six edges; accuracy after 200 epochs on three image sets. NAS-Bench-Macro (Su et al., 2021):
eight layers, one of three blocks each.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mendel.propose.spaces import Choices, Floats, Ints, Picks, one_hot

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # as the strings list them
ROUTES = ((0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3))
N_LAYERS, N_BLOCKS = 8, 3
PLACE, COUNT = np.float32(0.7), np.float32(2.0)  # weights of the features beside the ways' 1
NATS = {
    "cifar10": "CIFAR10TestAccuracy200Epochs",
    "cifar100": "CIFAR100TestAccuracy200Epochs",
    "imagenet16": "ImageNetTestAccuracy200Epochs",
}
SETS = (*NATS, "macro")


@dataclass(frozen=True)
class Table:
    """Every design of a space and its accuracy in percent."""

    space: Choices
    scores: Mapping[Picks, float]

    def reached_by(self, share: float) -> float:
        """The accuracy from which a design belongs to the best share (rounded down) of all."""
        n = max(1, math.floor(share * len(self.scores)))
        return sorted(self.scores.values(), reverse=True)[n - 1]

    @property
    def best(self) -> float:
        return max(self.scores.values())


def read(shared: Path, name: str) -> Table:
    """shared: the folder that holds nats_bench_tss_csv and nasbench_macro."""
    if name == "macro":
        return _macro(shared / "nasbench_macro/nas-bench-macro_cifar10.json")
    return _nats(shared / "nats_bench_tss_csv/nats_bench.csv", NATS[name])


def _nats(file: Path, column: str) -> Table:
    scores = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            found = re.findall(r"(\w+)~\d", row["ArchitectureString"])
            scores[tuple(OPERATIONS.index(name) for name in found)] = float(row[column])
    return Table(Choices((len(OPERATIONS),) * len(EDGES), cell_features), scores)


def _macro(file: Path) -> Table:
    told: dict[str, Any] = json.loads(file.read_text())
    scores = {tuple(map(int, name)): float(row["mean_acc"]) for name, row in told.items()}
    return Table(Choices((N_BLOCKS,) * N_LAYERS, layer_features), scores)


def cell_features(picks: Ints) -> Floats:
    """(n, 6) -> (n, F): the operation on each edge, how many of each there are, and how many ways
    lead from input to output through each sequence of operations. A way through "none" carries
    nothing, and a skip on a way is no operation. source: the path encoding of White et al., 2021,
    there with skips"""
    ways = sum(_ways(picks, route) for route in ROUTES)
    return np.concatenate([_places_and_counts(picks, len(OPERATIONS)), ways], axis=1)


def layer_features(picks: Ints) -> Floats:
    """(n, 8) -> (n, 27): the block at each layer, and how many of each there are."""
    return _places_and_counts(picks, N_BLOCKS)


def _places_and_counts(picks: Ints, n_kinds: int) -> Floats:
    """(n, places) -> (n, (places + 1) * n_kinds); the weights were tuned on CIFAR-10 cells."""
    n, places = picks.shape
    hot = one_hot(picks, (n_kinds,) * places)
    counts = hot.reshape(n, places, n_kinds).sum(axis=1) / np.float32(math.sqrt(places))
    return np.concatenate([PLACE * hot, COUNT * counts], axis=1)


def _ways(picks: Ints, route: tuple[int, ...]) -> Floats:
    """(n, 4**3): the way along these nodes, counted under its operations without skips."""
    met = picks[:, [EDGES.index(pair) for pair in itertools.pairwise(route)]]
    number = np.zeros(len(picks), dtype=np.int64)
    for operation in met.T:  # a digit an operation, to base 4; skips add none
        number = np.where(operation > 1, number * 4 + operation - 1, number)
    carries = (met > 0).all(axis=1)
    return ((number[:, None] == np.arange(4**3)[None]) & carries[:, None]).astype(np.float32)

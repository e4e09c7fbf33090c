"""A machine that costs what a table says, with noise: for questions of control."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.classes import units
from mendel.serve.protocols import Choice, Features, Trace

PLANS = ("plain", "lookup-4", "lookup-8", "shallow-2x4", "plain-t2", "lookup-8-t2")
# ms per unit of work
COSTS: Mapping[str, Mapping[str, float]] = {
    "free": dict(zip(PLANS, (1.0, 1.15, 1.3, 0.85, 0.95, 1.25), strict=True)),
    "copy": dict(zip(PLANS, (1.0, 0.5, 0.38, 0.8, 0.95, 0.42), strict=True)),
    "chat": dict(zip(PLANS, (1.0, 0.9, 0.95, 0.75, 1.1, 1.0), strict=True)),
    "agent": dict(zip(PLANS, (1.0, 0.7, 0.75, 0.9, 1.05, 0.8), strict=True)),
    "long": dict(zip(PLANS, (1.0, 1.1, 1.2, 0.95, 0.62, 0.7), strict=True)),
}
SHAPES = {  # prompt, cached, asked for, overlap
    "free": (30, 0, 200, 0.05),
    "copy": (400, 0, 300, 0.6),
    "chat": (600, 500, 150, 0.3),
    "agent": (900, 700, 80, 0.5),
    "long": (1800, 0, 100, 0.2),
}


def features(kind: str, chance: np.random.Generator) -> Features:
    n, cached, asked, overlap = SHAPES[kind]
    n = max(2, int(n * chance.lognormal(0, 0.3)))
    overlap = float(np.clip(overlap + chance.normal(0, 0.05), 0, 1))
    n_cached = min(n - 1, int(n * cached / SHAPES[kind][0]))
    return Features(n, n_cached, asked, overlap, bool(chance.random() < 0.3), False, 1, 0)


Cost = Callable[[int, str, str], float]  # request, kind, plan -> ms per unit


def table(i: int, kind: str, plan: str) -> float:
    return COSTS[kind][plan]


@dataclass
class Run:
    """ms of each request: as it went, and as each plan would have had it, without noise."""

    went: np.ndarray  # (N,) expected ms of the plan taken
    could: np.ndarray  # (N, P)
    choices: list[Choice]

    def over(self, start: int, end: int | None = None) -> float:
        """Work from request `start` on, to that of the best static plan there."""
        best = self.could[start:end].sum(0).min()
        return float(self.went[start:end].sum() / best)


def run(
    tuned: Tuned,
    kinds: list[str],
    *,
    cost: Cost = table,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
    noise: float = 0.25,
) -> Run:
    """Requests one after another; every eighth, the clock ticks."""
    chance = np.random.default_rng([seed, 77])
    went, could, choices = [], [], []
    for i, kind in enumerate(kinds):
        f = features(kind, chance)
        n_out = int(chance.integers(8, f.n_tokens))
        choice = tuned.choose(f)
        size = units(f, n_out)
        luck = float(chance.lognormal(-(noise**2) / 2, noise)) * (
            3 if chance.random() < 0.01 else 1
        )
        ms = size * cost(i, kind, choice.plan) * luck
        tuned.done(trace(str(i), f, choice, n_out, ms))
        went.append(size * cost(i, kind, choice.plan))
        could.append([size * cost(i, kind, plan) for plan in tuned.plans])
        choices.append(choice)
        if i % 8 == 7:
            tick()
    return Run(np.array(went), np.array(could), choices)


def trace(id: str, f: Features, choice: Choice, n_out: int, ms: float) -> Trace:
    s = ms / 1e3
    return Trace(
        id, f, choice.plan, choice.arm, "", n_out, n_out, 0, 0, 0.0, s / n_out, s, s, "stop", 0.0
    )


def straight(tuned: Tuned) -> Callable[[], object]:
    """Promotions without a ledger."""

    def tick() -> None:
        while (wanted := tuned.wanted()) is not None:
            tuned.adopt(wanted.state)

    return tick


def mixed(n: int, seed: int) -> list[str]:
    return list(np.random.default_rng([seed, 3]).choice(list(COSTS), n))


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))

"""What the tuner keeps beside its beliefs: of classes, of requests under way, what it wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.tune.policy import Policy

Floats = NDArray[np.float64]
BURST = 40  # requests of a class that look around more, after a surprise or a birth


class Wanted(NamedTuple):
    """A promotion that the beliefs speak for."""

    state: dict[str, Any]
    motivation: str
    facts: dict[str, Any]


class Logged(NamedTuple):
    """One request as the planner learns from it."""

    at: Floats
    c: int
    plan: int
    live: int
    chance: float  # of that plan, then
    y: float  # log ms per unit


@dataclass
class Known:
    """What is known of one class beside the beliefs."""

    live: int
    policy: Policy
    n: int = 0
    since: int = 0  # requests since it was promoted
    burst: int = BURST
    drift: float = 0.0
    share: float = 0.0  # of the traffic, lately


class Asked(NamedTuple):
    """A request under way."""

    c: int
    at: Floats
    policy: Policy
    planned: int | None  # the planner's plan for it
    live: int

    def chances(self, baseline: int) -> tuple[Floats, Floats]:
        """The tuner's own share of each plan, and each plan's chance, for this one request."""
        rule = self.policy
        if self.planned is not None and self.planned != self.live:
            own = rule.own.copy()
            own[self.live] -= 1 - rule.looks
            own[self.planned] += 1 - rule.looks
            rule = rule._replace(own=own)
        return rule.own, rule.chances(baseline)


class Heard(NamedTuple):
    """A request that has ended, and is to be learned from."""

    asked: Asked
    plan: int
    y: float  # log ms per unit
    work_s: float
    is_look: bool


@dataclass
class Looks:
    """Of requests that came to nothing, since the last summary."""

    n: int = 0
    by_plan: dict[str, int] = field(default_factory=dict)

    def add(self, plan: str) -> None:
        self.n += 1
        self.by_plan[plan] = self.by_plan.get(plan, 0) + 1

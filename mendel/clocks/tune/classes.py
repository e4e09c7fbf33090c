"""Query classes, learned online: requests that are alike in what makes plans dear or cheap.

Features --scaled--> point --nearest centre--> class

A class is made where a request is far from all there are, follows its requests slowly, and keeps
the name it was born with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.serve.protocols import Features, Trace

Floats = NDArray[np.float64]
MOST = 6
FAR = 1.0  # from the nearest centre: then it is another class
FOLLOW = 0.01  # share of the way that a centre goes to each of its requests, at last
FILL = 0.1  # what a prompt's token costs beside a token written; those come in chunks
NAMES = ("new", "asked", "overlap", "cached", "sampled", "constrained", "load")
ONES = np.ones(len(NAMES))


def point(f: Features) -> Floats:
    """(7,): a unit is a factor of 10 in tokens, a third of the overlap, a factor of 8 in load."""
    return np.array(
        (
            math.log10(1 + f.n_prompt - f.n_cached),
            math.log10(1 + f.n_tokens) * 0.5,  # asked for at most says little of what comes
            3 * f.overlap,
            math.log10(1 + f.n_cached) * 0.5,
            0.5 * f.sampled,
            1.0 * f.constrained,
            math.log2(1 + f.n_running + f.n_queued) / 3,
        )
    )


def units(f: Features, n_out: int) -> float:
    """Work of a request in tokens written; the same under every plan, as its output is."""
    return n_out + FILL * (f.n_prompt - f.n_cached) + 1.0


def log_ms(trace: Trace) -> float | None:
    """log of ms per unit of work; None where the trace tells nothing."""
    if trace.reason == "failed" or trace.n_out == 0 or trace.work_s <= 0:
        return None
    return math.log(1e3 * trace.work_s / units(trace.features, trace.n_out))


class Classes:
    """At most MOST classes; of a frozen set, the nearest is taken and nothing moves."""

    def __init__(self, *, frozen: bool = False) -> None:
        self.names: list[str] = []
        self.frozen = frozen
        self._centres = np.full((MOST, len(NAMES)), np.inf)
        self.counts = [0] * MOST

    def __len__(self) -> int:
        return len(self.names)

    def centre(self, i: int) -> Floats:
        at: Floats = self._centres[i]
        return at

    def nearest(self, at: Floats) -> int:
        """Its class, made where there is none near."""
        i = self.find(at)
        return self._make(at) if i is None else i

    def find(self, at: Floats) -> int | None:
        """Its class; None where there is none near, and room for another."""
        n = len(self.names)
        if not n:
            return None
        away = self._centres[:n] - at
        distance = (away * away) @ ONES
        i = int(distance.argmin())
        return i if self.frozen or n == MOST or distance[i] <= FAR * FAR else None

    def follow(self, i: int, at: Floats) -> None:
        """A request of the class was seen."""
        self.counts[i] += 1
        if not self.frozen:
            self._centres[i] += max(1 / (1 + self.counts[i]), FOLLOW) * (at - self._centres[i])

    def _make(self, at: Floats) -> int:
        i, name = len(self.names), _name(at)
        taken = [n for n in self.names if n.split("#")[0] == name]
        self.names.append(f"{name}#{len(taken) + 1}" if taken else name)
        self._centres[i] = at
        return i

    # -- in a champion's state --

    def to_list(self) -> list[dict[str, Any]]:
        rows = [[round(float(x), 3) for x in self._centres[i]] for i in range(len(self))]
        return [{"name": n, "centre": c} for n, c in zip(self.names, rows, strict=True)]

    @classmethod
    def parse(cls, rows: Sequence[dict[str, Any]], *, frozen: bool = False) -> Classes:
        found = cls(frozen=frozen)
        for row in rows[:MOST]:
            found._centres[len(found)] = row["centre"]
            found.counts[len(found)] = 50  # what it has seen before weighs
            found.names.append(row["name"])
        return found


def _name(at: Floats) -> str:
    """What stands out, in words: long-copy, short-sampled."""
    new, _, overlap, cached, sampled, constrained, load = at
    words = ["long" if new > 2.5 else "short" if new < 1.5 else "middle"]
    words += ["copy"] if overlap > 1.2 else []
    words += ["cached"] if cached > 0.8 else []
    words += ["sampled"] if sampled else []
    words += ["formed"] if constrained else []
    words += ["crowded"] if load > 1.0 else []
    return "-".join(words)

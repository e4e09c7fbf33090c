"""How long to train, and the learning rate on the way.

    "10m" --Budget.parse--> Budget, Schedule --Pace--> a multiplier for each step, until it is spent

A budget of seconds depends on the machine, so a pace remembers what it gave: replayed, it gives the
same multipliers for the same number of steps.
"""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field

from mendel.spec import Spec
from mendel.types import InputError

Measure = Literal["seconds", "steps", "tokens", "flops"]

UNITS: dict[str, tuple[Measure, float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "step": ("steps", 1.0),
    "steps": ("steps", 1.0),
    "token": ("tokens", 1.0),
    "tokens": ("tokens", 1.0),
    "flop": ("flops", 1.0),
    "flops": ("flops", 1.0),
}
AMOUNT = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
FIRST = 0.01  # of the peak, at the least, in warm-up: a first step at rate 0 would be lost
DIGITS = 5  # of a measured multiplier: what is recorded is what was used


class BudgetError(InputError):
    """A budget that cannot be read, spent or replayed."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend."""

    kind: Measure
    amount: float  # s, steps, tokens or FLOP; more than 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 10m, 90s, 2000steps, 5e6tokens, 1e15flops; raises BudgetError."""
        found = AMOUNT.fullmatch(text)
        unit = found[2].lower() if found else ""
        if found is None or unit not in UNITS:
            near = difflib.get_close_matches(unit, UNITS, 1) if unit else []
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BudgetError(
                f"{text!r} is no budget. Wanted a number with s, m, h, d, steps, tokens or flops: "
                f"10m, 2000steps, 5e6tokens, 1e15flops.{hint}"
            )
        kind, size = UNITS[unit]
        amount = float(re.sub("[_,]", "", found[1])) * size
        if not 0 < amount < math.inf or (kind == "steps" and amount != int(amount)):
            raise BudgetError(
                f"{text!r} cannot be spent. Wanted more than 0 and less than infinity"
                f"{', in whole steps' * (kind == 'steps')}. Say 10m or 2000steps."
            )
        return cls(kind, amount)

    def __str__(self) -> str:
        """Parses to the same budget."""
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount}{'s' if self.kind == 'seconds' else self.kind}"


class Schedule(Spec):
    """The learning rate's multiplier over a run: up in the warm-up, then along the shape."""

    warmup: float = Field(0.0, ge=0, lt=1)  # share of the run
    shape: Literal["constant", "linear", "cosine"] = "cosine"
    final: float = Field(0.1, ge=0, le=1)  # share of the peak at the end; constant ignores it

    def multiplier(self, progress: float) -> float:
        """The share of the peak rate at a share of the run, both 0 to 1."""
        if progress < self.warmup:
            return max(FIRST, progress / self.warmup)
        if self.shape == "constant":
            return 1.0
        after = (progress - self.warmup) / (1 - self.warmup)
        left = 1 - after if self.shape == "linear" else (1 + math.cos(math.pi * after)) / 2
        return self.final + (1 - self.final) * left


class Pace:
    """Gives each step its multiplier until the budget is spent; at least one step.

    budget      steps, tokens and FLOP: step i of n is at progress i/n, n rounded down to what the
                budget pays for. Seconds: progress is measured, from the first step on
    per_step    tokens or FLOP of one step; needed for those budgets, unused by others
    now         the clock, in seconds
    raises      BudgetError where a step costs nothing, so that the run would never end

        for multiplier in pace:
            optimizer.step(grads, multiplier)
    """

    def __init__(
        self,
        budget: Budget,
        schedule: Schedule,
        *,
        per_step: float = 0.0,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget, self.schedule, self.per_step = budget, schedule, per_step
        self.n_steps = _n_steps(budget, per_step)  # None = until the time is up
        self.step = 0  # steps begun
        self._now = now
        self._before_s = 0.0  # spent before this process began its first step
        self._began: float | None = None
        self._given: list[list[float]] = []  # measured multipliers: [value, times in a row]
        self._script: Iterator[float] | None = None

    @property
    def elapsed_s(self) -> float:
        return self._before_s + (0.0 if self._began is None else self._now() - self._began)

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        spent = self.elapsed_s / self.budget.amount
        return min(1.0, spent if self.n_steps is None else self.step / self.n_steps)

    @property
    def done(self) -> bool:
        return self.step > 0 and self.progress >= 1

    def __iter__(self) -> Iterator[float]:
        while (multiplier := self.next()) is not None:
            yield multiplier

    def next(self) -> float | None:
        """The multiplier of the step that begins now, or None when the budget is spent."""
        if self._began is None:
            self._began = self._now()
        if self.done:
            return None
        if self._script is not None:
            multiplier = next(self._script)
        else:
            multiplier = self.schedule.multiplier(self.progress)
        if self.budget.kind == "seconds":
            multiplier = self._remember(multiplier)
        self.step += 1
        return multiplier

    def record(self) -> dict[str, Any]:
        """All that resume and replay need, as plain JSON; steps of one multiplier take one row."""
        return {
            "budget": str(self.budget),
            "schedule": self.schedule.to_dict(),
            "per_step": self.per_step,
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "multipliers": [list(row) for row in self._given],
        }

    @classmethod
    def resume(
        cls, record: Mapping[str, Any], *, now: Callable[[], float] = time.perf_counter
    ) -> Self:
        """The pace where it was recorded: the steps and seconds before are spent."""
        try:
            budget, schedule = Budget.parse(record["budget"]), Schedule.parse(record["schedule"])
            pace = cls(budget, schedule, per_step=float(record["per_step"]), now=now)
            pace.step, pace._before_s = int(record["step"]), float(record["elapsed_s"])
            pace._given = [[float(value), int(n)] for value, n in record["multipliers"]]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise BudgetError(
                f"the record of a pace cannot be read: {error!r}. Wanted what Pace.record() gave. "
                "Begin a new run."
            ) from None
        return pace

    @classmethod
    def replay(cls, record: Mapping[str, Any]) -> Self:
        """The recorded steps again, each with the multiplier that it had, however long they take.

        raises  BudgetError where the record has no steps, or not one multiplier for each
        """
        pace = cls.resume(record)
        n, n_planned, given = pace.step, pace.n_steps, pace._given
        if n < 1 or (n_planned is None and sum(int(times) for _, times in given) != n):
            raise BudgetError(
                f"the record of a pace cannot be replayed. Got {n} steps and {len(given)} rows of "
                "multipliers. Wanted a multiplier for each step. Replay a whole record."
            )
        pace.step, pace._before_s, pace._given, pace.n_steps = 0, 0.0, [], n
        if n_planned is None:
            pace._script = (value for value, times in given for _ in range(int(times)))
        else:
            pace._script = (pace.schedule.multiplier(i / n_planned) for i in range(n))
        return pace

    def _remember(self, multiplier: float) -> float:
        multiplier = round(multiplier, DIGITS)
        if self._given and self._given[-1][0] == multiplier:
            self._given[-1][1] += 1
        else:
            self._given.append([multiplier, 1])
        return multiplier


def _n_steps(budget: Budget, per_step: float) -> int | None:
    if budget.kind == "seconds":
        return None
    cost = 1.0 if budget.kind == "steps" else per_step
    if not 0 < cost < math.inf:
        raise BudgetError(
            f"a budget of {budget} needs the {budget.kind} of one step. Got {per_step}. Wanted "
            "more than 0. Give per_step, or a budget in steps or seconds."
        )
    return max(1, int(budget.amount // cost))

"""(model spec, train spec, data) -> trained models and a Result; a run can stop and go on.

pace -> step of each group of seeds -> losses; evaluations on the way; checkpoints for --resume
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mendel.model import Model
from mendel.spec import ModelSpec, TrainSpec
from mendel.train import checkpoint
from mendel.train.group import Group, Source
from mendel.train.grouping import make_groups
from mendel.train.interrupts import Interrupts
from mendel.train.schedule import Budget, Pace, Schedule
from mendel.types import Cost, InputError, Result

SAVE_EVERY_S = 60.0


@dataclass
class Curve:
    """What one seed's run showed; steps count from 1."""

    losses: list[float] = field(default_factory=list)  # nats a target, of each step's batch
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # step, nats on validation
    diverged: int | None = None  # the step at which its loss was no number


@dataclass(frozen=True)
class Progress:
    """What is told after each step."""

    step: int
    share: float  # of the budget
    elapsed_s: float
    curves: Mapping[int, Curve]  # by seed


@dataclass(frozen=True)
class Outcome:
    """The trained models, one a seed, and what was measured."""

    result: Result
    models: tuple[Model, ...]
    curves: Mapping[int, Curve]
    pace: Mapping[str, Any]  # the schedule that the budget led to: Pace.replay repeats it
    finished: bool  # False: stopped by hand
    notices: tuple[str, ...] = ()  # checkpoints that could not be written


class Training:
    """One run, from its start or from a checkpoint."""

    def __init__(
        self,
        spec: ModelSpec,
        how: TrainSpec,
        source: Source,
        *,
        folder: Path | None = None,
        resume: bool = False,
        replay: Mapping[str, Any] | None = None,
        together: bool | None = None,
    ) -> None:
        """Build the models, or read them from the checkpoint.

        folder    where checkpoints go; None = nowhere
        resume    go on from the folder's checkpoint
        replay    the pace of an earlier run, whose schedule is repeated
        together  all seeds in one batched run; None = where that is faster on this machine
        """
        self.spec, self.how, self.source, self.folder = spec, how, source, folder
        self.seeds = tuple(range(how.seed, how.seed + how.n_seeds))
        self.groups = make_groups(spec, how, self.seeds, source, together)
        self.curves = {seed: Curve() for seed in self.seeds}
        self.seconds, self._saved_at = 0.0, time.monotonic()
        self._n_evaluated, self._replay = 0, replay
        self.notices: list[str] = []
        self.flops_per_step = how.batch * self.groups[0].flops_of_a_window(source)
        self.pace = Pace.replay(replay) if replay is not None else self._new_pace()
        if resume:
            self._load()

    def run(
        self,
        tell: Callable[[Progress], None] = lambda progress: None,
        stopping: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Train until the budget is spent; Ctrl-C stops after a checkpoint, with what there is.

        tell      is called after each step
        stopping  is called once, when Ctrl-C was heard
        raises    MemoryShort, which says the batch that fits
        """
        began, before = time.perf_counter(), self.seconds
        with Interrupts(stopping) as interrupts:
            try:
                while not interrupts.asked and self._alive():
                    multiplier = self.pace.next()
                    if multiplier is None:
                        break
                    self._step(multiplier)
                    self.seconds = before + time.perf_counter() - began
                    tell(Progress(self.pace.step, self.pace.progress, self.seconds, self.curves))
                    if time.monotonic() - self._saved_at > SAVE_EVERY_S:
                        self.save()
            except KeyboardInterrupt:  # of `tell`, between two steps
                interrupts.asked = True
            if interrupts.asked:
                self.save()  # before the evaluation, which may take long
            self._evaluate()
        self.seconds = before + time.perf_counter() - began
        return self._outcome(finished=not interrupts.asked)

    def _step(self, multiplier: float) -> None:
        step = self.pace.step
        for group in self.groups:
            if all(self.curves[seed].diverged for seed in group.seeds):
                continue
            losses = group.step(self.source, step, multiplier)
            for seed, loss in zip(group.seeds, losses, strict=True):
                self.curves[seed].losses.append(loss)
                self._check(seed, loss)
        due = int(self.pace.progress * self.how.n_evaluations)
        if due > self._n_evaluated:
            self._n_evaluated = due
            self._evaluate()

    def _evaluate(self) -> None:
        """Once a step at most."""
        for group in self.groups:
            last = self.curves[group.seeds[0]].evaluations
            if last and last[-1][0] == self.pace.step:
                continue
            for seed, loss in zip(group.seeds, group.evaluate(self.source), strict=True):
                self.curves[seed].evaluations.append((self.pace.step, loss))
                self._check(seed, loss)

    def _check(self, seed: int, loss: float) -> None:
        if not math.isfinite(loss) and self.curves[seed].diverged is None:
            self.curves[seed].diverged = self.pace.step

    def _alive(self) -> bool:
        return any(curve.diverged is None for curve in self.curves.values())

    def _new_pace(self) -> Pace:
        how, budget = self.how, Budget.parse(self.how.budget)
        schedule = Schedule(warmup=how.warmup, shape=how.shape, final=how.final)
        costs = {"tokens": float(how.batch * self.spec.context), "flops": self.flops_per_step}
        return Pace(budget, schedule, per_step=costs.get(budget.kind, 0.0))

    def save(self) -> None:
        """Write the checkpoint; the one before stays until this one is whole.

        Weights that are no numbers are not worth resuming from: then it stays for good.
        """
        self._saved_at = time.monotonic()
        if self.folder is None or not any(group.some_seed_is_finite() for group in self.groups):
            return
        facts = {
            "model": self.spec.to_dict(),
            "train": self.how.to_dict(),
            "groups": [list(group.seeds) for group in self.groups],
            "pace": self.pace.record(),
            "seconds": self.seconds,
            "curves": {str(seed): vars(curve) for seed, curve in self.curves.items()},
            "n_evaluated": self._n_evaluated,
            "is_replay": self._replay is not None,
        }
        try:
            checkpoint.save(self.folder, facts, [group.state_tensors() for group in self.groups])
        except OSError as error:  # a full disk is no reason to lose the run
            self.notices.append(f"step {self.pace.step}: no checkpoint was written: {error}")

    def _load(self) -> None:
        if self.folder is None:
            raise InputError("resume=True needs the folder of the run.")
        facts, tensors = checkpoint.load(self.folder)
        checkpoint.check_same(facts, self.spec, self.how)
        if facts["is_replay"] is not (self._replay is not None):
            raise InputError("a replay is resumed as a replay: give the same --replay as before.")
        groups = [tuple(seeds) for seeds in facts["groups"]]
        if groups != [group.seeds for group in self.groups]:
            device = self.groups[0].device
            self.groups = [Group(self.spec, self.how, seeds, device) for seeds in groups]
        for group, state in zip(self.groups, tensors, strict=True):
            group.load_state_tensors(state)
        self.curves = {
            int(seed): Curve(c["losses"], [tuple(e) for e in c["evaluations"]], c["diverged"])
            for seed, c in facts["curves"].items()
        }
        self.seconds, self._n_evaluated = facts["seconds"], facts["n_evaluated"]
        if self._replay is None:
            self.pace = Pace.resume(facts["pace"])
        else:
            for _ in range(facts["pace"]["step"]):
                self.pace.next()

    def _outcome(self, finished: bool) -> Outcome:
        models = tuple(model for group in self.groups for model in group.models())
        size = sum(p.numel() * p.element_size() for p in models[0].parameters())
        cost = Cost(self.seconds, self.flops_per_step * self.pace.step, models[0].n_params, size)
        facts: dict[str, Any] = {"step": self.pace.step, "flops_per_step": self.flops_per_step}
        facts["nats"] = {
            seed: curve.evaluations[-1][1]
            for seed, curve in self.curves.items()
            if curve.diverged is None and curve.evaluations
        }
        failed = {s: c.diverged for s, c in self.curves.items() if c.diverged is not None}
        if failed:
            which = ", ".join(f"seed {seed} at step {step}" for seed, step in failed.items())
            error = f"the loss is no number: {which}. Try a lower lr."
            result = Result(cost=cost, facts={**facts, "diverged": failed}, error=error)
        else:
            scores = tuple(-self.curves[seed].evaluations[-1][1] for seed in self.seeds)
            result = Result(scores, cost=cost, facts=facts)
        pace = self.pace.record()
        return Outcome(result, models, self.curves, pace, finished, tuple(self.notices))


def train(spec: ModelSpec, how: TrainSpec, source: Source) -> Outcome:
    """Train a spec's seeds on the data: scores are minus the nats a target on validation."""
    return Training(spec, how, source).run()

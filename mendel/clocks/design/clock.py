"""The design clock's five things: champion, propose, trial, policy, promote.

A round of a trial is one fold. Ranks among the others decide who sees the next fold; whoever has
seen all of them may become the champion, by point estimate: a selection, not a claim.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from safetensors.numpy import load, save

from mendel.clocks.design import ladder
from mendel.clocks.design.closing import MOST_TO_CLOSE, Ending, closing_s
from mendel.clocks.design.ladder import Standing
from mendel.clocks.design.run import Run
from mendel.clocks.live import LiveFile
from mendel.kinds import KINDS, Kind, Shape, recipe_of
from mendel.ledger import Ledger, View
from mendel.spec import TextSpec
from mendel.train.folds import Form, Kept, Measured, Rows, measure_fold
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Cost,
    Decision,
    Digest,
    History,
    Result,
    Trial,
    Verdict,
)

SLACK = 0.003  # scores this near count as level: the tolerance of what ships


class DesignClock:
    """Looks for one model for one task until its run's time for looking is over.

    run       the prepared rows, the task and the seed
    ledger    where rounds are told and models are kept
    until     unix seconds: the end of the budget
    starting_s  that its process took to start, for those who must know how busy the machine is
    """

    def __init__(self, run: Run, ledger: Ledger, until: float, starting_s: float = 0.0) -> None:
        self.run, self.ledger, self.until, self.starting_s = run, ledger, until, starting_s
        self.line = run.line
        self.live = LiveFile(run.folder / "live.json")
        self.history = View(ledger, self.line)

    # -- champion --

    def champion(self) -> Champion:
        """Before the first turn nothing, with the task's traits: later runs learn from them."""
        nothing = Candidate({"model": None}, "nothing was designed yet")
        traits = self.run.spec.traits
        facts = {} if traits is None else {"task": traits.to_dict()}
        return self.live.read() or Champion(nothing, Result(facts=facts))

    # -- propose --

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """The first of the run's start, then of the leader's mutations, that is new and fits."""
        turns = history.turns()
        found = ladder.standings(turns)
        known = {turn.candidate.id for turn in turns} | {c.id for c in history.pending()}
        spec = self.run.spec
        for candidate in ladder.proposals(self.shape, found, spec.start, spec.after):
            recipe = recipe_of(TextSpec.parse(dict(candidate.state["model"])))
            left = self.left_s(found)
            if candidate.id not in known and ladder.fits(recipe, self.shape, found, left):
                return candidate
        return None

    # -- trial --

    def trial(self, trial: Trial) -> Result:
        """Train on all folds but one, measure on that one; the first round's model is kept."""
        spec = TextSpec.parse(dict(trial.candidate.state["model"]))
        fold, seed = trial.round, self.run.spec.train.seed
        left = self.left_s(ladder.standings(self.history.turns()))
        deadline = time.monotonic() + left
        times = int(trial.candidate.state.get("times", 1))
        measured = measure_fold(
            self.kind, spec, self.rows, fold, seed=seed, deadline=deadline, times=times
        )
        artifacts = {"kept": self._keep(measured, fold)}
        if fold == 0:
            packed = self.kind.builder.pack(measured.trained)
            artifacts["model"] = self.ledger.blobs.put(packed)
        whole = measured.forms["float32"]
        cost = Cost(measured.seconds, 0.0, whole.n_params, whole.n_bytes)
        facts = {name: _facts(form) for name, form in measured.forms.items()}
        took = {"readying_s": measured.readying_s, "starting_s": self.starting_s}
        told = {"fold": fold, **{name: round(s, 1) for name, s in took.items()}, **facts}
        return Result((whole.score,), (), cost, artifacts, told)

    def _keep(self, measured: Measured, fold: int) -> Digest:
        rows = np.flatnonzero(self.rows.folds == fold)
        forms = {name: form.kept for name, form in measured.forms.items()}
        return self.ledger.blobs.put(save({**forms, "rows": rows}))

    # -- policy --

    def policy(self, trial: Trial, account: Account) -> Verdict:
        """Successive halving over folds; among those with all folds, the highest mean leads."""
        mine = [result.scores[0] for result in trial.results]
        mean = sum(mine) / len(mine)
        told = f"{mean:.1%} on {len(mine)} of {self.shape.n_folds} folds"
        others = [
            s for s in ladder.standings(self.history.turns()) if s.candidate != trial.candidate
        ]
        if len(mine) < self.shape.n_folds:
            stop = ladder.promising(mine, [s.scores for s in others], SLACK)
            if stop is not None and "times" not in trial.candidate.state:
                return Verdict(Decision.DISCARD, f"{told}: {stop}")
            if ladder.mean_seconds(trial.results) > self.left_s(others):
                return Verdict(Decision.DISCARD, f"{told}: no time for another fold")
            return Verdict(Decision.CONTINUE, f"{told}: goes on")
        may_lead = [s for s in others if not ladder.is_augmented(s.spec)]
        complete = [s.scores for s in may_lead if len(s.turns) == self.shape.n_folds]
        best = max((sum(a) / len(a) for a in complete), default=-math.inf)
        if ladder.is_augmented(TextSpec.parse(dict(trial.candidate.state["model"]))):
            return Verdict(Decision.DISCARD, f"{told}: complete; judged when the run chooses")
        if mean > best:
            before = f" (before: {best:.1%})" if complete else ""
            return Verdict(Decision.KEEP, f"{told}: leads{before}")
        return Verdict(Decision.DISCARD, f"{told}: complete; the leader has {best:.1%}")

    # -- promote --

    def promote(self, champion: Champion) -> None:
        self.live.write(champion)

    # -- what the five need --

    def left_s(self, found: Sequence[Standing]) -> float:
        """Seconds left for looking; the rest of the budget is for finishing."""
        return self.until - time.time() - self.closing_s(found)

    def closing_s(self, found: Sequence[Standing]) -> float:
        """Seconds to keep for the end; some of the budget is for looking all the same."""
        needed = closing_s(self.shape, found, self._ending)
        return min(needed, MOST_TO_CLOSE * self.run.spec.budget_s)

    def out_of_fold(self, standing: Standing, form: str) -> tuple[Rows, Kept]:
        """The rows that some round of a candidate held out, and what was kept of their outputs."""
        rounds = [
            load(self.ledger.blobs.get(turn.result.artifacts["kept"])) for turn in standing.turns
        ]
        places = np.concatenate([kept["rows"] for kept in rounds])
        outputs = np.concatenate([kept[form] for kept in rounds])
        chosen = np.zeros(len(self.rows.texts), bool)
        chosen[places] = True
        return self.rows.only(chosen), outputs[np.argsort(places)]

    @cached_property
    def kind(self) -> Kind:
        return KINDS[self.run.spec.task.kind]

    @cached_property
    def rows(self) -> Rows:
        return Rows.load(self.run.folder)

    @cached_property
    def _ending(self) -> Ending:
        return Ending.of(self.run.spec, self.rows)

    @cached_property
    def shape(self) -> Shape:
        spec = self.run.spec
        task, n_folds = spec.task, spec.train.n_folds
        given = self.rows.inputs
        return self.kind.shape(task.data.n_rows, task.labels, given, task.limits, n_folds)


def _facts(form: Form) -> dict[str, float]:
    return {
        "score": form.score,
        "n_bytes": form.n_bytes,
        "n_params": form.n_params,
        "latency_ms": round(form.latency_ms, 4),
    }

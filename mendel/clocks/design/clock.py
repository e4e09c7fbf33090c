"""The design clock's five things: champion, propose, trial, policy, promote.

A round of a trial is one fold. Ranks among the others decide who sees the next fold; whoever has
seen all of them may become the champion, by point estimate: a selection, not a claim.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mendel.clocks.design import ladder
from mendel.clocks.design.ladder import Shape, Standing
from mendel.clocks.design.run import Run
from mendel.clocks.live import LiveFile
from mendel.ledger import Ledger, View
from mendel.parts.text.store import pack
from mendel.spec import TextSpec
from mendel.train.folds import Form, Measured, Rows, measure_fold, recipe_of
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

SLACK = 0.003  # accuracies this near count as level: the tolerance of what ships


class DesignClock:
    """Looks for one model for one task until its run's time for looking is over.

    run       the prepared rows, the task and the seed
    ledger    where rounds are told and models are kept
    until     unix seconds: the end of the budget
    """

    def __init__(self, run: Run, ledger: Ledger, until: float) -> None:
        self.run, self.ledger, self.until = run, ledger, until
        self.line = run.line
        self.live = LiveFile(run.folder / "live.json")
        self.history = View(ledger, self.line)

    # -- champion --

    def champion(self) -> Champion:
        nothing = Candidate({"model": None}, "nothing was designed yet")
        return self.live.read() or Champion(nothing)

    # -- propose --

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """The first of the ladder, and then of the leader's mutations, that is new and fits."""
        turns = history.turns()
        found = ladder.standings(turns)
        known = {turn.candidate.id for turn in turns} | {c.id for c in history.pending()}
        for candidate in ladder.proposals(self.shape, found):
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
        measured = measure_fold(spec, self.rows, fold, seed=seed, deadline=deadline)
        artifacts = {"logits": self._keep_logits(measured, fold)}
        if fold == 0:
            artifacts["model"] = self.ledger.blobs.put(pack(measured.trained))
        cost = Cost(measured.seconds, 0.0, measured.n_params, measured.float32.n_bytes)
        facts = {"fold": fold, "float32": _facts(measured.float32), "int8": _facts(measured.int8)}
        return Result((measured.float32.accuracy,), (), cost, artifacts, facts)

    def _keep_logits(self, measured: Measured, fold: int) -> Digest:
        rows = np.flatnonzero(self.rows.folds == fold)
        forms = {"float32": measured.float32.logits, "int8": measured.int8.logits}
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
            stop = ladder.promising(mine, [s.accuracies for s in others], SLACK)
            if stop is not None:
                return Verdict(Decision.DISCARD, f"{told}: {stop}")
            if ladder.mean_seconds(trial.results) > self.left_s(others):
                return Verdict(Decision.DISCARD, f"{told}: no time for another fold")
            return Verdict(Decision.CONTINUE, f"{told}: goes on")
        complete = [s.accuracies for s in others if len(s.turns) == self.shape.n_folds]
        best = max((sum(a) / len(a) for a in complete), default=0.0)
        if mean > best:
            return Verdict(Decision.KEEP, f"{told}: leads (before: {best:.1%})")
        return Verdict(Decision.DISCARD, f"{told}: complete; the leader has {best:.1%}")

    # -- promote --

    def promote(self, champion: Champion) -> None:
        self.live.write(champion)

    # -- what the five need --

    def left_s(self, found: Sequence[Standing]) -> float:
        """Seconds left for looking; the rest of the budget is for finishing."""
        return self.until - time.time() - ladder.closing_s(self.shape, found)

    @cached_property
    def rows(self) -> Rows:
        return Rows.load(self.run.folder)

    @cached_property
    def shape(self) -> Shape:
        spec = self.run.spec
        return Shape(
            spec.task.data.n_rows, len(spec.task.labels), spec.task.limits, spec.train.n_folds
        )


def out_of_fold(
    ledger: Ledger, standing: Standing, form: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows that some round held out, ascending, and the logits they got: (n,), (n, K)."""
    kept = [load(ledger.blobs.get(turn.result.artifacts["logits"])) for turn in standing.turns]
    rows = np.concatenate([part["rows"] for part in kept])
    logits = np.concatenate([part[form] for part in kept])
    order = np.argsort(rows)
    return rows[order], logits[order]


def _facts(form: Form) -> dict[str, float]:
    return {
        "accuracy": form.accuracy,
        "n_bytes": form.n_bytes,
        "latency_ms": round(form.latency_ms, 4),
    }

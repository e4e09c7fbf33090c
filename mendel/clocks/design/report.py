"""What a run measured, gathered for the report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mendel.clocks.design import ladder
from mendel.clocks.design.choose import Chosen
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.cost import cost_of
from mendel.clocks.design.ladder import Standing
from mendel.clocks.design.run import RunSpec
from mendel.clocks.design.slices import slices
from mendel.data.vault import Opening
from mendel.judge import Option
from mendel.kinds import recipe_of
from mendel.propose import Start, named
from mendel.spec import Limits, TextSpec
from mendel.types import Kind, Turn, Verdict

MIN_VERIFIED = 50  # real labelled test rows
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "p50_cold_ms")
LIBRARIES = ("mendel", "numpy", "onnxruntime", "scikit-learn", "torch")


@dataclass(frozen=True)
class Evidence:
    """All that the report is made from."""

    clock: DesignClock
    chosen: Chosen
    trained_on: str
    n_params: int
    speed: Mapping[str, Any]  # what the project's own benchmark printed
    about: Mapping[str, Any]  # what the kind of task says of the model
    opening: Opening
    claim: Verdict | None
    behaviour: Mapping[str, Any] | None  # answers to texts written otherwise
    changes: Mapping[str, Any] | None  # beside the model before, where there is one
    spent_s: float
    stages: Sequence[tuple[str, float]]  # name, seconds
    interrupted: bool

    @property
    def option(self) -> Option:
        assert self.chosen.choice.option is not None
        return self.chosen.choice.option


def report_of(e: Evidence) -> dict[str, Any]:
    """The sections that `mendel.emit.report.write_report` prints."""
    spec = e.clock.run.spec
    again: dict[str, Any] = {"changes": e.changes} if e.changes else {}
    if e.chosen.repair is not None:
        again["repair"] = asdict(e.chosen.repair)
    return {
        "title": spec.task.description,
        "task": spec.task.to_dict(),
        "metric": e.clock.kind.metric,
        "status": _status(e),
        "data": _data(e),
        "shipped": _shipped(e),
        "fitted": dict(e.chosen.fitted.facts),
        "sealed": _sealed(e),
        "slices": slices(e.clock.kind, e.opening, e.clock.rows.learned().texts),
        "behaviour": e.behaviour,
        "about": dict(e.about),
        "baselines": _baselines(e),
        "claims": _claims(e),
        "latency": {k: e.speed.get(k) for k in LATENCIES},
        "resources": {
            k: e.speed.get(k)
            for k in ("model_bytes", "project_bytes", "peak_mb", "load_s", "texts_per_s")
        },
        "cost": cost_of(e.speed.get("p50_ms"), spec.prices),
        "time": _time(e),
        "limits": _limits(spec.task.limits, e),
        "start": _start(spec.start),
        "ladder": _ladder(e),
        "judge": vars(e.clock.ledger.account(e.clock.line)),
        "reproduce": _reproduce(e),
        **again,
    }


def _status(e: Evidence) -> dict[str, Any]:
    """Verified: at least 50 sealed rows from real use that have no near-duplicate in training."""
    spec = e.clock.run.spec
    near = set(spec.near_duplicates)
    n = sum(t is not None and i not in near for i, t in enumerate(e.opening.targets))
    kind = spec.task.data.provenance
    if kind == "unknown":
        reason = "nobody said where the rows come from (--provenance collected, if from real use)"
    elif kind != "collected":
        reason = f"{spec.origin}, not collected from real use: the score is for rows like these"
    elif n < MIN_VERIFIED:
        reason = f"{n} sealed rows without a near-duplicate in training; wanted {MIN_VERIFIED}"
    else:
        reason = (
            f"{n:,} sealed rows from real use, as stated, besides {len(near):,} near-duplicates"
        )
        return {"verified": True, "reason": reason}
    return {"verified": False, "reason": reason}


def _data(e: Evidence) -> dict[str, Any]:
    spec, given = e.clock.run.spec, e.clock.rows.inputs
    return {
        "rows": spec.task.data.n_rows + spec.n_sealed,
        "n_train": spec.task.data.n_rows,
        "n_sealed": spec.n_sealed,
        "sealed_from": spec.sealed_from,
        "provenance": spec.origin,
        "near_duplicates": len(spec.near_duplicates),
        "faults": list(spec.faults),
        "sources": list(spec.sources),
        "given": {
            "rows that choose": spec.n_validation,
            "texts without a label": len(given.outside),
            "unlabelled texts": len(given.unlabeled),
            "teacher": given.teacher,
            "passages": len(given.passages),
            "documents": len({passage.file for passage in given.passages}),
            **{f"phrases of {name}": len(found) for name, found in given.gazetteers.items()},
        },
    }


def _shipped(e: Evidence) -> dict[str, Any]:
    option, standing = e.option, e.chosen.standing
    n_rounds, n_folds = e.chosen.n_rounds, e.clock.shape.n_folds
    complete = n_rounds == n_folds
    part = f"a held-out slice ({n_rounds} of {n_folds} folds)"
    return {
        "name": standing.name,
        "family": recipe_of(standing.spec).family,
        "recipe": standing.spec.fields,
        "form": e.chosen.form,
        "n_params": e.n_params,
        "model_bytes": e.speed.get("model_bytes"),
        "oof_score": option.score,
        "oof_se": option.stderr,
        "chosen": e.chosen.choice.reason,
        "fitted_on": _fitted_on(e.clock.run.spec, n_folds) if complete else part,
        "trained_on": e.trained_on,
        "interrupted": e.interrupted,
    }


def _fitted_on(spec: RunSpec, n_folds: int) -> str:
    if not spec.n_validation:
        return f"{n_folds}-fold out-of-fold predictions"
    return f"the {spec.n_validation:,} rows of --validation"


def _sealed(e: Evidence) -> dict[str, Any]:
    kind, opening = e.clock.kind, e.opening
    found = kind.sealed(
        opening.answers["this model"],
        opening.targets,
        opening.texts,
        e.clock.run.spec.task.labels,
        e.chosen.fitted,
    )
    beside = kind.beside_training(
        opening.answers["this model"], opening.targets, opening.texts, e.clock.rows.learned()
    )
    return {**found, **beside, "far": _far(e), "opened": opening.n_openings}


def _far(e: Evidence) -> dict[str, Any]:
    """The score on sealed rows that have no near-duplicate in training."""
    near = set(e.clock.run.spec.near_duplicates)
    far = [i for i, t in enumerate(e.opening.targets) if i not in near and t is not None]
    answers = [e.opening.answers["this model"][i] for i in far]
    targets = [e.opening.targets[i] for i in far]
    score = e.clock.kind.total(answers, targets)[0] if far else None
    return {"n": len(far), "score": score}


def _baselines(e: Evidence) -> list[dict[str, Any]]:
    rows = []
    for name, answers in e.opening.answers.items():
        if name != "this model":
            score, low, high = e.clock.kind.total(answers, e.opening.targets)
            rows.append({"name": name, "score": score, "low": low, "high": high})
    return rows


def _claims(e: Evidence) -> list[dict[str, Any]]:
    if e.claim is None:
        return []
    rival = next(iter(e.clock.kind.baselines))
    text = f"better than {rival} on sealed rows without a near-duplicate in training"
    return [{"text": text, "allowed": e.claim.keep, "reason": e.claim.reason}]


def _time(e: Evidence) -> dict[str, Any]:
    turns = e.clock.ledger.turns(e.clock.line, kinds=[Kind.TRIAL])
    enough = 0.9 * e.option.score  # within a tenth of what ships
    kept = [turn for turn in turns if "model" in turn.result.artifacts]
    usable = [turn.at for turn in kept if turn.result.scores[0] >= enough]
    first = usable[0] - e.clock.run.spec.started if usable else None
    stages = [{"name": name, "seconds": round(seconds, 1)} for name, seconds in e.stages]
    return {
        "budget_s": e.clock.run.spec.budget_s,
        "spent_s": round(e.spent_s, 1),
        "first_usable_s": None if first is None else round(first, 1),
        "stages": stages,
    }


def _limits(limits: Limits, e: Evidence) -> list[dict[str, Any]]:
    found = [
        ("max_bytes", "--max-size", limits.max_bytes, e.speed.get("model_bytes")),
        ("max_params", "--max-params", limits.max_params, e.n_params),
        ("max_latency_ms", "--max-latency", limits.max_latency_ms, e.speed.get("p50_ms")),
    ]
    rows = []
    for name, flag, wanted, got in found:
        met = got is not None and got <= wanted
        over = "" if met or got is None else f"missed by {got / wanted - 1:.1%}: raise {flag}"
        rows.append({"limit": name, "wanted": wanted, "got": got, "met": met, "note": over})
    return rows


def _start(start: Start) -> dict[str, Any]:
    steps = [{"name": named(step.recipe), **step.to_dict()} for step in start.steps]
    return {"why": list(start.why), "steps": steps}


def _ladder(e: Evidence) -> list[dict[str, Any]]:
    turns = e.clock.history.turns()
    good = [_tried(e, standing) for standing in ladder.standings(turns)]
    started = {turn.trial for turn in turns if turn.result.error is None}
    return good + [_failed(turn) for turn in turns if turn.trial not in started]


def _tried(e: Evidence, standing: Standing) -> dict[str, Any]:
    clock, judged = e.clock, e.chosen.judged.get(standing.spec.name)
    left_out = f". Left out of the choice: {judged.reason}" if judged and not judged.keep else ""
    facts, last = standing.turns[0].result.facts, standing.turns[-1]
    rows, kept = clock.out_of_fold(standing, "float32")
    return {
        "name": standing.name,
        "family": recipe_of(standing.spec).family,
        "rounds": len(standing.turns),
        "score": sum(standing.scores) / len(standing.turns),
        "se": clock.kind.stderr(kept, rows),
        "n_params": last.result.cost.n_params,
        "model_bytes": facts["int8"]["n_bytes"],
        "latency_ms": facts["int8"]["latency_ms"],
        "seconds": sum(turn.result.cost.seconds for turn in standing.turns),
        "decision": str(last.verdict.decision),
        "reason": f"{standing.candidate.motivation}. {last.verdict.reason}{left_out}",
    }


def _failed(turn: Turn) -> dict[str, Any]:
    spec = TextSpec.parse(dict(turn.candidate.state["model"]))
    return {
        "name": spec.name,
        "family": recipe_of(spec).family,
        "rounds": 0,
        "seconds": turn.result.cost.seconds,
        "decision": "failed",
        "reason": f"{turn.candidate.motivation}. {turn.verdict.reason}",
    }


def _reproduce(e: Evidence) -> dict[str, Any]:
    spec = e.clock.run.spec
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": spec.command,
        "seed": spec.train.seed,
        "line": str(e.clock.line),
        "data_digest": spec.task.data.digest,
        "versions": versions,
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
    }

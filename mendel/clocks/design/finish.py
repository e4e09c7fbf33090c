"""The end of a run: choose, train on all rows, pack, open the sealed set, report, ship.

Nothing appears at --out before all of it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mendel import judge
from mendel.clocks.design.behaviour import behaviour_of
from mendel.clocks.design.changes import BEFORE, changes, command_before
from mendel.clocks.design.choose import Chosen, choose
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.report import Evidence, report_of
from mendel.clocks.design.run import Run
from mendel.clocks.workers import Stopwatch
from mendel.data.vault import Opening, Sealed, Vault
from mendel.emit.plain import weak_points
from mendel.emit.project import Agent, emit_project
from mendel.emit.report import TECHNICAL, technical_markdown, write_report, write_text
from mendel.kinds import recipe_of
from mendel.repair import Repair
from mendel.types import Candidate, Decision, Kind, Result, SealedError, Turn, Verdict

QUICK_S = 10.0  # a refit this short is made even when the user wants to leave
N_SHOWN = 30  # rows of training that travel with the project, for its own tests


@dataclass(frozen=True)
class Shipped:
    """What a run came to. Without `model` the folder holds a report only, or is not there."""

    folder: Path
    report: dict[str, Any]
    model: bool

    @classmethod
    def load(cls, run: Run) -> Shipped:
        folder = Path(run.spec.out)
        if run.state == "refused":
            return cls(folder, run.refusal(), False)
        text = (folder / "report.json").read_text(encoding="utf-8")
        return cls(folder, json.loads(text), (folder / "model.onnx").exists())


class Stages:
    """Names what is being done, for who watches, and remembers how long each took."""

    def __init__(self, watch: Stopwatch, show: Callable[[str], None]) -> None:
        self._watch, self._show = watch, show
        self._entered = [("preparing and climbing the ladder", 0.0)]

    def enter(self, name: str) -> None:
        self._show(name)
        self._watch.save()
        self._entered.append((name, self._watch.spent_s))

    def durations(self) -> list[tuple[str, float]]:
        """Of the stages that are over."""
        ends = [began for _, began in self._entered[1:]]
        return [(n, end - began) for (n, began), end in zip(self._entered, ends, strict=False)]


def finish(
    clock: DesignClock,
    watch: Stopwatch,
    show: Callable[[str], None],
    *,
    interrupted: bool,
    yes: bool,
) -> Shipped:
    """Ship the best of the ladder to the run's folder.

    show  told the name of each stage
    yes   ship the nearest model where none meets every limit, else only the report; and a mended
          one that the gate refuses, else nothing
    """
    stages = Stages(watch, show)
    stages.enter("choosing by out-of-fold score")
    chosen = choose(clock)
    if chosen.repair is not None:
        _tell_gate(clock, chosen, chosen.repair)
        if chosen.repair.chosen is None and not yes:
            watch.save()
            clock.run.refuse({"repair": asdict(chosen.repair)})
            return Shipped.load(clock.run)
    stages.enter("training the chosen model on all rows")
    whole, trained_on = _final_fit(clock, chosen, watch, in_a_hurry=interrupted)
    trained = clock.kind.builder.in_form(whole, chosen.form)
    out = Path(clock.run.spec.out)
    with _appearing_whole(out, clock.run.spec.id) as part:
        stages.enter("packing and timing the project")
        agent = _agent(clock, chosen, trained)
        emit_project(agent, part)
        speed = _benchmark(part)
        stages.enter("opening the sealed set")
        opening = _open(clock, chosen, part)
        claim = _claim(clock, chosen, opening)
        stages.enter("testing behaviour and changes")
        behaviour = behaviour_of(part, opening)
        changed = changes(clock, part, opening)
        stages.enter("writing the report")
        evidence = Evidence(
            clock=clock,
            chosen=chosen,
            trained_on=trained_on,
            n_params=clock.kind.builder.n_params(trained),
            speed=speed,
            about=clock.kind.about(trained, clock.rows.learned(), int8=chosen.form != "float32"),
            opening=opening,
            claim=claim,
            behaviour=behaviour,
            changes=changed,
            spent_s=watch.spent_s,
            stages=stages.durations(),
            interrupted=interrupted,
        )
        report = report_of(evidence)
        emit_project(_with_card(agent, report), part)
        write_report(report, part)
        write_text(technical_markdown(report), part / TECHNICAL)
        ships = yes or all(limit["met"] for limit in report["limits"])
        if not ships:
            _keep_report_only(part)
    watch.save()
    clock.run.ship()
    return Shipped(out, report, ships)


def _tell_gate(clock: DesignClock, chosen: Chosen, repair: Repair) -> None:
    """What the gate said, as a turn; it has no level of the line's budget, and takes none."""
    decision = Decision.DISCARD if repair.chosen is None else Decision.KEEP
    what = "a mended model may take the place of the one before"
    candidate = Candidate(chosen.standing.candidate.state, what)
    verdict = Verdict(decision, repair.reason)
    with clock.ledger.writing(clock.line) as connection:
        turn = Turn(clock.line, Kind.CLAIM, candidate, Result(), verdict, at=time.time())
        clock.ledger.append(connection, turn)


@contextmanager
def _appearing_whole(out: Path, run: str) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block is done, and is gone if it fails."""
    part = out.parent / f".{out.name}.part-{run}"
    shutil.rmtree(part, ignore_errors=True)  # this very run's, killed while it finished
    part.mkdir(parents=True)
    try:
        yield part
        for cache in part.rglob("__pycache__"):
            shutil.rmtree(cache)
        if out.exists():
            out.rmdir()  # empty, or the run would not have begun
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _final_fit(
    clock: DesignClock, chosen: Chosen, watch: Stopwatch, *, in_a_hurry: bool
) -> tuple[Any, str]:
    """On all rows where time allows; else the first round's model, which saw all folds but one."""
    spec = clock.run.spec
    model = chosen.standing.turns[0].result.artifacts["model"]
    if clock.rows.aside is not None:  # it has seen all that it may
        told = f"all {len(clock.rows.learned().texts):,} rows that are neither sealed nor choose"
        return clock.kind.builder.unpack(clock.ledger.blobs.get(model)), told
    expected_s = chosen.standing.seconds * clock.kind.builder.refit(clock.shape)
    left_s = spec.budget_s - watch.spent_s
    if expected_s < QUICK_S or not (in_a_hurry or expected_s > left_s):
        times, recipe = chosen.standing.times, recipe_of(chosen.standing.spec)
        data = clock.kind.examples(clock.rows.taught(times))
        uses_torch = clock.kind.builder.part == "tagger" or recipe.is_learned
        with _one_thread() if uses_torch else nullcontext():
            trained = clock.kind.builder.fit(recipe, data, seed=spec.train.seed)
        whole = f"all {len(clock.rows.texts):,} rows that are not sealed"
        return trained, whole + (f", errors {times} times" if times != 1 else "")
    share = float((clock.rows.folds != 0).mean())
    return clock.kind.builder.unpack(
        clock.ledger.blobs.get(model)
    ), f"{share:.0%} of the rows: no time for a refit"


@contextmanager
def _one_thread() -> Iterator[None]:
    """As the rounds were run: a small network is slower on two threads than on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _agent(clock: DesignClock, chosen: Chosen, trained: Any) -> Agent:
    task = clock.run.spec.task
    texts = clock.rows.learned().texts
    shown = np.random.default_rng(0).permutation(len(texts))[:N_SHOWN]
    return Agent(
        kind=task.kind,
        trained=trained,
        int8=chosen.form != "float32",
        labels=task.labels,
        settings=chosen.fitted.settings,
        task={"description": task.description, "kind": task.kind},
        examples=tuple(clock.kind.example(texts[i]) for i in shown),
        provenance=task.data.provenance,
        card={},
    )


def _with_card(agent: Agent, report: dict[str, Any]) -> Agent:
    """The same agent with the facts that its model card states."""
    sealed, shipped, metric = report["sealed"], report["shipped"], report["metric"]
    interval = f"{sealed['low']:.1%} to {sealed['high']:.1%}"
    scores = {
        f"{metric} on sealed rows": f"{sealed['score']:.1%} (95 % interval {interval})",
        "sealed rows": f"{sealed['n']:,}, opened {sealed['opened']} times",
        **{f"beside: {row['name']}": f"{row['score']:.1%}" for row in report["baselines"]},
        f"out-of-fold {metric}": f"{shipped['oof_score']:.1%}",
        "standing": report["status"]["reason"],
    }
    faults = {fault["kind"]: fault["count"] for fault in report["data"]["faults"]}
    data = {k: v for k, v in report["data"].items() if k != "sources"}
    card = {
        "scores": scores,
        "data": {**data, "faults": faults or "none"},
        "sources and licences": [_source_line(source) for source in report["data"]["sources"]],
        "limits": list(weak_points(report)),
        "latency": report["latency"],
        "trained on": shipped["trained_on"],
        "rows that travel": f"{len(agent.examples)} training texts, in golden.json",
    }
    return replace(agent, card=card)


def _source_line(source: dict[str, Any]) -> str:
    size = "" if source["bytes"] is None else f", {source['bytes']:,} bytes"
    digest = f", sha256 {source['sha256']}" if source["sha256"] else ""
    return f"{source['name']}: {source['file']}{size}{digest}; licence: {source['licence']}"


def _benchmark(folder: Path) -> dict[str, Any]:
    """The project's own benchmark, in a process of its own."""
    argv = [sys.executable, str(folder / "benchmark.py"), "--json"]
    done = subprocess.run(
        argv,
        capture_output=True,
        cwd=folder,
        check=True,
        timeout=300,
        start_new_session=True,  # Ctrl-C is for us to answer
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _open(clock: DesignClock, chosen: Chosen, folder: Path) -> Opening:
    """Our project and the baselines answer the sealed texts, each in a fresh process."""
    train = str(clock.run.folder / "train.jsonl")
    baseline = [sys.executable, "-m", "mendel.train.baseline"]
    flags = clock.kind.predict_flags(clock.run.spec.task.labels)
    commands = {
        "this model": [sys.executable, str(folder / "predict.py"), *flags, "--batch", "64"],
        **{name: [*baseline, fit, train] for name, fit in clock.kind.baselines.items()},
    }
    if before := command_before(clock):
        commands[BEFORE] = before
    sealed = Sealed(clock.run.spec.sealed, clock.run.spec.n_sealed)
    vault = Vault(clock.ledger)
    candidate = chosen.standing.candidate
    try:
        return vault.open(
            sealed, commands, line=clock.line, candidate=candidate, rate=clock.kind.row_score
        )
    except SealedError as error:
        if "this model" in str(error):
            raise
        # what stands beside the model is no reason to stop where it fails
        rest = {name: argv for name, argv in commands.items() if not str(error).startswith(name)}
        ours = {name: argv for name, argv in rest.items() if name in ("this model", BEFORE)}
        only = rest if str(error).startswith(BEFORE) else ours
        return vault.open(
            sealed, only, line=clock.line, candidate=candidate, rate=clock.kind.row_score
        )


def _claim(clock: DesignClock, chosen: Chosen, opening: Opening) -> Verdict | None:
    """May the report say "better than"? Asked of the judge, and charged to the line."""
    rival = next(iter(clock.kind.baselines))
    if rival not in opening.answers:
        return None
    near = clock.run.spec.near_duplicates
    rate = clock.kind.row_score
    mine, its = (opening.scores(name, rate, without=near) for name in ("this model", rival))
    if not mine:
        return None
    ledger, line = clock.ledger, clock.line
    with ledger.writing(line) as connection:
        verdict = judge.better_than(mine, its, ledger.account(line, connection))
        candidate = Candidate(chosen.standing.candidate.state, f"better than {rival}")
        ledger.append(
            connection, Turn(line, Kind.CLAIM, candidate, Result(), verdict, at=time.time())
        )
        ledger.charge(connection, line, begun=1, kept=int(verdict.keep))
    return verdict


def _keep_report_only(folder: Path) -> None:
    for file in list(folder.iterdir()):
        if not file.name.startswith("report."):
            shutil.rmtree(file) if file.is_dir() else file.unlink()

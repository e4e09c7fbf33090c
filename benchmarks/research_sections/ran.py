"""A real run's row of the table, read from its ledger: nothing is trained here.

wall time, trials, overhead; claims through the sealed suite; wins beside the band of luck
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.rates import words
from mendel.clocks.research.report import gathered
from mendel.clocks.research.run import Run
from mendel.clocks.research.summary import summary, worker_times
from mendel.ledger import Ledger, home
from mendel.types import Kind, Turn
from research_sections.rows import Row

N_TRIALS, TRAINED, DRIVER_MS, PROPOSAL_MS = 150, 0.85, 50.0, 100.0  # what the table asks


def ran(options: argparse.Namespace) -> dict[str, Any]:
    """Of --run ID in --home FOLDER (the newest in MENDEL_HOME); its rows, also printed."""
    folder = options.home or home()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    try:
        run = Run.load(folder / "research" / options.run) if options.run else Run.newest(ledger)
        found = row(run, ledger)
    finally:
        ledger.close()
    for name, value in found.items():
        print(f"{name:32} {value}", flush=True)
    return found


def row(run: Run, ledger: Ledger) -> Row:
    clock, turns = ResearchClock(run, ledger), ledger.turns(run.line)
    spent_s = run.spent_s()
    was, times = summary(clock, turns, spent_s), worker_times(clock)
    wall_s = max(spent_s * run.spec.n_workers, 1e-9)  # of all workers together
    told = gathered(ledger, str(run.line))
    trained = times["trained"] / wall_s
    return {
        "run": run.spec.id,
        "command": run.spec.command,
        "null": was.null,
        "minutes": round(spent_s / 60, 1),
        "workers": run.spec.n_workers,
        "trials": was.n_trials,
        "trials an hour": round(3600 * was.n_trials / max(spent_s, 1e-9), 1),
        "cut by the race": was.n_cut,
        "screened": was.n_screened,
        "confirmed": was.n_confirmed,
        "failed": was.n_failed,
        "share of the wall time trained": round(trained, 4),
        "share of the workers' time trained": round(was.trained_share, 4),
        "driver ms a trial": round(was.driver_ms, 1),
        "proposal ms": round(was.proposal_ms, 1),
        **claims(turns, wall_s / 3600),
        "luck": words(told["wins"], told["null"]),
        "reached": {
            f"{N_TRIALS} trials": was.n_trials >= N_TRIALS,
            f"{TRAINED:.0%} of the wall time trained": trained >= TRAINED,
            f"driver {DRIVER_MS:g} ms a trial": was.driver_ms <= DRIVER_MS,
            f"proposal {PROPOSAL_MS:g} ms": was.proposal_ms <= PROPOSAL_MS,
            "every claim through the sealed suite": not claims(turns, 0.0)["kept, not verified"],
        },
    }  # fmt: skip


def claims(turns: Sequence[Turn], hours: float) -> Row:
    """What the judge kept and what verification made of it; core hours a verified win.

    hours   of all workers, searching
    """
    kept = [t for t in turns if t.kind is Kind.TRIAL and t.verdict.keep and t.verdict.level]
    made = [turn for turn in turns if turn.kind is Kind.CLAIM]
    checked = {turn.candidate.id for turn in made}
    conditions = [each for turn in made for each in turn.result.facts["conditions"].values()]
    spent = hours + sum(each["seconds"] for each in conditions) / 3600
    n_won = sum(turn.verdict.keep for turn in made)
    return {
        "kept by the judge": [turn.id for turn in kept],
        "kept, not verified": [turn.id for turn in kept if turn.candidate.id not in checked],
        "claims": dict(Counter(turn.result.facts["outcome"] for turn in made)),
        "verified wins": n_won,
        "core hours, verification included": round(spent, 3),
        "core hours a verified win": round(spent / n_won, 3) if n_won else None,
    }


SECTIONS = {"run": ran}

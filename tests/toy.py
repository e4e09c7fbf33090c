"""A clock small enough to read: it climbs a noisy hill, and its live state is one file."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

from mendel.blobs import write_atomically
from mendel.ledger import candidate_from
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Decision,
    History,
    Line,
    Result,
    Trial,
    Verdict,
    digest,
)


class ToyClock:
    """The state is a number; a trial measures it with noise; higher is better."""

    def __init__(self, live: Path, run: str = "main", seed: int | None = None) -> None:
        self.line = Line("toy", digest("climb"), run)
        self.live = live
        self.random = random.Random(seed)

    def champion(self) -> Champion:
        if not self.live.exists():
            return Champion(Candidate({"x": 0.0}, "where we start"))
        data = json.loads(self.live.read_text())
        return Champion(
            candidate_from(data["candidate"]), Result(artifacts=data["artifacts"]), data["turn"]
        )

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        x = champion.candidate.state["x"] + self.random.gauss(0.0, 1.0)
        return Candidate({"x": x}, "a step aside", (str(champion.turn),))

    def trial(self, trial: Trial) -> Result:
        return Result(scores=(trial.candidate.state["x"],), artifacts={})

    def policy(self, trial: Trial, account: Account) -> Verdict:
        better = trial.results[-1].scores[0] > trial.champion.candidate.state["x"]
        return Verdict(
            Decision.KEEP if better else Decision.DISCARD, "higher" if better else "not higher"
        )

    def promote(self, champion: Champion) -> None:
        data = {
            "candidate": asdict(champion.candidate),
            "artifacts": dict(champion.result.artifacts),
            "turn": champion.turn,
        }
        write_atomically(self.live, json.dumps(data).encode())

"""A clock small enough to read: it climbs a noisy hill, and its live state is one file."""

from __future__ import annotations

import random
from pathlib import Path

from mendel.clocks.live import LiveFile
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
        self.live = LiveFile(live)
        self.random = random.Random(seed)

    def champion(self) -> Champion:
        return self.live.read() or Champion(Candidate({"x": 0.0}, "where we start"))

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
        self.live.write(champion)

"""The tune clock: a champion is a plan for each query class; a bandit among exact plans decides.

beliefs --Wanted--> Candidate -> what they rest on (Result) -> Verdict -> promote: the chooser's own

Every plan is proven to give the same tokens, so a keep claims no quality and spends no error
budget; what it says of speed is the bandit's belief, and `gain` measures what came of all of them.
Looks that led to nothing are one turn a batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mendel.clocks.live import LiveFile
from mendel.clocks.tune.chooser import Tuned
from mendel.clocks.tune.learning import SURE
from mendel.clocks.tune.state import Looks, Wanted
from mendel.ledger import Ledger
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Cost,
    Decision,
    Digest,
    History,
    InputError,
    Line,
    Result,
    Trial,
    Turn,
    Verdict,
    digest,
)

BATCH = 200  # looks in one summary


def line_of(model: Digest, plans: Sequence[str], machine: Digest, run: str = "main") -> Line:
    """Plans of one model on one machine share a line: elsewhere other plans are fast."""
    return Line("tune", digest([model, sorted(plans), machine]), run)


class TuneClock:
    """Promotes what the chooser's beliefs speak for.

    folder   where the champion is kept for the next start
    """

    def __init__(self, line: Line, chooser: Tuned, folder: Path) -> None:
        self.line, self.chooser = line, chooser
        self.live = LiveFile(folder / "live.json")
        self._wanted: dict[Digest, Wanted] = {}
        self._batches: dict[Digest, Looks] = {}
        self._looks = Looks()
        self.closing = False  # then there is only a summary to write
        self._n_known = -1  # requests known to the chooser when it was last asked what it wants
        if (found := self.live.read()) is not None:
            chooser.adopt(found.candidate.state)

    # -- champion --

    def champion(self) -> Champion:
        start = Candidate(self.chooser.start(), "the baseline for all")
        return self.live.read() or Champion(start)

    # -- propose --

    def has_news(self) -> bool:
        """Whether a turn would write something: to ask the ledger for it takes milliseconds."""
        self._gather()
        known, self._n_known = self._n_known, self.chooser.n_known
        if self.closing or self._looks.n >= BATCH:
            return True
        return known != self._n_known and self.chooser.wanted() is not None

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """The promotion that is wanted; else what was looked at in vain, once it is a batch."""
        if self.closing:
            return self.summary()
        self._gather()
        wanted = self.chooser.wanted()
        if wanted is not None:
            candidate = Candidate(wanted.state, wanted.motivation)
            self._wanted[candidate.id] = wanted
            return candidate
        return self.summary() if self._looks.n >= BATCH else None

    def summary(self) -> Candidate | None:
        """All looks since the last summary, as one candidate; None where there were none."""
        self._gather()
        looks, self._looks = self._looks, Looks()
        if not looks.n:
            return None
        tried = dict(sorted(looks.by_plan.items(), key=lambda each: -each[1]))
        candidate = Candidate({"looked_at": tried}, f"{looks.n} looks at {len(tried)} rivals")
        self._batches[candidate.id] = looks
        return candidate

    def _gather(self) -> None:
        new = self.chooser.taken()
        self._looks.n += new.n
        for plan, n in new.by_plan.items():
            self._looks.by_plan[plan] = self._looks.by_plan.get(plan, 0) + n

    # -- trial --

    def trial(self, trial: Trial) -> Result:
        """What the chooser has seen; nothing is run for it."""
        id = trial.candidate.id
        if id in self._batches:
            looks = self._batches.pop(id)
            return Result(facts={"n_looks": looks.n, "by_plan": looks.by_plan})
        if id not in self._wanted:
            raise InputError(
                "its evidence was in a process that has ended. Serve on: it comes back."
            )
        wanted = self._wanted.pop(id)
        facts = {**wanted.facts, "saved_so_far": self.chooser.gain.to_dict()}
        cost = Cost(seconds=self.chooser.spent_s)
        mine, its = (wanted.facts["ms"][wanted.facts[side]] for side in ("to", "from"))
        return Result((-mine,), (-its,), cost, facts=json.loads(json.dumps(facts)))

    # -- policy --

    def policy(self, trial: Trial, account: Account) -> Verdict:
        """The bandit's: as sure as SURE of being faster, after looks of its own."""
        facts: Any = trial.results[-1].facts
        if "to" not in facts:
            return Verdict(Decision.DISCARD, f"none of {facts['n_looks']} looks led to a promotion")
        said = (
            f"{facts['class']}: {facts['to']} takes {facts['ms'][facts['to']]:.3g} ms a token, "
            f"{facts['from']} {facts['ms'][facts['from']]:.3g}; surely so by {facts['sure']:.0%}"
        )
        keep = facts["sure"] >= SURE and facts["gain"] > 0
        return Verdict(Decision.KEEP if keep else Decision.DISCARD, said)

    # -- promote --

    def promote(self, champion: Champion) -> None:
        self.live.write(champion)
        self._n_known = -1
        self.chooser.adopt(champion.candidate.state)


def promoted(ledger: Ledger, plan: str) -> Turn | None:
    """The newest turn of a tune line that gave a class this plan: what `mendel why PLAN` tells."""
    kept = ledger.turns(clock="tune", kept=True)
    return next((turn for turn in reversed(kept) if turn.result.facts.get("to") == plan), None)

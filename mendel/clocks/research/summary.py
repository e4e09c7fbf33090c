"""What a sitting came to, in numbers: trials by how far they came, what was kept, overhead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mendel.clocks.research.clock import ResearchClock, recipe_of, trials_of
from mendel.propose.novelty import key
from mendel.types import Account, Champion, Kind, Turn


@dataclass
class Times:
    """Seconds of a worker's life, for the report."""

    lived: float = 0.0
    trained: float = 0.0
    measured: float = 0.0  # of trials, what was trained among it
    proposed: float = 0.0
    asked: float = 0.0  # leases and proposals
    told: float = 0.0
    n_rounds: int = 0


@dataclass(frozen=True)
class Summary:
    """Counts are of trials; shares and milliseconds of the workers' own records."""

    run: str
    line: str
    champion: Champion
    account: Account
    spent_s: float
    n_trials: int
    n_failed: int
    n_cut: int  # by the race
    n_screened: int
    n_confirmed: int  # confirmations begun
    kept: tuple[Turn, ...]  # by the judge
    selected: tuple[Turn, ...]  # from the menu, by point estimate
    leader: str  # name of the last of them; empty: there is none
    trained_share: float  # of the workers' time
    driver_ms: float  # a trial: leases, verdicts, turns; proposals apart
    proposal_ms: float
    null: bool

    def lines(self) -> list[str]:
        """For people."""
        reached = (
            f"{self.n_trials} trials in {self.spent_s:.0f} s: {self.n_cut} cut by the race, "
            f"{self.n_screened} screened, {self.n_confirmed} confirmed, {self.n_failed} failed"
        )
        over = (
            f"workers trained {self.trained_share:.0%} of their time; driver {self.driver_ms:.0f} "
            f"ms a trial, a proposal {self.proposal_ms:.0f} ms"
        )
        band = (
            ["every candidate was trained as the start (--null): each gain is luck"]
            if self.null
            else []
        )
        wins = [f"kept, turn {turn.id}: {turn.verdict.reason}" for turn in self.kept]
        none = [] if wins else ["no candidate was shown to be better than its champion"]
        return [reached, over, *band, *self._leads(), *wins, *none]

    def _leads(self) -> list[str]:
        """Of designs that led one after the other the last, which later candidates met."""
        words = "selected from the menu by point estimate, which claims nothing"
        return [f"{self.leader}, turn {turn.id}: {words}" for turn in self.selected[-1:]]


def summary(clock: ResearchClock, told: Sequence[Turn], spent_s: float) -> Summary:
    trials = trials_of(told)
    stages = [turn.result.facts.get("stage") for turn in trials if turn.result.error is None]
    kept = [turn for turn in told if turn.verdict.keep]
    selected = [turn for turn in kept if turn.verdict.level is None]
    names = {design.key: design.name for design in clock.menu}
    times = worker_times(clock)
    n = max(len(trials), 1)
    champion = clock.ledger.champion(clock.line)
    return Summary(
        run=clock.run.spec.id,
        line=str(clock.line),
        champion=champion or clock.champion(),
        account=clock.ledger.account(clock.line),
        spent_s=spent_s,
        n_trials=len(trials),
        n_failed=sum(turn.result.error is not None for turn in trials),
        n_cut=stages.count("race"),
        n_screened=stages.count("screen"),
        n_confirmed=sum(
            t.kind is Kind.TRIAL and t.round == 0 and t.verdict.level is not None for t in told
        ),
        kept=tuple(turn for turn in kept if turn.verdict.level is not None),
        selected=tuple(selected),
        leader=names[key(recipe_of(selected[-1].candidate))] if selected else "",
        trained_share=times["trained"] / max(times["lived"], 1e-9),
        driver_ms=1e3
        * (times.get("asked", 0) + times.get("told", 0) - times.get("proposed", 0))
        / n,
        proposal_ms=1e3 * times.get("proposed", 0.0) / n,
        null=clock.run.spec.null,
    )


def worker_times(clock: ResearchClock) -> dict[str, float]:
    """Seconds by what they went into, over all workers of all sittings."""
    files = (clock.run.folder / "workers").glob("*.json")
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {each.name: sum(row[each.name] for row in rows) for each in fields(Times)}

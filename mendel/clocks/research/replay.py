"""A turn's round measured again, from nothing but the ledger: same machine, same scores.

turn -> the trial as it was leased -> the clock's own trial in an empty folder -> beside the turn
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from mendel.clocks.research.bench import Bench
from mendel.clocks.research.clock import ResearchClock, recipe_of
from mendel.clocks.research.lookup import run_of
from mendel.ledger import Ledger
from mendel.rows import as_champion
from mendel.types import InputError, Kind, Result, Trial, Turn


@dataclass(frozen=True)
class Replay:
    """A round as it was told, and as it is now."""

    turn: Turn
    again: Result

    @property
    def same(self) -> bool:
        then, now = self.turn.result, self.again
        return (then.scores, then.baseline, then.error) == (now.scores, now.baseline, now.error)

    @property
    def furthest(self) -> float | None:
        """The largest difference between two scores; None where there are not as many."""
        then = (*self.turn.result.scores, *self.turn.result.baseline)
        now = (*self.again.scores, *self.again.baseline)
        if len(then) != len(now):
            return None
        return max((abs(a - b) for a, b in zip(then, now, strict=True)), default=0.0)


def replay(id: int, ledger: Ledger) -> Replay:
    """Measure the round of a trial again; writes nothing to ledger or run.

    raises   InputError for a turn that is no round of a trial, or whose run is gone
    """
    turn = ledger.turn(id)
    if turn.line.clock != "research" or turn.kind is not Kind.TRIAL:
        raise InputError(
            f"turn {id} is no round of a research trial, but a {turn.kind} of {turn.line}. "
            "Wanted one that measured. `mendel log` lists them."
        )
    clock = ResearchClock(run_of(turn, ledger), ledger)
    rounds = [each for each in ledger.why(id) if each.trial == turn.trial and each.id < id]
    champion = as_champion(ledger.turn(turn.champion))
    trial = Trial(
        turn.trial, turn.line, turn.candidate, champion, tuple(each.result for each in rounds),
        turn.verdict.level,
    )  # fmt: skip
    clock.since = {champion.turn: turn.result.facts.get("since", "")}
    with tempfile.TemporaryDirectory(prefix="mendel-replay-") as empty:
        clock.bench = _with_rates(clock, Path(empty), trial)
        try:
            again = clock.trial(trial)
        except Exception as error:  # as the driver does
            again = Result(error=f"{type(error).__name__}: {error}")
    return Replay(turn, replace(again, cost=turn.result.cost))


def _with_rates(clock: ResearchClock, folder: Path, trial: Trial) -> Bench:
    """Empty, but for the learning rates: a race before this one may have chosen them."""
    bench = Bench(clock.run.spec.suites, folder, stand_in=clock.bench.stand_in)
    tuning = clock.seeds(trial).tuning
    for candidate in (trial.candidate, trial.champion.candidate):
        recipe = recipe_of(candidate)
        for suite in clock.run.spec.suites.names:
            factor = clock.bench.factor(recipe, suite, tuning)
            if factor is not None:
                bench.set_factor(recipe, suite, tuning, factor)
    return bench

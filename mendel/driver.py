"""ask, tell, leases, run: the only loop.

ask: champion -> propose -> lease      (any process)
trial                                  (any process, any machine)
tell: result -> policy -> turn -> promote
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mendel.ledger import Ledger, View
from mendel.rows import candidate_from, checked, makes_champion
from mendel.types import (
    Candidate,
    Champion,
    Clock,
    Decision,
    InputError,
    Json,
    Kind,
    LedgerError,
    Result,
    Trial,
    Turn,
    Verdict,
)

LOST = "the worker's lease expired {n} times without a result"
REPLACED = "measured beside a champion that has since been replaced; propose it again"


class Driver:
    """Turns one clock. Workers in other processes hold a Driver of their own on the same ledger.

    lease_s         a trial not told for so long is given to another worker
    max_attempts    leases of one round; after them the trial has failed
    alpha           false discovery rate of the clock and task; None = as it is, at first 5 %
    now             the wall clock, for tests
    n_confirming    confirmations that are measured at once, at most; None = as many as there are
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        *,
        lease_s: float = 600.0,
        max_attempts: int = 3,
        alpha: float | None = None,
        now: Callable[[], float] = time.time,
        n_confirming: int | None = None,
    ) -> None:
        self.clock, self.ledger, self.now = clock, ledger, now
        self.n_confirming = n_confirming
        self.lease_s, self.max_attempts, self.alpha = lease_s, max_attempts, alpha
        self.view = View(ledger, clock.line)

    def start(self) -> Champion:
        """Begin the line, or after a crash make live what its ledger says."""
        line = self.clock.line
        with self.ledger.writing(line) as connection:
            if self.alpha is not None:
                self.ledger.set_alpha(connection, line, self.alpha)
            if self.ledger.champion(line, connection) is None:
                first = self.clock.champion()
                verdict = Verdict(Decision.KEEP, "where the line starts")
                turn = Turn(line, Kind.START, first.candidate, first.result, verdict, at=self.now())
                self.ledger.append(connection, turn)
        return self._make_live()

    def ask(self) -> Trial | None:
        """Lease the next round of a trial; None where there is nothing to do now."""
        for _ in range(16):  # a rival may lease or propose the same: look again, but not for ever
            waiting, champion = self._look()
            if waiting:
                trial = self._take_waiting()
                if trial is not None:
                    return trial
                continue
            candidate = self.clock.propose(champion, self.view)
            if candidate is None:
                return None
            trial = self._lease(candidate, champion)
            if trial is not None:
                return trial
        return None

    def tell(self, trial: Trial, result: Result) -> Verdict:
        """Judge one round, write its turn, promote what is kept. Late or repeated: no harm.

        Of the trial, only its id, round and champion are believed; the rest is the ledger's.
        """
        line = self.clock.line
        with self.ledger.writing(line) as connection:
            row = self.ledger.trial_row(connection, trial.id)
            if row is None or row.line_id != self.ledger.find_line(connection, line):
                raise LedgerError(
                    f"trial {trial.id} was never leased on {line}. Wanted one from ask()."
                )
            if row.open and row.round == trial.round:
                verdict = self._write(connection, row, checked(result), trial.champion.turn)
            else:
                told = self.ledger.rounds(connection, trial.id)
                if trial.round >= len(told):
                    raise LedgerError(
                        f"round {trial.round} of trial {trial.id} was never leased. "
                        f"Wanted one up to {len(told) - 1}, or the next from ask()."
                    )
                return told[trial.round].verdict
        if verdict.keep:
            self._make_live()
        return verdict

    def release(self, *, forgive: bool = False, held: Collection[str] = ()) -> None:
        """Free the rounds that lost workers may hold; a late tell still does no harm.

        held      trials that living workers are known to measure: those stay theirs
        forgive   their leases do not count as attempts: the workers were stopped, not killed by it
        """
        line = self.clock.line
        with self.ledger.writing(line, durable=False) as connection:
            for row in self.ledger.open_trials(connection, line):
                if row.id in held:
                    continue
                attempts = 0 if forgive else row.attempts
                self.ledger.update_trial(connection, row, deadline=0.0, attempts=attempts)

    def turn(self) -> Verdict | None:
        """ask, trial, tell, here and now; None where there was nothing to ask."""
        trial = self.ask()
        return None if trial is None else self.tell(trial, self.measure(trial))

    def run(self, until: Callable[[], bool]) -> int:
        """Turn until there is nothing left or `until` says so; returns the number of turns."""
        n = 0
        while not until() and self.turn() is not None:
            n += 1
        return n

    def measure(self, trial: Trial) -> Result:
        """The clock's trial; what it raises becomes a failed result, never a score."""
        started = time.monotonic()
        try:
            return self.clock.trial(trial)
        except Exception as error:
            failed = Result(error=f"{type(error).__name__}: {error}")
            cost = replace(failed.cost, seconds=time.monotonic() - started)
            return replace(failed, cost=cost)

    def roll_back(self, turn: int, reason: str) -> Champion:
        """Make the champion of an earlier turn live again; that is a turn too.

        raises   LedgerError where that turn made no champion of this line
        """
        line, then = self.clock.line, self.ledger.turn(turn)
        if then.line != line or not makes_champion(then):
            raise LedgerError(f"turn {turn} made no champion of {line}. `mendel log` shows those.")
        verdict = Verdict(Decision.KEEP, reason)
        back = Turn(line, Kind.ROLLBACK, then.candidate, then.result, verdict, at=self.now())
        with self.ledger.writing(line) as connection:
            now = self.ledger.champion(line, connection)
            self.ledger.append(connection, replace(back, champion=now.turn if now else 0))
        return self._make_live()

    def note_insight(self, words: Sequence[str], facts: Json, links: Sequence[str] = ()) -> Turn:
        """Write what an analyst found: a turn that makes no champion and spends nothing.

        words    the first is the reason that `mendel log` shows, the rest its motivation
        links    the turns that it was read from
        raises   InputError for facts that no ledger can keep
        """
        result = checked(Result(facts=facts))
        if result.error is not None:
            raise InputError(f"an insight is no JSON: {result.error}. Wanted plain values.")
        line = self.clock.line
        candidate = Candidate({}, " ".join(words[1:]), tuple(links))
        verdict = Verdict(Decision.DISCARD, words[0] if words else "nothing is clear")
        turn = Turn(line, Kind.INSIGHT, candidate, result, verdict, at=self.now())
        with self.ledger.writing(line) as connection:
            now = self.ledger.champion(line, connection)
            return self.ledger.append(connection, replace(turn, champion=now.turn if now else 0))

    # -- inside --

    def _look(self) -> tuple[bool, Champion]:
        """Does a round wait that nobody holds, and who is champion? Takes no lock."""
        line = self.clock.line
        with self.ledger.reading() as connection:
            waiting = bool(self._due(connection))
            champion = self.ledger.champion(line, connection)
        return waiting, champion or self.start()

    def _make_live(self) -> Champion:
        """Promote the ledger's champion; under the line's lock, so that the newest comes last."""
        with self.ledger.writing(self.clock.line, durable=False) as connection:  # only the lock
            champion = self.ledger.champion(self.clock.line, connection)
            assert champion is not None
            if self.clock.champion().identity != champion.identity:
                self.clock.promote(champion)
        return champion

    def _due(self, connection: sa.Connection) -> list[sa.Row[Any]]:
        """Trials whose next round nobody holds, oldest first; no confirmation too many."""
        now, line = self.now(), self.clock.line
        due = list(self.ledger.open_trials(connection, line, due=now))
        if self.n_confirming is None or all(row.level is None for row in due):
            return due
        whole = self.ledger.open_trials(connection, line)
        held = sum(row.level is not None and row.deadline > now for row in whole)
        left = max(self.n_confirming - held, 0)
        confirming = {row.id for row in [row for row in due if row.level is not None][:left]}
        return [row for row in due if row.level is None or row.id in confirming]

    def _take_waiting(self) -> Trial | None:
        """Lease a round whose trial goes on, or whose worker died."""
        line = self.clock.line
        with self.ledger.writing(line, durable=False) as connection:
            for row in self._due(connection):
                results = [turn.result for turn in self.ledger.rounds(connection, row.id)]
                champion = self.ledger.champion(line, connection)
                assert champion is not None
                if row.attempts >= self.max_attempts:
                    lost = Result(error=LOST.format(n=row.attempts))
                    self._write(connection, row, lost, row.champion)
                    return None
                if champion.turn != row.champion and any(r.baseline for r in results):
                    self._write(connection, row, Result(), row.champion)  # it is discarded there
                    return None
                deadline = self.now() + self.lease_s
                self.ledger.update_trial(
                    connection,
                    row,
                    attempts=row.attempts + 1,
                    deadline=deadline,
                    champion=champion.turn,
                )
                return Trial(
                    row.id,
                    line,
                    candidate_from(row.candidate),
                    champion,
                    tuple(results),
                    row.level,
                    deadline,
                )
        return None

    def _lease(self, candidate: Candidate, champion: Champion) -> Trial | None:
        deadline = self.now() + self.lease_s
        trial = Trial(uuid.uuid4().hex, self.clock.line, candidate, champion, deadline=deadline)
        with self.ledger.writing(trial.line, durable=False) as connection:
            if self.ledger.is_in_flight(connection, trial.line, candidate.id):
                return None  # proposed by two workers at once: the first has it
            self.ledger.add_trial(connection, trial)
        return trial

    def _write(
        self, connection: sa.Connection, row: sa.Row[Any], result: Result, beside: int
    ) -> Verdict:
        """The turn, the pointer, the error budget and the lease, in one transaction.

        beside   turn of the champion that the worker measured beside
        """
        ledger, line = self.ledger, self.clock.line
        now = ledger.champion(line, connection)
        assert now is not None
        before = [turn.result for turn in ledger.rounds(connection, row.id)] if row.round else []
        candidate = candidate_from(row.candidate)
        case = Trial(row.id, line, candidate, now, (*before, result), row.level)
        moved = not (now.turn == row.champion == beside)
        verdict = self._decide(case, connection, moved)
        turn = Turn(
            line,
            Kind.TRIAL,
            candidate,
            result,
            verdict,
            now.turn,
            row.id,
            row.round,
            at=self.now(),
        )
        ledger.append(connection, turn)
        level = row.level if verdict.level is None else verdict.level
        begun = int(level is not None and row.level is None)
        kept = int(verdict.keep and level is not None)
        if begun or kept:
            ledger.charge(connection, line, begun=begun, kept=kept)
        ledger.update_trial(
            connection,
            row,
            open=verdict.decision is Decision.CONTINUE,
            round=row.round + 1,
            attempts=0,
            level=level,
            deadline=0.0,
        )
        return verdict

    def _decide(self, case: Trial, connection: sa.Connection, moved: bool) -> Verdict:
        result = case.results[-1]
        if result.error is not None:
            return Verdict(Decision.DISCARD, f"failed: {result.error}", case.level)
        if moved and any(r.baseline for r in case.results):
            return Verdict(Decision.DISCARD, REPLACED, case.level)
        try:
            verdict = self.clock.policy(case, self.ledger.account(case.line, connection))
            if not isinstance(verdict, Verdict):
                raise TypeError(f"it gave {type(verdict).__name__}, wanted a Verdict")
        except Exception as error:
            reason = f"the policy failed: {type(error).__name__}: {error}"
            return Verdict(Decision.DISCARD, reason, case.level)
        return verdict

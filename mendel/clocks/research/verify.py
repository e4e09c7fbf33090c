"""The long check of a promoted recipe: every design of the menu, sealed twins, twice the size.

turn -> conditions -> contests, in worker processes -> a claim, and a discovery where it is a win
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from mendel.audit import check_spec
from mendel.clocks.research.card import Card, Job, measured
from mendel.clocks.research.contest import MINE, Contest
from mendel.clocks.research.discovery import publish
from mendel.clocks.research.docket import Docket
from mendel.clocks.research.lookup import run_of
from mendel.clocks.research.outcome import Outcome, beaten_by, counts, on_the_menu, won
from mendel.clocks.research.run import Run
from mendel.clocks.research.terms import Terms
from mendel.clocks.research.twins import CONDITIONS, Condition
from mendel.clocks.workers import die_with_parent, interruptible, n_workers
from mendel.data.vault import Vault
from mendel.ledger import Ledger
from mendel.spec import Recipe
from mendel.types import Decision, InputError, Kind, Turn, Verdict

TICK_S = 0.2
N_NEAREST = 3  # of as found, who are met again at twice the size


class Watcher(Protocol):
    """Who is told how far it is; never a score."""

    def note(self, text: str) -> None: ...

    def progress(self, what: str, n_done: int, n: int) -> None: ...


class Silent:
    """Nobody watches."""

    def note(self, text: str) -> None: ...

    def progress(self, what: str, n_done: int, n: int) -> None: ...


class Stopped(Exception):
    """By hand, or its time is up; what was measured is kept."""


@dataclass(frozen=True)
class Verified:
    """What a verification came to: the turn of the claim, and its words."""

    turn: Turn

    @property
    def outcome(self) -> Outcome:
        found: Outcome = self.turn.result.facts["outcome"]
        return found


def verify(
    id: int,
    ledger: Ledger,
    watcher: Watcher | None = None,
    *,
    workers: int = 0,
    until: float | None = None,
    everywhere: bool = False,
) -> Verified | None:
    """Verify the recipe of a turn; the same call goes on where an earlier one stopped.

    workers     processes, one thread each; 0: one a core
    until       unix seconds; None: however long it takes
    everywhere  all of the menu at twice the size too, not `contenders` alone: twice as long
    returns     None where it was stopped
    raises      InputError for a turn that cannot be verified, SealedError inside a trial
    """
    Vault(ledger)  # refuses a process that runs a trial
    turn = ledger.turn(id)
    run = _verifiable(turn, ledger)
    recipe = Recipe.parse(dict(turn.candidate.state))
    first = Condition.of("as found", recipe, run)
    docket = Docket(ledger, turn, first, everywhere)
    watcher = watcher or Silent()
    if (before := docket.claimed()) is not None:
        watcher.note(f"turn {id} was verified before, in turn {before.id}")
        return Verified(before)
    session = _Session(ledger, docket, watcher, workers or n_workers(), until)
    try:
        found = session.carry_out(recipe, run)
    except Stopped as why:
        watcher.note(f"{why}; the same command goes on from here")
        return None
    if found.outcome == "verified win":
        watcher.note(f"it joins the menu: {publish(found.turn, ledger)}")
    return found


def _verifiable(turn: Turn, ledger: Ledger) -> Run:
    if turn.line.clock != "research" or turn.kind not in (Kind.TRIAL, Kind.START):
        raise InputError(
            f"turn {turn.id} is no trial of `mendel research`. Wanted one that was kept. "
            "`mendel research report` lists those."
        )
    if not turn.verdict.keep:
        raise InputError(
            f"turn {turn.id} was not kept: {turn.verdict.reason}. Wanted a turn that its line "
            "kept. `mendel research report` lists those."
        )
    run = run_of(turn, ledger)
    if run.spec.null:
        raise InputError(
            f"turn {turn.id} is of a null line, which trained its start for every candidate. "
            "Wanted a turn of another line."
        )
    return run


@dataclass
class _Session:
    ledger: Ledger
    docket: Docket
    watcher: Watcher
    workers: int
    until: float | None
    _at_work: tuple[ProcessPoolExecutor, list[int]] = field(init=False)  # who measures; Ctrl-C

    def carry_out(self, recipe: Recipe, run: Run) -> Verified:
        """Condition by condition, until one is not won."""
        same = on_the_menu(self.docket.first)
        if same is not None:  # nothing is opened for that
            return self._claim([], None, "rediscovery", f"its design is {same}")
        terms = self.docket.begin()
        favourites = self.docket.favourites()
        only: frozenset[str] | None = None
        contests: list[Contest] = []
        with interruptible() as interrupted, _pool(self.workers) as pool:
            self._at_work = pool, interrupted
            for name in CONDITIONS:
                first = self.docket.first
                condition = first if name == first.name else Condition.of(name, recipe, run)
                self.docket.open(condition)
                contests.append(self._contest(condition, terms, favourites, only))
                self._fight(contests[-1])
                lost = self._lost(contests[-1])
                if lost is not None:
                    return self._claim(contests, terms, *lost)
                favourites = contests[-1].near
                if not self.docket.everywhere:
                    only = only or contenders(contests[0], self.docket.favourites())
        return self._claim(contests, terms, "verified win", won(contests))

    def _contest(
        self,
        condition: Condition,
        terms: Terms,
        favourites: Sequence[str],
        only: frozenset[str] | None,
    ) -> Contest:
        met = None if only is None else only | self._new(condition)
        folder = self.ledger.folder / "vault" / "research" / condition.key[:24]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Contest(condition, folder, terms, favourites, met)

    def _new(self, condition: Condition) -> frozenset[str]:
        """Rivals that fit at this size alone."""
        known = {each.name for each in self.docket.first.rivals}
        return frozenset(each.name for each in condition.rivals) - known

    def _fight(self, contest: Contest) -> None:
        name, n = contest.condition.name, len(contest.met)
        told = f"{len(contest.condition.menu)} designs of the menu"
        alike = ", as they are trained and as the recipe is" if contest.condition.alike else ""
        self.watcher.note(f"{name}: sealed twins of {told}{alike}")
        while jobs := contest.wanted:
            begins = MINE not in contest.screen
            what = "on the first seed" if jobs[0].screens else "on more pairs"
            contest.add(self._measured(jobs, f"{name}, {what}"))
            if contest.screen[MINE].error:
                return
            if begins:
                hours = n * contest.screen[MINE].seconds / 3600
                told = f"{hours:.1f} core hours at most for the first seed of {n}, then pairs"
                self.watcher.note(f"{name}: about {told}; one loss ends it")

    def _measured(self, jobs: Sequence[Job], what: str) -> list[Card]:
        """In the order of the jobs; raises Stopped on Ctrl-C or when time is up."""
        pool, interrupted = self._at_work
        futures: list[Future[Card]] = [pool.submit(measured, job) for job in jobs]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=TICK_S, return_when="FIRST_COMPLETED")
            try:
                for each in done:
                    each.result()  # raises what its worker raised
            except BrokenProcessPool:
                raise Stopped("a worker was killed, as happens where memory is short") from None
            self.watcher.progress(what, len(futures) - len(waiting), len(futures))
            if interrupted:
                raise Stopped("interrupted")
            if waiting and self.until is not None and time.time() > self.until:
                raise Stopped("time is up")
        return [future.result() for future in futures]

    def _lost(self, contest: Contest) -> tuple[Outcome, str] | None:
        """None: it won in this condition."""
        name = contest.condition.name
        if contest.screen[MINE].error:
            return "not believed", f"{name}: it fails: {contest.screen[MINE].error}"
        if contest.is_too_good:
            self.watcher.note("more than 10 % better than everything: a full audit comes first")
            report = check_spec(contest.condition.mine.model, profile="full")
            if not report.clean:
                found = [each.what for each in report.errors] or list(report.undecided)
                return "not believed", f"{name}: too good, and the full audit says: {found[0]}"
        if (rival := contest.stopper) is not None:
            return beaten_by(contest, rival)
        if contest.regressions:
            told = ", ".join(contest.regressions)
            return "trade", f"{name}: better on the whole, worse on {told} ({contest.strongest})"
        return None

    def _claim(
        self, contests: Sequence[Contest], terms: Terms | None, outcome: Outcome, words: str
    ) -> Verified:
        decision = Decision.KEEP if outcome == "verified win" else Decision.DISCARD
        level = None if terms is None else terms.level
        verdict = Verdict(decision, f"{outcome}: {words}", level)
        facts = {
            "outcome": outcome,
            "verified": self.docket.turn.id,
            "conditions": {each.condition.name: counts(each) for each in contests},
        }
        scores = {each.condition.name: each.told() for each in contests}
        return Verified(self.docket.claim(verdict, facts, scores))


def contenders(first: Contest, led: Sequence[str]) -> frozenset[str]:
    """Whom a recipe meets at twice the size: who came nearest, the best of each kind, who led.

    The others were beaten by more as found, and each has one of its kind among them; that a larger
    size would bring one of them to the front is not excluded, so the claim says how many were met
    as found alone.
    """
    judged = sorted(first.near, key=lambda name: fmean(first.gains(name)))
    nearest = list(dict.fromkeys([*judged, *first.ranked]))[:N_NEAREST]
    return frozenset((*nearest, *first.best_of_kinds, *led))


@contextmanager
def _pool(n: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, whatever they are at."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()
        raise
    pool.shutdown()


def _begin() -> None:
    """A worker computes on one thread, leaves being stopped to us, and does not outlive us."""
    import torch

    die_with_parent()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    torch.set_num_threads(1)

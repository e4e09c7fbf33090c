"""The research clock's five things: champion, propose, trial, policy, promote.

Round 0 of a trial is a race and, for who survives it, a screen; the rounds behind it confirm on
fresh seeds. A design of the menu leads by point estimate, a selection; all else by the judge.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from mendel.audit import AuditReport, check_spec, report_file
from mendel.audit.auditor import Profile
from mendel.clocks.live import LiveFile
from mendel.clocks.research.bench import Bench
from mendel.clocks.research.race import (
    SCREEN,
    SELECTION,
    Seeds,
    Sheet,
    confirmation,
    first_round,
    fresh,
)
from mendel.clocks.research.run import Run
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.verdict import Court, believed, is_too_good
from mendel.driver import REPLACED
from mendel.ledger import Earlier, Ledger, View
from mendel.propose.matching import over, price
from mendel.propose.menu import Named
from mendel.propose.notes import notes
from mendel.propose.novelty import fingerprint, key
from mendel.propose.recipes import Problem, Proposer, make_proposer
from mendel.spec import Recipe
from mendel.train.proxy import refusals
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Cost,
    Decision,
    Digest,
    History,
    InputError,
    Kind,
    Result,
    Trial,
    Turn,
    Verdict,
    digest,
)


class ResearchClock:
    """Breeds recipes on the suites of a run.

    run       what was asked, and the folder where scores are kept
    ledger    where turns are told
    proposer  None: the one that the run names
    """

    def __init__(self, run: Run, ledger: Ledger, proposer: Proposer | None = None) -> None:
        self.run, self.ledger = run, ledger
        self.line = run.line
        self.live = LiveFile(run.folder / "live.json")
        self.history = View(ledger, self.line)
        stand_in = run.spec.start if run.spec.null else None
        self.bench = Bench(run.spec.suites, run.folder, stand_in=stand_in)
        self._given = proposer
        self._learned: int | None = None  # the newest turn that the proposer has seen
        self._trials: set[str] = set()
        self._again: dict[Digest, Candidate] = {}  # measured beside a champion that was replaced
        self.since: dict[int, str] = {}  # of a champion's turn, the trial that lost to it the last
        self.proposing_s = 0.0  # by this process

    # -- champion --

    def champion(self) -> Champion:
        """Before the first turn, what the line starts from; it is measured when one races it."""
        start = Candidate(self.run.spec.start.to_dict(), "where the line starts")
        return self.live.read() or Champion(start)

    # -- propose --

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """What was measured beside a champion of the past, else the proposer's next."""
        proposer = self.proposer  # made once, which is no part of a proposal
        began = time.perf_counter()
        pending = history.pending()
        self._learn(history)
        try:
            if self._is_full(len(pending)):
                return None
            in_flight = {candidate.id for candidate in pending}
            again = (each for id, each in self._again.items() if id not in in_flight)
            return next(again, None) or proposer.propose(pending)
        finally:
            self.proposing_s += time.perf_counter() - began

    def _learn(self, history: History) -> None:
        turns = [believed(turn) for turn in history.told(after=self._learned or 0)]
        if self._learned is None:
            self._learned = 0
            self.proposer.learn(self._earlier())
        if not turns:
            return
        self._learned = turns[-1].id
        self.proposer.learn(turns)
        for turn in turns:
            if turn.kind is not Kind.TRIAL:
                continue
            if turn.verdict.reason == REPLACED:
                self._again[turn.candidate.id] = turn.candidate
                self._trials.discard(turn.trial)
            else:
                self._again.pop(turn.candidate.id, None)
                self._trials.add(turn.trial)
                if turn.round and turn.verdict.decision is Decision.DISCARD:
                    self.since[turn.champion] = turn.trial

    def _earlier(self) -> list[Turn]:
        """What other lines had taught before this one began; luck teaches nothing.

        Earlier runs of this very question too: they only say where to look, and whatever is claimed
        here rests on fresh seeds of this line. They stand as a question of their own, for they met
        other champions on other seeds, and what they tried may well be tried here: as trials of
        ours they would be known, and their champions taken for ours.
        """
        [start] = self.ledger.turns(self.line, kinds=[Kind.START], limit=1)
        return [
            believed(self._as_another(turn))
            for turn in Earlier(self.ledger, "research").turns()
            if turn.id < start.id
            and turn.kind is Kind.TRIAL
            and turn.result.facts.get("null") is False
        ]

    def _as_another(self, turn: Turn) -> Turn:
        """A turn of another run of this question, as one of another question."""
        if turn.line.task != self.line.task:
            return turn
        return replace(turn, line=replace(turn.line, task=digest([turn.line.task, "earlier"])))

    def _is_full(self, n_pending: int) -> bool:
        most = self.run.spec.trials
        return most is not None and len(self._trials) + n_pending >= most

    @cached_property
    def proposer(self) -> Proposer:
        return self._given or make_proposer(self.run.spec.proposer, self.problem)

    @property
    def problem(self) -> Problem:
        spec = self.run.spec
        return Problem(spec.caps, spec.start, self.menu, notes(), spec.seed, self.line.task)

    @property
    def menu(self) -> tuple[Named, ...]:
        """As the run began with, for all its workers and after --resume."""
        return self.run.spec.menu

    @cached_property
    def named(self) -> set[Digest]:
        """Keys of the menu."""
        return {design.key for design in self.menu}

    # -- trial --

    def trial(self, trial: Trial) -> Result:
        """One round: audit, race and screen, or a confirmation on fresh seeds."""
        began, before = time.perf_counter(), self.bench.trained_s
        mine, its = recipe_of(trial.candidate), recipe_of(trial.champion.candidate)
        self._check(mine)
        audit = self._audited(mine)
        audited_s = time.perf_counter() - began
        seeds = self.seeds(trial)
        if trial.round:
            sheet = confirmation(self.bench, mine, its, fresh(trial.id, trial.round), seeds.tuning)
        else:
            bar = SELECTION if self._is_selection(trial) else SCREEN
            sheet = first_round(self.bench, mine, its, seeds, bar)
        result = self._result(sheet, mine, audit)
        if self._is_suspect(trial, result):
            began_full = time.perf_counter()
            audit = self._audited(mine, "full")  # before it is believed
            audited_s += time.perf_counter() - began_full
            result = self._result(sheet, mine, audit)
        trained_s, whole_s = self.bench.trained_s - before, time.perf_counter() - began
        seconds = {"train": trained_s, "audit": audited_s, "rest": whole_s - trained_s - audited_s}
        paid = price(mine, self.run.spec.caps.vocab, self.run.spec.caps.n_tokens)
        return Result(
            result.scores,
            result.baseline,
            Cost(whole_s, sheet.flops, paid.n_params, paid.state_bytes),
            {},
            {**result.facts, "seconds": rounded(seconds), "since": self._since(trial)},
            sheet.error,
        )

    def _is_suspect(self, trial: Trial, result: Result) -> bool:
        """So much better at the end of its screen that it is audited in full before it goes on."""
        whole = result.facts["stage"] == "screen" and not result.facts["cut"]
        return whole and is_too_good(result) and not self._is_selection(trial)

    def _check(self, recipe: Recipe) -> None:
        """Raises InputError for a recipe that is too dear, or that a proxy cannot run."""
        why = over(recipe, self.run.spec.caps)
        if why:
            raise InputError(f"not at matched cost: {why}")
        refused = refusals(recipe.model, [leg.proxy for leg in self.run.spec.suites.whole])
        if refused:
            raise InputError(next(iter(refused.values())))

    def _audited(self, recipe: Recipe, profile: Profile = "quick") -> dict[str, Any]:
        """The audit's facts; raises InputError where it found an error or could not decide."""
        cached = report_file(recipe.model, profile=profile).is_file()
        report = check_spec(recipe.model, profile=profile)
        if not report.clean:
            raise InputError(f"the {profile} audit {_accused(report)}")
        verdict = "warnings" if report.findings else "clean"
        return {"verdict": verdict, "cached": cached, "profile": profile}

    def _result(self, sheet: Sheet, mine: Recipe, audit: dict[str, Any]) -> Result:
        spec = self.run.spec
        paid = price(mine, spec.caps.vocab, spec.caps.n_tokens)
        facts = {
            **sheet.facts(),
            **paid._asdict(),
            "audit": audit,
            "fingerprint": fingerprint(mine),
            "null": spec.null,
        }
        return Result(sheet.scores, sheet.baseline, facts=facts)

    def kept_keys(self, trial: Trial) -> list[Digest]:
        """Names of all that a round of the trial may keep of its two sides, or may find kept."""
        seeds = self.seeds(trial)
        asked = seeds.asked(self.run.spec.suites)
        sides = (trial.candidate, trial.champion.candidate)
        return [k for s in sides for k in self.bench.keys(recipe_of(s), asked, seeds.tuning)]

    def seeds(self, trial: Trial) -> Seeds:
        """Those of the selection, or those of the champion's reign."""
        name = "menu" if self._is_selection(trial) else f"champion {trial.champion.turn}"
        return Seeds.of(self.line.task, f"{self.line.run} {name}", self._since(trial))

    def _since(self, trial: Trial) -> str:
        """The confirmation whose seeds the screen is on; empty: the first ones of the reign.

        A champion that was lucky on the screen's seeds would be hard to beat for all its reign, one
        that was not would send everybody to a confirmation. Where one was lost it was measured on
        seeds that no challenger was chosen by: those are the screen's from then on, at no cost.
        That it won there says little: what is no better loses, whatever the champion's luck
        (simulated: its first six pairs are off by 0.00 of a pair's deviation, give or take 0.01).
        """
        return "" if self._is_selection(trial) else self.since.get(trial.champion.turn, "")

    def _is_selection(self, trial: Trial) -> bool:
        """Both are of the menu, or the champion is where a line starts that nobody gave."""
        if self.run.spec.given:
            return False
        mine, its = (key(recipe_of(each)) for each in (trial.candidate, trial.champion.candidate))
        return mine in self.named and its in self.named | {key(self.run.spec.start)}

    # -- policy --

    def policy(self, trial: Trial, account: Account) -> Verdict:
        """What a round decides; whoever told it, its numbers are looked at first."""
        spec = self.run.spec
        recipe = recipe_of(trial.candidate)
        paid = price(recipe, spec.caps.vocab, spec.caps.n_tokens)
        court = Court(spec.suites, spec.null, paid, self._is_selection(trial))
        return court.decide(trial, account)

    # -- promote --

    def promote(self, champion: Champion) -> None:
        self.live.write(champion)


def recipe_of(candidate: Candidate) -> Recipe:
    """Raises SpecError where its state is no recipe."""
    return Recipe.parse(dict(candidate.state))


def trials_of(turns: Sequence[Turn]) -> list[Turn]:
    """Of each trial the turn of its first round; those to be proposed again do not count, in
    whichever round that was found."""
    told = [turn for turn in turns if turn.kind is Kind.TRIAL]
    again = {turn.trial for turn in told if turn.verdict.reason == REPLACED}
    return [turn for turn in told if turn.round == 0 and turn.trial not in again]


def _accused(report: AuditReport) -> str:
    if report.errors:
        first = report.errors[0]
        return f"accuses it: {first.check}: {first.what}. {first.cause}"
    return f"could not decide {', '.join(report.undecided)}: {report.notes[-1]}"

"""The policy of a research line: what a round's numbers must look like, and what they decide.

result -> is it what such a round measures? -> race, selection, trade, or the judge
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from mendel.clocks.research.race import N_ROUND, SCREEN, SELECTION, Bar
from mendel.clocks.research.suite import Suites
from mendel.evidence import pairs_for
from mendel.judge import superiority
from mendel.propose.costs import Price
from mendel.types import Account, Decision, Kind, Result, Trial, Turn, Verdict

MARGIN = 0.02  # by which a suite may be worse, of its score, where the mean of suites is better
MIN_T = 2.0  # of a screen: a confirmation costs as much as thirty races
MIN_PAIRS, MAX_PAIRS = 16, 48  # of a confirmation; between them the level says how many
TOO_GOOD = 1.1  # times the champion's score: believed only after a full audit
EXACT = 1e-4  # facts are rounded to 6 digits
LIE = "not believed: "  # how the reason of a verdict on such a round begins


@dataclass(frozen=True)
class Court:
    """What the policy knows besides the trial.

    paid      what the candidate costs, by the line's own measurement
    selected  it is a design of the menu and so is the champion: the best by point estimate leads
    """

    suites: Suites
    null: bool
    paid: Price
    selected: bool

    @property
    def bar(self) -> Bar:
        return SELECTION if self.selected else SCREEN

    def decide(self, trial: Trial, account: Account) -> Verdict:
        """Verdict on all rounds so far; a result that cannot be what was measured loses."""
        for at, result in enumerate(trial.results):
            lie = self.lie(result, at)
            if lie:
                return Verdict(Decision.DISCARD, f"{LIE}{lie}", trial.level)
        last = trial.results[-1]
        if last.facts["cut"]:
            return Verdict(Decision.DISCARD, f"{last.facts['stage']}: {last.facts['cut']}")
        if self.selected and trial.round == 1:
            return _selected(last)
        if trial.round == 1 and (why := self._trade(trial.results)):
            return Verdict(Decision.DISCARD, f"screened out: {why}")
        if trial.round == 1 and is_too_good(last) and _audit(last).get("profile") != "full":
            return Verdict(Decision.DISCARD, "too good to be believed without a full audit")
        most = max_pairs(trial.level)
        found = superiority(trial, account, max_pairs=most, min_t=MIN_T, ceiling=1.0)
        if found.keep and (why := self._trade(trial.results[1:])):
            return Verdict(Decision.DISCARD, f"{why}; {found.reason}", found.level, found.evidence)
        return found

    def lie(self, result: Result, at: int) -> str:
        """Why a round cannot be what a worker measured; empty where it can."""
        facts = result.facts
        wanted = ("confirm",) if at else ("race", "screen")
        stage = facts.get("stage")
        if stage not in wanted:
            return f"stage={stage!r} in round {at}. Wanted {' or '.join(wanted)}"
        if facts.get("null") is not self.null:
            return f"null={facts.get('null')!r} on a line with null={self.null}"
        if not isinstance(facts.get("cut"), str) or (at and facts["cut"]):
            return f"cut={facts.get('cut')!r}"
        if _audit(result).get("verdict") not in ("clean", "warnings"):
            return f"its audit says {_audit(result).get('verdict')!r}"
        return self._costs(facts) or self._scores(result, str(stage)) or self._rest(facts)

    def _costs(self, facts: Mapping[str, Any]) -> str:
        names = ("n_params", "flops", "state_bytes")
        for name, paid in zip(names, self.paid, strict=True):
            if not _near(facts.get(name), float(paid), 1e-4 * float(paid) + 0.5):
                return f"{name}={facts.get(name)!r}, and the design has {paid:g}"
        return ""

    def _scores(self, result: Result, stage: str) -> str:
        facts, cut = result.facts, bool(result.facts["cut"])
        of = {
            "race": self.suites.race,
            "screen": self.suites.screen,
            "confirm": self.suites.confirm,
        }
        legs = [leg.name for leg in of[stage]]
        n = {"race": 1, "screen": self.bar.n_seeds, "confirm": N_ROUND}[stage]
        most, least = n, 1 if cut else n
        if stage == "race" and not cut:
            return "a race that was not cut goes on to the screen"
        for name, told in (("proxies", result.scores), ("champion", result.baseline)):
            if not least <= len(told) <= most:
                return f"{len(told)} scores of the {name}. Wanted {least} to {most}"
            table = facts.get(name)
            why = _table(table, legs, len(told), partial=stage == "race")
            if why:
                return f"{name}: {why}"
            pairs = zip(told, self.suites.mean(table), strict=True)  # type: ignore[arg-type]
            if not all(_near(a, b, EXACT) for a, b in pairs):
                return f"the scores are not the means of {name}"
        return ""

    def _rest(self, facts: Mapping[str, Any]) -> str:
        """What is shown and learned from, though nothing is decided by it."""
        suites = facts.get("suites")
        wanted = self.suites.by_suite(facts["proxies"])
        if not isinstance(suites, Mapping) or set(suites) != set(wanted):
            return f"suites={suites!r}. Wanted scores of {', '.join(wanted)}"
        for name, seeds in wanted.items():
            told = suites[name]
            if not isinstance(told, list | tuple) or len(told) != len(seeds):
                return f"suite {name} has {told!r}. Wanted {len(seeds)} scores"
            if not all(_near(a, b, EXACT) for a, b in zip(told, seeds, strict=True)):
                return f"suite {name} is not the mean of its proxies"
        repairs, curves = facts.get("repairs", []), facts.get("curves", {})
        if not isinstance(repairs, list | tuple) or not all(isinstance(r, str) for r in repairs):
            return f"repairs={repairs!r}. Wanted words"
        if not isinstance(curves, Mapping) or not all(map(_is_curve, curves.values())):
            return "curves that are none"
        return ""

    def _trade(self, rounds: Sequence[Result]) -> str:
        """Which suite got worse by more than the margin; empty: none."""
        for suite in self.suites.names:
            mine, its = (
                fmean(s for r in rounds for s in self.suites.by_suite(r.facts[side])[suite])
                for side in ("proxies", "champion")
            )
            if mine < its - MARGIN:
                return f"a trade: {suite} {mine - its:+.3f}"
        return ""


def max_pairs(level: float | None) -> int:
    """Of a confirmation at that level: the fewest with power .8 for a gain of 1 sigma.

    A level falls with each confirmation begun on a task, and with it the power of so many pairs:
    of 16 it is .56 at first, .19 after 10 begun and 0 after 80. So the pairs follow the level: 28
    at first, 36 after 10, 48 from 80 on. The cap: a pair is two minutes or more on a core, and 48
    of them still have .8 after 160 begun without a win, which takes days to get to. A change that
    does nothing is given up after 12 to 16 of them, a gain of 1 sigma is shown after 17 to 36.

    level   None: none was given yet
    """
    if level is None:
        return MAX_PAIRS
    return pairs_for(level, least=MIN_PAIRS, most=MAX_PAIRS, step=N_ROUND)


def believed(turn: Turn) -> Turn:
    """The turn as it may be learned from and shown: where its numbers were not believed, it failed.

    They stay in the ledger, as they were told.
    """
    if turn.kind is not Kind.TRIAL or not turn.verdict.reason.startswith(LIE):
        return turn
    return replace(turn, result=Result(cost=turn.result.cost, error=turn.verdict.reason))


def is_too_good(result: Result) -> bool:
    mine, its = fmean(result.scores), fmean(result.baseline)
    return mine > its + (TOO_GOOD - 1) * max(abs(its), 0.1)


def _selected(result: Result) -> Verdict:
    mine, its = fmean(result.scores), fmean(result.baseline)
    told = f"selected from the menu by point estimate, which claims nothing: {mine:.3f}"
    if mine > its:
        return Verdict(Decision.KEEP, f"{told}, before {its:.3f}")
    return Verdict(Decision.DISCARD, f"of the menu: {mine:.3f}, the best so far has {its:.3f}")


def _audit(result: Result) -> Mapping[str, Any]:
    found = result.facts.get("audit")
    return found if isinstance(found, Mapping) else {}


def _table(table: Any, legs: Sequence[str], n: int, *, partial: bool) -> str:
    """Why scores by proxy are none; empty where they are."""
    if not isinstance(table, Mapping) or not table:
        return "there are no scores by proxy"
    wanted = legs[: len(table)] if partial else legs
    if list(table) != list(wanted) and set(table) != set(wanted):
        return f"of {', '.join(map(str, table))}. Wanted {', '.join(wanted)}"
    for name, seeds in table.items():
        if not isinstance(seeds, list | tuple) or len(seeds) != n:
            return f"{name} has {seeds!r}. Wanted {n} scores"
        if not all(_near(score, 0.0, math.inf) and score <= 1 + EXACT for score in seeds):
            return f"{name} has {seeds!r}. Wanted finite scores, 1 at most"
    return ""


def _is_curve(points: Any) -> bool:
    return isinstance(points, list | tuple) and all(
        isinstance(point, list | tuple)
        and len(point) == 2
        and all(_near(each, 0.0, math.inf) for each in point)
        for point in points
    )


def _near(value: Any, wanted: float, by: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value - wanted) <= by

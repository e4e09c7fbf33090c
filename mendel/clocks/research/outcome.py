"""What a verification came to, in words: over whom, how, and what may not be said.

contests -> verified win, rediscovery, trade or no win
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from mendel.clocks.research.contest import MINE, SURE, Contest
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.twins import Condition, as_trained
from mendel.clocks.research.verdict import MARGIN
from mendel.propose.novelty import fingerprint
from mendel.propose.spelling import key

Outcome = Literal["verified win", "rediscovery", "trade", "no win", "not believed"]


def beaten_by(contest: Contest, rival: str) -> tuple[Outcome, str]:
    """What it is, where a design cannot be shown to be worse."""
    where = contest.condition.name
    gain = fmean(contest.gains(rival))
    by_suite = {s: fmean(contest.gains(rival, s)) for s in contest.condition.twins.names}
    up = [suite for suite, found in by_suite.items() if found > MARGIN]
    down = [suite for suite, found in by_suite.items() if found < -MARGIN]
    if up and down:
        return "trade", f"{where}: better on {', '.join(up)}, worse on {', '.join(down)} ({rival})"
    if where != "as found":
        return "no win", f"not shown at {where}, where {rival} is level or better"
    if gain >= -MARGIN:
        return "rediscovery", f"{rival} of the menu is level{_owed(contest, rival)}"
    return "no win", f"{rival} of the menu is better"


def won(contests: Sequence[Contest]) -> str:
    first = contests[0]
    n, both = len(first.condition.menu), _both_ways(first.condition)
    share = first.condition.twins.share
    tried = f"; with {share:g} of the steps, which says little" if share < 1 else ""
    failed = sorted({name for each in contests for name in _failed(each)})
    guesses = f"; a guess where they failed: {', '.join(failed)}" if failed else ""
    return (
        f"better than each of {n} designs of the menu that fit the caps{both}, on sealed twins, at "
        f"2x width and 2x tokens ({_judged(contests)}{guesses}); {_suites(contests)}{tried}"
    )


def _judged(contests: Sequence[Contest]) -> str:
    """How many of the rivals were, in each condition, and what the screen alone says of others."""
    near = ", ".join(f"{len(each.near)} {each.condition.name}" for each in contests)
    beyond = ", ".join(f"{len(each.screen) - 1 - len(each.near)}" for each in contests)
    first = f"worse on the first at p <= {contests[0].terms.first_level:.2g}"
    return f"judged on pairs {near}; on one {beyond}, {first}{_unmet(contests)}"


def _unmet(contests: Sequence[Contest]) -> str:
    """Who was met as found alone; empty where all are met at each size."""
    last = contests[-1]
    left = len(last.condition.rivals) - len(last.met)
    if not left:
        return ""
    return f", {left} of those as found alone"


def _suites(contests: Sequence[Contest]) -> str:
    """What is shown of each suite beside the strongest design: its mean, and how sure that is."""
    names = contests[0].condition.twins.names
    least = {s: min(each.bounds.get(s, -math.inf) for each in contests) for s in names}
    told = ", ".join(f"{suite} {bound:+.3f}" for suite, bound in least.items())
    unsure = [suite for suite, bound in least.items() if bound < -MARGIN]
    shown = f"no suite is worse by more than {MARGIN:g}"
    if unsure:
        shown = f"{', '.join(unsure)} not shown to be within {MARGIN:g} of the strongest"
    return f"{shown} (one-sided {SURE:.0%} bounds, lowest of all conditions: {told})"


def _both_ways(condition: Condition) -> str:
    """That the menu was met in the recipe's own training too; empty where it has no other."""
    if not condition.alike:
        return ""
    if len(condition.alike) == len(condition.menu):
        return ", as they are trained and trained as the recipe is"
    return f", as they are trained and, {len(condition.alike)}, trained as the recipe is"


def _owed(contest: Contest, rival: str) -> str:
    """Where none but those that are trained alike are left: it is the training that wins."""
    alike = {each.name for each in contest.condition.alike}
    met = all(each.name in contest.screen for each in contest.condition.menu)
    if rival in alike and met and alike.issuperset(contest.open):
        return "; what beats the menu as it is trained is the recipe's training, not its design"
    return ""


def _failed(contest: Contest) -> set[str]:
    """Designs that could not be trained or asked somewhere, which counts as a guess there."""
    cards = [*contest.screen.values(), *(c for found in contest.fresh.values() for c in found)]
    return {card.design for card in cards if card.error}


def counts(contest: Contest) -> dict[str, Any]:
    """What may be known by all: how much was measured, what is shown of suites; no score."""
    cards = [*contest.screen.values(), *(c for found in contest.fresh.values() for c in found)]
    return {
        "sealed": contest.condition.sealed,
        "designs": len(contest.condition.menu),
        "trained_alike": len(contest.condition.alike),
        "met": len(contest.met),
        "judged": contest.near if MINE in contest.screen else [],
        "screened_out": max(0, len(contest.screen) - 1 - len(contest.near)),
        "first_level": contest.terms.first_level,
        "pairs": contest.n_pairs,
        "bounds": rounded(contest.bounds),
        "seconds": rounded(sum(card.seconds for card in cards)),
        "failed": sorted(_failed(contest)),
    }


def on_the_menu(condition: Condition) -> str | None:
    """In words, a design that is spelled alike or computes the same, however it is trained."""
    mine = condition.mine
    for each in condition.menu:
        other = as_trained(each.recipe, mine)
        if key(mine) == key(other) or fingerprint(mine) == fingerprint(other):
            same = key(other) == each.key
            return f"{each.name} of the menu" + ("" if same else ", trained in another way")
    return None

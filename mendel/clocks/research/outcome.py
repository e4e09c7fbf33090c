"""What a verification came to, in words: over whom, how, and what may not be said.

contests -> verified win, rediscovery, trade or no win
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from mendel.clocks.research.contest import FAR, MINE, Contest
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.twins import Condition
from mendel.clocks.research.verdict import MARGIN
from mendel.propose.novelty import fingerprint
from mendel.propose.spelling import key, trained

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
        return "rediscovery", f"{rival} of the menu is level"
    return "no win", f"{rival} of the menu is better"


def won(contests: Sequence[Contest]) -> str:
    first = contests[0]
    n, near = len(first.condition.menu), len(first.near)
    share = first.condition.twins.share
    tried = f"; with {share:g} of the steps, which says little" if share < 1 else ""
    failed = sorted({name for each in contests for name in _failed(each)})
    guesses = f"; a guess where they failed: {', '.join(failed)}" if failed else ""
    by = f"{near} judged on fresh pairs, {n - near} more than {FAR:g} behind on one, not judged"
    return (
        f"better than each of {n} designs of the menu that fit the caps, on sealed twins, at 2x "
        f"width and 2x tokens ({by}{guesses}), no suite worse{_by_training(first.condition)}{tried}"
    )


def _by_training(condition: Condition) -> str:
    """What besides the design a win may be owed to; empty where the menu is trained alike."""
    mine, how = condition.mine, condition.mine.train
    if all(trained(each.recipe.train) == trained(how) for each in condition.menu):
        return ""
    for each in condition.menu:
        if key(each.recipe.model_copy(update={"train": how})) == key(mine):
            return f"; by its training alone: the design is {each.name} of the menu"
    return "; it is trained in another way than the menu, which may be why"


def _failed(contest: Contest) -> set[str]:
    """Designs that could not be trained or asked somewhere, which counts as a guess there."""
    cards = [*contest.screen.values(), *(c for found in contest.fresh.values() for c in found)]
    return {card.design for card in cards if card.error}


def counts(contest: Contest) -> dict[str, Any]:
    """What may be known by all: how much was measured, no score."""
    cards = [*contest.screen.values(), *(c for found in contest.fresh.values() for c in found)]
    return {
        "sealed": contest.condition.sealed,
        "designs": len(contest.condition.menu),
        "judged": contest.near if MINE in contest.screen else [],
        "pairs": contest.n_pairs,
        "seconds": rounded(sum(card.seconds for card in cards)),
        "failed": sorted(_failed(contest)),
    }


def on_the_menu(condition: Condition) -> str | None:
    """A design that is spelled alike, or computes the same and is trained the same."""
    mine = condition.mine
    for each in condition.menu:
        if key(mine) == key(each.recipe) or fingerprint(mine) == fingerprint(each.recipe):
            return each.name
    return None

"""Why a research turn is what it is: where it came from, what was measured, what was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from mendel.clocks.research.lookup import before, lookup
from mendel.clocks.research.verdict import believed
from mendel.ledger import Ledger
from mendel.propose.changes import difference
from mendel.propose.notes import notes
from mendel.types import InputError, Kind, Turn

N_PROXIES = 4  # named of those that gained, and of those that lost


def story(turn: Turn, ledger: Ledger) -> list[str]:
    """Lines for people on a turn of a research line; no sealed score is in them."""
    if turn.kind is Kind.INSIGHT:
        return [turn.verdict.reason, *map(str, turn.result.facts.get("words", []))]
    if turn.kind not in (Kind.TRIAL, Kind.START):
        return [f"{turn.candidate.motivation}: {turn.verdict.reason}"]
    told = [*_origin(turn, ledger), *_measured(believed(turn)), *_cost(believed(turn))]
    claims = ledger.turns(turn.line, kinds=[Kind.CLAIM])
    mine = [each for each in claims if each.candidate.id == turn.candidate.id]
    return [*told, *(f"verification, turn {each.id}: {each.verdict.reason}" for each in mine)]


def _origin(turn: Turn, ledger: Ledger) -> Iterator[str]:
    """Motivation, parents, notes, and what was changed."""
    yield f"motivation: {turn.candidate.motivation or 'none'}"
    titles = {note.name: note.title for note in notes()}
    for link in turn.candidate.links:
        kind, _, name = link.partition(":")
        if kind == "turn" and name.isdigit():
            yield f"parent: turn {name}, {ledger.turn(int(name)).candidate.motivation}"
        else:
            yield f"{kind}: {name}" + (f", {titles[name]}" if name in titles else "")
    try:
        found = lookup(str(turn.id), ledger)
        came = before(found, ledger)
    except InputError:  # it is where the line starts, or a recipe of another version
        return
    words = difference(came.recipe, found.recipe)
    yield f"differs from {came.name}: {'; '.join(words) or 'in nothing'}"


def _measured(turn: Turn) -> Iterator[str]:
    """Scores beside the champion's, verdict, audit."""
    result, facts = turn.result, turn.result.facts
    if result.error:
        yield f"failed: {result.error}"
    elif result.scores and result.baseline:
        mine, its = fmean(result.scores), fmean(result.baseline)
        n = len(result.scores)
        stage = facts.get("stage", "round")
        yield f"{stage}: {mine:.4f} beside {its:.4f} of the champion, {n} seeds"
        yield from _by_proxy(facts.get("proxies", {}), facts.get("champion", {}))
    yield f"verdict: {turn.verdict.decision}, {turn.verdict.reason}"
    if audit := facts.get("audit"):
        yield f"audit: {audit.get('verdict')}" + (" (cached)" if audit.get("cached") else "")
    for repair in facts.get("repairs", []):
        yield f"repair: {repair}"


def _by_proxy(
    mine: Mapping[str, Sequence[float]], its: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    gains = {name: fmean(mine[name]) - fmean(its[name]) for name in mine if its.get(name)}
    ranked = sorted(gains.items(), key=lambda pair: -abs(pair[1]))
    for what, chosen in (
        ("better on", [(name, gain) for name, gain in ranked if gain > 0]),
        ("worse on", [(name, gain) for name, gain in ranked if gain < 0]),
    ):
        if chosen:
            yield f"{what} " + ", ".join(f"{name} {gain:+.3f}" for name, gain in chosen[:N_PROXIES])


def _cost(turn: Turn) -> Iterator[str]:
    facts, spent = turn.result.facts, turn.result.cost
    if "n_params" in facts:
        yield (
            f"cost: {facts['n_params']:,} parameters, {facts['flops']:,.0f} FLOPs a token, "
            f"{facts['state_bytes']:,} bytes of state; {spent.seconds:.0f} s, "
            f"{spent.flops:.3g} FLOPs of training"
        )

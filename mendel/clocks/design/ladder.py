"""What a design run tries next, who goes on, and what fits the limits and the time.

The rungs and mutations themselves are the builder's: see mendel.kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mendel.clocks.design.run import After
from mendel.kinds import KINDS, MAKERS, Maker, Shape, recipe_of
from mendel.propose import Start, absolute
from mendel.spec import TextSpec
from mendel.types import Candidate, InputError, Kind, Result, Turn

MIN_BUDGET_S = 20.0
MIN_LATENCY_MS = 0.03
NEAR = 0.03  # scores this far apart are told apart by a single fold
ENOUGH_FOLDS = 3  # on which two candidates are compared, where time was short for all of them


@dataclass(frozen=True)
class Standing:
    """One candidate's rounds so far."""

    candidate: Candidate
    spec: TextSpec
    turns: tuple[Turn, ...]

    @property
    def times(self) -> int:
        """How often it learns from rows that were added."""
        return int(self.candidate.state.get("times", 1))

    @property
    def name(self) -> str:
        mends = "times" in self.candidate.state
        return f"{self.spec.name} x{self.times}" if mends else self.spec.name

    @property
    def scores(self) -> list[float]:
        return [turn.result.scores[0] for turn in self.turns]

    @property
    def seconds(self) -> float:
        return mean_seconds([turn.result for turn in self.turns])


def mean_seconds(results: Sequence[Result]) -> float:
    """A round's fit, on average."""
    return _mean([result.cost.seconds for result in results])


def standings(turns: Sequence[Turn]) -> list[Standing]:
    """Candidates with at least one good round, in the order in which they came."""
    rounds: dict[str, list[Turn]] = {}
    for turn in turns:
        scored = turn.result.error is None and all(map(math.isfinite, turn.result.scores))
        if turn.kind is Kind.TRIAL and scored:
            rounds.setdefault(turn.trial, []).append(turn)
    return [
        Standing(
            told[0].candidate, TextSpec.parse(dict(told[0].candidate.state["model"])), tuple(told)
        )
        for told in rounds.values()
    ]


def level_scores(found: Sequence[Standing]) -> list[float]:
    """Mean score, as if all had run the folds of the one that ran most (folds differ)."""
    if not found:
        return []
    most = max(found, key=lambda s: (len(s.turns), _mean(s.scores)))
    whole = _mean(most.scores)
    return [_mean(s.scores) + whole - _mean(most.scores[: len(s.turns)]) for s in found]


def plain_name(spec: TextSpec) -> str:
    """The name of the candidate that is the same but for altered copies of rows; maybe its own."""
    maker, recipe = MAKERS[spec.part], recipe_of(spec)
    return TextSpec(part=spec.part, fields=maker.plain(recipe).to_dict()).name


def is_augmented(spec: TextSpec) -> bool:
    return plain_name(spec) != spec.name


def leader(found: Sequence[Standing]) -> Standing:
    scores = level_scores(found)
    return found[max(range(len(found)), key=scores.__getitem__)]


def promising(mine: Sequence[float], others: Sequence[Sequence[float]], slack: float) -> str | None:
    """Successive halving: after r rounds 1 in 2^r go on, and who is level with the best.

    returns   why it stops, None to go on
    """
    if not all(map(math.isfinite, mine)):
        return "a score that is not finite"
    r = len(mine)
    peers = sorted((_mean(o[:r]) for o in others if len(o) >= r), reverse=True)
    score = _mean(mine)
    rank = 1 + sum(peer > score for peer in peers)
    room = max(1, (len(peers) + 1) // 2**r)
    if rank <= room or score >= peers[0] - slack:
        return None
    return f"rank {rank} of {len(peers) + 1} after {r} folds; the best {room} go on"


def proposals(
    shape: Shape,
    found: Sequence[Standing],
    start: Start | None = None,
    after: After | None = None,
) -> Iterator[Candidate]:
    """All that could be tried now, best first: the start, then mutations of the leader.

    start   what earlier runs advise; None or without steps: the ladder in its own order
    after   the design that this one goes on from: what shipped then comes before the rest
    """
    if after is not None:
        yield from _as_before(shape, after)
        if after.times:
            return
    if start is None or not start.steps:
        maker = _maker(shape)
        for recipe, why in maker.rungs(shape):
            yield _candidate(maker, maker.within(recipe, shape), why, ())
        yield from _mutations(shape, found)
        return
    yield from _steps(shape, start, "first")
    yield from _mutations(shape, found, start.mutations)
    yield from _steps(shape, start, "then")
    yield from _mutations(shape, found)
    yield from _steps(shape, start, "last")


def _as_before(shape: Shape, after: After) -> Iterator[Candidate]:
    maker = _maker(shape)
    shipped = maker.within(recipe_of(after.first), shape)
    first = _candidate(maker, shipped, "what shipped before", ())
    if not after.times:
        plain = maker.plain(shipped)
        if plain != shipped:  # what it is judged beside
            yield _candidate(maker, plain, "what shipped before, without altered rows", ())
        yield first
    for times in after.times:
        why = f"what shipped before, errors {times} times among the rows"
        yield Candidate({**first.state, "times": times}, why)


def _steps(shape: Shape, start: Start, when: str) -> Iterator[Candidate]:
    maker = _maker(shape)
    for step in start.steps:
        if step.when == when:
            yield _candidate(maker, absolute(maker, step.recipe, shape), step.why, ())


def _mutations(
    shape: Shape, found: Sequence[Standing], only: Sequence[str] | None = None
) -> Iterator[Candidate]:
    """Of the leader among what is learned; only those of these names, in their order."""
    maker = _maker(shape)
    learned = [s for s in found if recipe_of(s.spec).is_learned and not is_augmented(s.spec)]
    if not learned:
        return
    ahead = leader(learned)
    changes = dict(maker.mutations)
    for why in changes if only is None else [name for name in only if name in changes]:
        change = changes[why]
        recipe = maker.within(change(recipe_of(ahead.spec)), shape)
        yield _candidate(maker, recipe, f"{ahead.spec.name}, but {why}", (str(ahead.turns[-1].id),))


def fits(recipe: Any, shape: Shape, found: Sequence[Standing], left_s: float) -> bool:
    """Is there time for it? Once something complete could ship, only for what can be completed."""
    complete = any(len(s.turns) == shape.n_folds for s in found if recipe_of(s.spec).is_learned)
    n_rounds = shape.n_folds if complete else 1
    return n_rounds * estimate_s(recipe, shape, found) < left_s


def check_limits(shape: Shape, budget_s: float) -> None:
    """Refuse before training what arithmetic rules out; raises InputError."""
    limits = shape.limits
    what = f"{shape.n_passages} passages" if shape.n_passages else f"{shape.n_labels} labels"
    n_params, n_bytes = _maker(shape).least(shape)
    floors = [
        ("--max-size", limits.max_bytes, n_bytes, "bytes"),
        ("--max-params", limits.max_params, n_params, "parameters"),
        ("--max-latency", limits.max_latency_ms, MIN_LATENCY_MS, "ms"),
        ("--budget", budget_s, MIN_BUDGET_S, "s"),
    ]
    for flag, got, least, unit in floors:
        if got < least:
            raise InputError(
                f"{flag} {got:g} {unit} rules out every model for {what}. "
                f"Wanted at least {least:g} {unit}. Raise {flag}."
            )


def estimate_s(recipe: Any, shape: Shape, found: Sequence[Standing]) -> float:
    """Seconds that one round of a recipe will take, scaled by what rounds have taken so far."""
    maker = _maker(shape)
    guess = maker.guess_s(recipe, shape)
    like = [s for s in found if recipe_of(s.spec).family == recipe.family]
    seen = like or [s for s in found if recipe_of(s.spec).is_learned == recipe.is_learned]
    ratios = [s.seconds / max(maker.guess_s(recipe_of(s.spec), shape), 1e-9) for s in seen]
    return guess * (sum(ratios) / len(ratios) if ratios else 1.0)


def finalists(found: Sequence[Standing]) -> list[Standing]:
    """Of those near the best, the ones that saw enough folds to be compared on them and chosen."""
    scores = level_scores(found)
    near = [s for s, score in zip(found, scores, strict=True) if score >= max(scores) - NEAR]
    most = max((len(s.turns) for s in near), default=0)
    return [s for s in near if len(s.turns) >= min(most, ENOUGH_FOLDS)]


def _maker(shape: Shape) -> Maker:
    return KINDS[shape.kind].builder


def _candidate(maker: Maker, recipe: Any, why: str, links: tuple[str, ...]) -> Candidate:
    spec = TextSpec(part=maker.part, fields=recipe.to_dict())
    return Candidate({"model": spec.to_dict()}, why, links)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

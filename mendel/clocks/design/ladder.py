"""The rungs of a design run: what is tried, in which order, and what fits limits and time.

keywords -> linear -> dual, small, two small -> cnn, bag -> mutations of what leads
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mendel.parts.text.recipe import Recipe
from mendel.spec import Limits, TextSpec
from mendel.train.folds import recipe_of
from mendel.types import Candidate, InputError, Kind, Result, Turn

MIN_ROWS = 256  # of a table; fewer features make no model worth shipping
MIN_BUDGET_S = 20.0
MIN_LATENCY_MS = 0.03
NEAR = 0.03  # accuracies this far apart are told apart by a single fold
OVERHEAD_BYTES = 4_000  # of a graph without its weights

# seconds a row (an epoch, for networks) on one core of 2024; the run corrects it by what it sees
SECONDS_A_ROW = {"keywords": 1e-5, "linear": 7e-4, "bag": 1.2e-4, "cnn": 1.6e-4, "dual": 2.4e-4}


@dataclass(frozen=True)
class Shape:
    """What the ladder needs to know of a task."""

    n_rows: int
    n_labels: int
    limits: Limits
    n_folds: int


@dataclass(frozen=True)
class Standing:
    """One candidate's rounds so far."""

    candidate: Candidate
    spec: TextSpec
    turns: tuple[Turn, ...]

    @property
    def accuracies(self) -> list[float]:
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
    """Mean accuracy, as if all had run the folds of the one that ran most (folds differ)."""
    if not found:
        return []
    most = max(found, key=lambda s: (len(s.turns), _mean(s.accuracies)))
    whole = _mean(most.accuracies)
    return [_mean(s.accuracies) + whole - _mean(most.accuracies[: len(s.turns)]) for s in found]


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


def rungs(shape: Shape) -> Iterator[tuple[Recipe, str]]:
    """The ladder itself, with why each rung is on it; the order is that of gain for time."""
    base = starting_point(shape.n_rows)
    frugal = replace(base, dim=48, bag_dim=32, channels=96, min_df=base.min_df + 1)
    short = Recipe("linear", char_max=4, min_df=3, phrase_min_df=3, max_rows=10_000)
    yield Recipe("keywords", min_df=1), "needs no examples; the floor"
    yield short, "trained in seconds, and small"
    yield Recipe("linear", phrase_max=3, min_df=1), "every n-gram: the strongest linear model"
    yield base, "words in context and counts, trained together"
    yield frugal, "the same at half the size"
    yield (
        replace(frugal, copies=2),
        "two small networks, logits averaged: errors that differ cancel",
    )
    yield replace(base, family="cnn"), "words in context alone"
    yield replace(base, family="bag"), "counts alone: the quickest network to answer"


def starting_point(n_rows: int) -> Recipe:
    """The network that fits the amount of data: less data, more passes of smaller batches."""
    if n_rows < 2_000:
        return Recipe(epochs=30, batch=32)
    if n_rows > 30_000:
        return Recipe(epochs=6, batch=256, min_df=3)
    return Recipe()


# why, change: applied to whatever leads
MUTATIONS: list[tuple[str, Callable[[Recipe], Recipe]]] = [
    ("one network more, logits averaged", lambda r: replace(r, copies=r.copies + 1)),
    (
        "half as wide: a smaller model",
        lambda r: replace(
            r,
            dim=r.dim // 2,
            bag_dim=r.bag_dim // 2,
            channels=r.channels // 2,
            hidden=r.hidden // 2,
        ),
    ),
    (
        "half as wide again as it was",
        lambda r: replace(
            r, dim=r.dim * 3 // 2, bag_dim=r.bag_dim * 3 // 2, channels=r.channels * 3 // 2
        ),
    ),
    ("half as long again in training", lambda r: replace(r, epochs=r.epochs * 3 // 2)),
    ("phrases of three words", lambda r: replace(r, phrase_max=3)),
    ("rare n-grams kept", lambda r: replace(r, min_df=1)),
    ("only n-grams seen four times", lambda r: replace(r, min_df=4, phrase_min_df=4)),
    ("stronger dropout", lambda r: replace(r, bag_drop=0.65, gram_drop=0.3, pooled_drop=0.6)),
    ("windows of four words", lambda r: replace(r, max_width=4)),
    ("no character bigrams", lambda r: replace(r, char_min=3)),
    ("smaller steps", lambda r: replace(r, lr=r.lr / 2)),
]


def proposals(shape: Shape, found: Sequence[Standing]) -> Iterator[Candidate]:
    """All that could be tried now, best first: the ladder, then mutations of the leader."""
    for recipe, why in rungs(shape):
        yield _candidate(within(recipe, shape), why, ())
    learned = [s for s in found if recipe_of(s.spec).is_learned]
    if not learned:
        return
    ahead = leader(learned)
    for why, change in MUTATIONS:
        recipe = within(change(recipe_of(ahead.spec)), shape)
        yield _candidate(recipe, f"{ahead.spec.name}, but {why}", (str(ahead.turns[-1].id),))


def fits(recipe: Recipe, shape: Shape, found: Sequence[Standing], left_s: float) -> bool:
    """Is there time for it? Once something complete could ship, only for what can be completed."""
    complete = any(len(s.turns) == shape.n_folds for s in found if recipe_of(s.spec).is_learned)
    n_rounds = shape.n_folds if complete else 1
    return n_rounds * estimate_s(recipe, shape, found) < left_s


def within(recipe: Recipe, shape: Shape) -> Recipe:
    """The same with tables small enough for the limits on parameters and bytes."""
    per_row, fixed = _params(recipe, shape.n_labels)
    by_params = (shape.limits.max_params - fixed) // per_row
    by_bytes = (shape.limits.max_bytes - OVERHEAD_BYTES - 4 * fixed) // (per_row + 10)  # int8
    return replace(recipe, max_rows=max(MIN_ROWS, min(recipe.max_rows, by_params, by_bytes)))


def check_limits(limits: Limits, n_labels: int, budget_s: float) -> None:
    """Refuse before training what arithmetic rules out; raises InputError."""
    n_params = MIN_ROWS * n_labels + n_labels
    n_bytes = n_params + 10 * MIN_ROWS + OVERHEAD_BYTES
    floors = [
        ("--max-size", limits.max_bytes, n_bytes, "bytes"),
        ("--max-params", limits.max_params, n_params, "parameters"),
        ("--max-latency", limits.max_latency_ms, MIN_LATENCY_MS, "ms"),
        ("--budget", budget_s, MIN_BUDGET_S, "s"),
    ]
    for flag, got, least, unit in floors:
        if got < least:
            raise InputError(
                f"{flag} {got:g} {unit} rules out every model for {n_labels} labels. "
                f"Wanted at least {least:g} {unit}. Raise {flag}."
            )


def estimate_s(recipe: Recipe, shape: Shape, found: Sequence[Standing]) -> float:
    """Seconds that one round of a recipe will take, scaled by what rounds have taken so far."""
    guess = _guess_s(recipe, shape)
    like = [s for s in found if recipe_of(s.spec).family == recipe.family]
    seen = like or [s for s in found if recipe_of(s.spec).is_learned == recipe.is_learned]
    ratios = [s.seconds / max(_guess_s(recipe_of(s.spec), shape), 1e-9) for s in seen]
    return guess * (sum(ratios) / len(ratios) if ratios else 1.0)


def closing_s(shape: Shape, found: Sequence[Standing]) -> float:
    """Seconds to keep for the end: the leader on all rows, the baseline, packing, the report."""
    more = shape.n_folds / (shape.n_folds - 1)
    final = max((s.seconds for s in finalists(found)), default=0.0) * more
    linear = [s.seconds for s in found if recipe_of(s.spec).family == "linear"]
    baseline = 1.5 * max(linear, default=_guess_s(Recipe("linear"), shape)) * more
    return final + baseline + 13


def finalists(found: Sequence[Standing]) -> list[Standing]:
    """Of those near the best, the ones that saw the most folds: they can be compared and chosen."""
    scores = level_scores(found)
    near = [s for s, score in zip(found, scores, strict=True) if score >= max(scores) - NEAR]
    most = max((len(s.turns) for s in near), default=0)
    return [s for s in near if len(s.turns) == most]


def _guess_s(recipe: Recipe, shape: Shape) -> float:
    epochs = recipe.epochs if recipe.is_learned else 1
    width = 0.5 + recipe.dim / 128 if recipe.is_learned else shape.n_labels**0.5 / 9
    return 0.2 + shape.n_rows * epochs * recipe.copies * width * SECONDS_A_ROW[recipe.family]


def _params(recipe: Recipe, n_labels: int) -> tuple[int, int]:
    """Parameters for each row of the tables, and those that do not depend on the rows."""
    if not recipe.is_learned:
        return n_labels, n_labels
    widths = range(1, recipe.max_width + 1)
    cnn = sum(w * recipe.dim * recipe.channels + recipe.channels for w in widths)
    cnn += recipe.channels * recipe.max_width * n_labels + n_labels
    bag = (recipe.bag_dim + 1) * recipe.hidden + (recipe.hidden or recipe.bag_dim) * n_labels
    per_row = recipe.bag_dim * recipe.has_bag + recipe.dim * recipe.has_cnn
    fixed = cnn * recipe.has_cnn + bag * recipe.has_bag
    return recipe.copies * per_row, recipe.copies * fixed


def _candidate(recipe: Recipe, why: str, links: tuple[str, ...]) -> Candidate:
    spec = TextSpec(fields=recipe.to_dict())
    return Candidate({"model": spec.to_dict()}, why, links)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

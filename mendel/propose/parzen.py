"""Optuna's TPE over recipes: a design of the menu, and the fields that changes know.

recipe --picks_of--> one choice a field --TPE--> other choices --recipe_at--> recipe, matched
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mendel.parts.part import Kind as PartKind
from mendel.parts.part import resolve
from mendel.propose.changes import fields, training
from mendel.propose.changes.change import with_model, with_train
from mendel.propose.matching import Caps, matched
from mendel.propose.memory import Memory
from mendel.propose.novelty import key
from mendel.propose.options import link
from mendel.propose.recipes import Problem, from_menu, luck, made_by, recipe_of
from mendel.propose.searchers import MAX_REPEATS
from mendel.propose.spaces import Choices, Picks
from mendel.propose.spelling import whole
from mendel.propose.tpe import TreeParzen
from mendel.spec import PartSpec, Recipe, SpecError
from mendel.types import Candidate, InputError, Kind, Turn

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the start's rates
PATTERNS: tuple[tuple[PartKind, str], ...] = (("mixer", "mixers"), ("channel", "channels"))


@dataclass(frozen=True)
class Dial:
    """A field and its values; the choice after the last one leaves it as it is."""

    where: str  # mixers, channels, model, train
    field: str
    values: tuple[Any, ...]


class TreeParzenOver:
    """Multivariate TPE behind the proposer's protocol.

    raises   InputError where optuna is not installed
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bases = [design.recipe for design in problem.menu] or [problem.start]
        self.dials = dials(problem.start)
        sizes = (len(self.bases), *(len(dial.values) + 1 for dial in self.dials))
        try:
            self.tree = TreeParzen(Choices(sizes), problem.seed)
        except ModuleNotFoundError:
            raise InputError(
                "optuna is not installed, and TPE is its. Wanted optuna. "
                "Run pip install 'mendel[research]'."
            ) from None
        self.memory, self.n_learned = Memory(), 0

    def learn(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            self.n_learned += 1
            if turn.kind is Kind.TRIAL and self.problem.task in (None, turn.line.task):
                tried = self.memory.learn(turn)
                if tried is not None:
                    self.tree.tell(picks_of(tried.recipe, self.bases, self.dials), tried.value)

    def propose(self, pending: Sequence[Candidate]) -> Candidate | None:
        known = self.memory.tried.keys() | {key(recipe_of(candidate)) for candidate in pending}
        rng = luck(self.problem.seed, self.n_learned, pending)
        first = from_menu(self.problem.menu, known)
        if first is not None:
            return first
        self.tree.reseed(int(rng.integers(1 << 31)))
        for i in range(2 * MAX_REPEATS):  # then random ones: the method is stuck
            picks = self.tree.draw() if i < MAX_REPEATS else self.tree.space.draw(rng)
            recipe = recipe_at(picks, self.bases, self.dials, self.problem.caps)
            if recipe is not None and key(recipe) not in known:
                return self._candidate(picks, recipe)
        return None

    def _candidate(self, picks: Picks, recipe: Recipe) -> Candidate:
        base, menu = self.bases[picks[0]], self.problem.menu
        said = ", ".join(f"{dial.field}={value}" for dial, value in _chosen(picks, self.dials))
        name = menu[picks[0]].name if menu else "the start"
        tried = self.memory.tried.get(key(base))
        came = ((f"menu:{name}",) if menu else ()) + (link(tried) if tried else ())
        links = (made_by("tpe"), *came)
        return Candidate(recipe.to_dict(), f"tpe: {name} with {said}.", links)


def dials(start: Recipe) -> list[Dial]:
    """Every field with the values that changes give it; rates around those of the start."""
    found: dict[tuple[str, str], list[Any]] = {}
    for part, values in fields.VALUES.items():
        where = "channels" if part in ("mlp", "gated") else "mixers"
        for field, each in values.items():
            known = found.setdefault((where, field), [])
            known += [value for value in each if value not in known]
    found |= {("train", field): list(each) for field, each in training.VALUES.items()}
    for field, (least, most) in training.RATES.items():
        rates = [float(f"{getattr(start.train, field) * factor:.6g}") for factor in FACTORS]
        found["train", field] = [rate for rate in rates if least <= rate <= most]
    found |= {("model", field): list(each) for field, each in training.INITIAL.items()}
    return [Dial(where, field, tuple(values)) for (where, field), values in found.items()]


def picks_of(recipe: Recipe, bases: Sequence[Recipe], dials: Sequence[Dial]) -> Picks:
    """The nearest base, and each field as the recipe has it."""
    picks = [_nearest(recipe, bases)]
    for dial in dials:
        value = _read(recipe, dial)
        picks.append(dial.values.index(value) if value in dial.values else len(dial.values))
    return tuple(picks)


def recipe_at(
    picks: Picks, bases: Sequence[Recipe], dials: Sequence[Dial], caps: Caps
) -> Recipe | None:
    """None where fields do not go together, or nothing fits beneath the caps."""
    recipe = bases[picks[0]]
    chosen = list(_chosen(picks, dials))
    try:
        patterns = {
            where: [_set(kind, where, part, chosen) for part in getattr(recipe.model, where)]
            for kind, where in PATTERNS
        }
        model = {dial.field: value for dial, value in chosen if dial.where == "model"}
        train = {dial.field: value for dial, value in chosen if dial.where == "train"}
        return matched(with_train(with_model(recipe, **patterns, **model), **train), caps)
    except SpecError:
        return None


def _chosen(picks: Picks, dials: Sequence[Dial]) -> Iterator[tuple[Dial, Any]]:
    for dial, i in zip(dials, picks[1:], strict=True):
        if i < len(dial.values):
            yield dial, dial.values[i]


def _set(
    kind: PartKind, where: str, spec: PartSpec, chosen: Sequence[tuple[Dial, Any]]
) -> PartSpec:
    """The part with the fields that it has set, each with what must follow it."""
    cls, every = resolve(kind, spec)[0], whole(kind, spec)
    known = fields.VALUES.get(cls.name, {})
    for dial, value in chosen:
        is_new = value in known.get(dial.field, ()) and value != every.get(dial.field)
        if dial.where == where and is_new:
            every = fields.settled(cls.name, every, dial.field, value)
    return PartSpec(part=cls.name, fields=every)


def _read(recipe: Recipe, dial: Dial) -> Any:
    """The value of a field, in the first part of the pattern that has it."""
    for kind, where in PATTERNS:
        if dial.where == where:
            for spec in getattr(recipe.model, where):
                if dial.field in fields.VALUES.get(resolve(kind, spec)[0].name, {}):
                    return whole(kind, spec).get(dial.field)
            return ...  # no part has it
    return getattr(recipe.train if dial.where == "train" else recipe.model, dial.field)


def _nearest(recipe: Recipe, bases: Sequence[Recipe]) -> int:
    """The base with the same parts and the fewest other fields."""

    def far(base: Recipe) -> tuple[int, int]:
        mine, its = recipe.model.mixers, base.model.mixers
        parts = [part.part for part in mine] != [part.part for part in its]
        fields = [len(set(_items(a)) ^ set(_items(b))) for a, b in zip(mine, its, strict=False)]
        return int(parts), sum(fields)

    return min(range(len(bases)), key=lambda i: (*far(bases[i]), i))


def _items(part: PartSpec) -> list[str]:
    return [f"{name}={value}" for name, value in part.fields.items()]

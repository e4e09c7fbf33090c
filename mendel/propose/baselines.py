"""Random search, regularised evolution and Optuna's TPE over recipes: what the researcher is
measured against.

All try the menu first, as the researcher does; then random search and evolution walk by the same
typed changes, and TPE (parzen.py) chooses fields. Each search is built anew from what was learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mendel.propose.changes import Change, changes
from mendel.propose.memory import Memory
from mendel.propose.novelty import key
from mendel.propose.recipes import Problem, from_menu, luck, recipe_of
from mendel.propose.searchers import Evolution, RandomSearch
from mendel.propose.spaces import Floats, Rng
from mendel.spec import Recipe
from mendel.types import Candidate, Digest, InputError, Kind, Turn

MAX_CHANGES = 4  # of a random recipe, away from a design of the menu
N_POPULATION = 20


class Walks:
    """The recipes that typed changes lead to, as a space: a candidate is a key.

    came   where each was last met: the design that was changed, and how
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.recipes: dict[Digest, Recipe] = {}
        self.came: dict[Digest, tuple[Digest, str]] = {}
        self.near: dict[Digest, list[tuple[Digest, Change]]] = {}
        self.menu = [self.meet(design.recipe) for design in problem.menu]
        self.start = self.menu or [self.meet(problem.start)]

    def meet(self, recipe: Recipe) -> Digest:
        name = key(recipe)
        self.recipes.setdefault(name, recipe)
        return name

    def everything(self, at_most: int) -> None:
        return None

    def draw(self, rng: Rng) -> Digest:
        """A design of the menu, changed up to MAX_CHANGES times."""
        first = here = self.start[int(rng.integers(len(self.start)))]
        said = []
        for _ in range(int(rng.integers(1, MAX_CHANGES + 1))):
            near = self._near(here)
            if near:
                here, change = near[int(rng.integers(len(near)))]
                said.append(change.name)
        self.came[here] = first, ", ".join(said)
        return here

    def neighbours(self, candidate: Digest) -> Sequence[Digest]:
        near = self._near(candidate)
        self.came |= {name: (candidate, change.name) for name, change in near}
        return [name for name, _ in near]

    def features(self, candidates: Sequence[Digest]) -> Floats:
        raise NotImplementedError("neither random search nor evolution asks for features")

    def _near(self, name: Digest) -> list[tuple[Digest, Change]]:
        if name not in self.near:
            found = changes(self.recipes[name], self.problem.caps)
            self.near[name] = [(self.meet(change.recipe), change) for change in found]
        return self.near[name]


class Walking:
    """What random search and evolution share: the menu first, then a search built anew."""

    operator = "random"

    def __init__(self, problem: Problem) -> None:
        self.problem, self.space = problem, Walks(problem)
        self.memory = Memory()
        self.told: dict[Digest, float] = {}
        self.n_learned = 0

    def learn(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            self.n_learned += 1
            if turn.kind is Kind.TRIAL and self.problem.task in (None, turn.line.task):
                tried = self.memory.learn(turn)
                if tried is not None:
                    self.space.meet(tried.recipe)
                    self.told[tried.key] = tried.value

    def propose(self, pending: Sequence[Candidate]) -> Candidate | None:
        flying = [self.space.meet(recipe_of(candidate)) for candidate in pending]
        known = self.told.keys() | set(flying)
        rng = luck(self.problem.seed, self.n_learned, pending)
        return from_menu(self.problem.menu, known) or self._walked(flying, rng)

    def _walked(self, flying: Sequence[Digest], rng: Rng) -> Candidate | None:
        search = self.search(int(rng.integers(1 << 31)))
        search.told, search.asked = self.told, dict.fromkeys(flying)
        try:
            name = search.ask()
        except InputError:
            return None  # nothing new is left
        parent, said = self.space.came[name]
        tried = self.memory.tried.get(parent)
        origin = f"turn {tried.turn}" if tried else "the start"
        links = (f"turn:{tried.turn}",) if tried else ()
        why = f"{self.operator}: {said}. From {origin}."
        return Candidate(self.space.recipes[name].to_dict(), why, links)

    def search(self, seed: int) -> RandomSearch[Digest] | Evolution[Digest]:
        raise NotImplementedError


class RandomOver(Walking):
    """Random recipes: a design of the menu, changed a few times."""

    def search(self, seed: int) -> RandomSearch[Digest] | Evolution[Digest]:
        return RandomSearch(self.space, seed)


class EvolutionOver(Walking):
    """Regularised evolution; its first population is the menu."""

    operator = "evolution"

    def search(self, seed: int) -> RandomSearch[Digest] | Evolution[Digest]:
        found = Evolution(self.space, seed, N_POPULATION)
        found.n_asked = len(self.told)
        for tried in self.memory.order[-N_POPULATION:]:
            value = -math.inf if math.isnan(tried.value) else tried.value
            found.living.append((tried.key, value))
        return found

"""Random search, regularised evolution and Optuna's TPE over recipes: what the researcher is
measured against.

All try the menu first, as the researcher does; then random search and evolution walk by the same
typed changes, and TPE (parzen.py) chooses fields. Each search is built anew from what was learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mendel.propose.changes import Draft
from mendel.propose.memory import Memory
from mendel.propose.novelty import key
from mendel.propose.options import Broods, link
from mendel.propose.recipes import Problem, from_menu, luck, made_by, recipe_of
from mendel.propose.searchers import MAX_REPEATS, Evolution, RandomSearch
from mendel.propose.spaces import Floats, Rng
from mendel.spec import Recipe
from mendel.types import Candidate, Digest, InputError, Kind, Turn

MAX_CHANGES = 4  # of a random recipe, away from a design of the menu
N_POPULATION = 20


class Walks:
    """The recipes that typed changes lead to, as a space: a candidate is the key of a draft.

    came   where each was last met: the key of the design that was changed, and how
    """

    def __init__(self, problem: Problem, broods: Broods) -> None:
        self.broods = broods
        self.recipes: dict[Digest, Recipe] = {}
        self.came: dict[Digest, tuple[Digest, Draft]] = {}
        recipes = [design.recipe for design in problem.menu] or [problem.start]
        self.first = [self.meet(recipe) for recipe in recipes]

    def meet(self, recipe: Recipe) -> Digest:
        name = key(recipe)
        self.recipes.setdefault(name, recipe)
        return name

    def everything(self, at_most: int) -> None:
        return None

    def draw(self, rng: Rng) -> Digest:
        """A design of the menu, changed up to MAX_CHANGES times."""
        first = here = self.first[int(rng.integers(len(self.first)))]
        said: list[str] = []
        for _ in range(int(rng.integers(1, MAX_CHANGES + 1))):
            drafts = self.broods.drafts(self.recipes[here])
            if not drafts:
                break
            draft = drafts[int(rng.integers(len(drafts)))]
            try:
                here = self.meet(draft.recipe)
            except InputError:
                break  # fields that do not go together
            said.append(draft.name)
            self.came[here] = first, replace(draft, name=", ".join(said))
        return here

    def neighbours(self, candidate: Digest) -> Sequence[Digest]:
        brood = self.broods.brood(self.recipes[candidate], candidate)
        for draft, name in brood:
            self.recipes.setdefault(name, draft.recipe)
            self.came[name] = candidate, draft
        return [name for _, name in brood]

    def features(self, candidates: Sequence[Digest]) -> Floats:
        raise NotImplementedError("neither random search nor evolution asks for features")

    def fit(self, name: Digest) -> Recipe | None:
        """As wide as fits beneath the caps; None where nothing does."""
        if name not in self.came:
            return None  # a design of the menu as it is
        parent, draft = self.came[name]
        return self.broods.fit(draft, name, self.recipes[parent], parent)


class Walking:
    """What random search and evolution share: the menu first, then a search built anew."""

    operator = "random"

    def __init__(self, problem: Problem, broods: Broods | None = None) -> None:
        self.problem = problem
        self.space = Walks(problem, broods or Broods(problem))
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
        for _ in range(MAX_REPEATS):
            try:
                name = search.ask()
            except InputError:
                break  # nothing new is left
            recipe = self.space.fit(name)
            if recipe is not None and key(recipe) not in self.told and key(recipe) not in flying:
                return self._candidate(recipe, *self.space.came[name])
        return None

    def _candidate(self, recipe: Recipe, parent: Digest, draft: Draft) -> Candidate:
        tried = self.memory.tried.get(parent)
        origin = f"turn {tried.turn}" if tried else "the recipe that the line starts from"
        links = (made_by(self.operator), *(link(tried) if tried else ()))
        return Candidate(recipe.to_dict(), f"{self.operator}: {draft.name}. From {origin}.", links)

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

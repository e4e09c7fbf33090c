"""The builtin researcher: typed changes of what is known to work, ranked by what they promise.

the menu's designs -> ablations of what was promoted ->
parents (the champion, the best, elites of the archive) -> operators, weighed by a bandit
        -> expected improvement by the surrogate -> nothing that is known -> the next candidate

No language model, and nothing is kept between calls but what follows from the turns.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mendel.propose.analyst import Insight, ablations
from mendel.propose.archive import Archive, cell_of
from mendel.propose.bandit import Bandit
from mendel.propose.effects import DOUBLED
from mendel.propose.memory import Memory, Tried
from mendel.propose.novelty import distance, fingerprint, key
from mendel.propose.options import ARMS, Broods, Effects, Option
from mendel.propose.ranking import Expected, Ranking
from mendel.propose.recipes import Problem, from_menu, linked, luck, made_by, operator, recipe_of
from mendel.propose.spaces import Floats, Rng
from mendel.propose.spelling import spelled
from mendel.spec import Recipe
from mendel.types import Candidate, Digest, InputError, Kind, Turn

N_ELITES, N_FAR = 2, 2  # parents drawn from the archive; where the search is stuck, far ones too
N_WIDENED = 2  # options that are changed once more where it is stuck
N_LOOKED = 30  # of the most promising, whose fingerprints are looked at
N_PRINTS = 1 << 14  # fingerprints that are remembered
STUCK, STUCK_SHARE = 50, 0.25  # trials without a gain, and their share of all


@dataclass(frozen=True)
class Stuck:
    """No gain for long, and none expected: `n` trials ago was the last one."""

    n: int
    expected: float
    steps: int  # changes at once, while it lasts

    def __str__(self) -> str:
        return (
            f"Stuck: no gain in {self.n} trials and {self.expected:.3f} expected of the next, so "
            f"the search is widened to {self.steps} changes at once and to far parents."
        )


@dataclass(frozen=True)
class Looked:
    """Options that were looked at together; expected is None where too little is known."""

    options: list[Option]
    expected: Expected | None

    @property
    def worth(self) -> Floats:
        return np.ones(len(self.options)) if self.expected is None else self.expected.worth


class Builtin:
    """The researcher; raises InputError where pyribs is not installed."""

    def __init__(self, problem: Problem, broods: Broods | None = None) -> None:
        self.problem = problem
        self.menu = {design.key: design.name for design in problem.menu}
        self.memory, self.others = Memory(), dict[Digest, Memory]()
        self.ranking = Ranking(self.memory, self.others, problem.seed)
        self.bandit, self.archive = Bandit(ARMS), Archive()
        self.broods = broods or Broods(problem)  # they know nothing of turns: runs may share them
        self.effects = Effects()
        self.n_learned, self.n_gained = 0, 0  # turns; designs tried when the last was promoted
        self.stuck: Stuck | None = None  # as of the last proposal, for people
        self.flying: dict[Digest, tuple[Digest, Recipe]] = {}  # by id of what was pending last
        self.prints: dict[Digest, Digest | None] = {}
        self.apart: dict[tuple[Digest, Digest], float] = {}  # an elite and a champion
        self.tests: dict[int, list[tuple[Digest, Candidate]]] = {}  # ablations of promoted turns

    # -- learn --

    def learn(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            self.n_learned += 1
            if turn.kind is Kind.INSIGHT:
                self.effects = helping(turn, self.effects)
            elif self.problem.task in (None, turn.line.task):
                self._learn(turn)
            elif not turn.result.facts.get("null"):
                self.others.setdefault(turn.line.task, Memory()).learn(turn)

    def _learn(self, turn: Turn) -> None:
        before = len(self.memory.tried)
        tried = self.memory.learn(turn)
        if tried is None:
            return  # of another version: no recipe of ours
        if turn.verdict.keep:
            self.n_gained = len(self.memory.tried)
        if len(self.memory.tried) == before:
            return  # another round of a known design
        self.ranking.learn()
        if not math.isnan(tried.value):
            cell = cell_of(tried.recipe, self.problem.caps)
            self.archive.add(tried.place, tried.value, cell)
        if not any(linked(turn.candidate, "ablation")):  # those are tests, not attempts
            self.bandit.learn(operator(turn.candidate), self._gained(tried, turn))

    def _gained(self, tried: Tried, turn: Turn) -> bool:
        """Is it better than all its parents, by what counts as a gain?"""
        values = [parent.value for parent in self.memory.parents(turn.candidate)]
        before = max((value for value in values if not math.isnan(value)), default=math.inf)
        return tried.value > before + self.problem.margin

    # -- propose --

    def propose(self, pending: Sequence[Candidate]) -> Candidate | None:
        flying = self._flying(pending)
        known = ChainMap[Digest, Any](self.memory.tried, flying)  # no copy of all keys
        return (
            from_menu(self.problem.menu, known)
            or self._ablation(known)
            or self._searched(flying, luck(self.problem.seed, self.n_learned, pending))
        )

    def _flying(self, pending: Sequence[Candidate]) -> dict[Digest, Recipe]:
        """By key; each is read once, however often one asks while it is in flight."""
        known = self.flying
        self.flying = {c.id: known.get(c.id) or spelled(recipe_of(c)) for c in pending}
        return dict(self.flying.values())

    def _ablation(self, known: Collection[Digest]) -> Candidate | None:
        """Of each promoted design, so that the analyst can say which of its changes carry it."""
        for turn in self.memory.promoted:
            if operator(turn.candidate) == "menu":
                continue  # selected, not found
            if turn.id not in self.tests:
                before = self.memory.by_turn.get(turn.champion)
                recipe = before.recipe if before else self.problem.start
                found = ablations(turn, recipe, self.problem.caps)
                self.tests[turn.id] = [(key(recipe_of(c)), c) for c in found]
            for name, candidate in self.tests[turn.id]:
                if name not in known:
                    return candidate
        return None

    def _searched(self, flying: Mapping[Digest, Recipe], rng: Rng) -> Candidate | None:
        looked = [self._look(self._options(self._parents(rng)), flying)]
        self.stuck = self._is_stuck(looked[0].expected)
        if self.stuck or not looked[0].options:
            near, far = looked[0], self._look(self._options(self._far()), flying)
            steps = self.stuck.steps if self.stuck else 1
            looked = [far, *self._widened([near, far], flying, rng, steps)]
        return self._best(looked, flying, rng)

    def _best(
        self, looked: Sequence[Looked], flying: Mapping[Digest, Recipe], rng: Rng
    ) -> Candidate | None:
        """Of the most promising the first that computes what nothing known computes."""
        drawn = self.bandit.draw(rng)
        if self.stuck:
            drawn["widen"] = max(drawn.values())  # none of the others has gained
        found = [(look, i) for look in looked for i in range(len(look.options))]
        worth = [look.worth[i] * drawn[look.options[i].arm] for look, i in found]
        aloft = {self._print(name, flying[name]) for name in flying}
        n_looked = 0
        for place in np.argsort(-np.array(worth), kind="stable"):
            look, i = found[int(place)]
            option = look.options[i]
            parent = option.parents[0]
            recipe = self.broods.fit(option.draft, option.key, parent.recipe, parent.key)
            if recipe is None or (name := key(recipe)) in self.memory.tried or name in flying:
                continue
            print_ = self._print(name, recipe)
            if print_ and print_ not in self.memory.fingerprints and print_ not in aloft:
                return self._candidate(look, i, recipe)
            if (n_looked := n_looked + 1) == N_LOOKED:
                break
        return None

    def _candidate(self, look: Looked, i: int, recipe: Recipe) -> Candidate:
        option, expected = look.options[i], look.expected
        words, links = [f"{option.arm}: {option.words}"], [made_by(option.arm), *option.links]
        if expected is not None:
            words.append(
                f"Expected {expected.mean[i]:.3f} +- {expected.deviation[i]:.3f}, the best so far "
                f"is {expected.best:.3f}; it differs from the nearest design tried in "
                f"{expected.newness(i):.0%} of its features."
            )
        if self.stuck:
            words.append(str(self.stuck))
            links.append(f"stuck:{self.stuck.n}")
        return Candidate(recipe.to_dict(), " ".join(words), tuple(links))

    # -- where it looks --

    def _champion(self) -> Tried:
        """Where it was never tried, the recipe that the line starts from."""
        memory = self.memory
        found = memory.by_turn.get(memory.champion)
        name, start = spelled(self.problem.start)
        return found or Tried(-1, start, name, memory.first_champion)

    def _parents(self, rng: Rng) -> list[Tried]:
        """The champion, the best measured, and elites: good ones, and those with few children."""
        memory = self.memory
        found = [self._champion()]
        if np.isfinite(values := np.array(memory.values)).any():
            found.append(memory.order[int(np.nanargmax(values))])
        elites = self._elites()
        if elites:
            rank = np.argsort(np.argsort([-elite.value for elite in elites], kind="stable"))
            weight = 1 / ((1 + rank) * np.array([1 + elite.n_children for elite in elites]))
            n = min(N_ELITES, len(elites))
            drawn = rng.choice(len(elites), size=n, replace=False, p=weight / weight.sum())
            found += [elites[int(i)] for i in drawn]
        return list({tried.key: tried for tried in found}.values())

    def _far(self) -> list[Tried]:
        """Elites that differ most from the champion."""
        here = self._champion()
        for elite in self._elites():
            if (at := (elite.key, here.key)) not in self.apart:
                self.apart[at] = distance(elite.recipe, here.recipe)
        far = sorted(self._elites(), key=lambda e: (-self.apart[e.key, here.key], e.place))
        return far[:N_FAR]

    def _elites(self) -> list[Tried]:
        order = self.memory.order
        found = [order[place] for place in self.archive.elites()]
        return [elite for elite in found if not math.isnan(elite.value)]

    def _options(self, parents: Sequence[Tried]) -> Iterator[Option]:
        for parent in parents:
            yield from self.broods.of(parent, self.effects)
        for other in parents[1:]:
            yield from self.broods.between(parents[0], other, self.menu.get(other.key, ""))

    def _widened(
        self, looked: Sequence[Looked], flying: Mapping[Digest, Recipe], rng: Rng, steps: int
    ) -> list[Looked]:
        """What is one change further from the most promising options; then further from those."""
        found: list[Looked] = []
        for _ in range(steps - 1):
            of = [(-w, look.options[i]) for look in looked for i, w in enumerate(look.worth)]
            of.sort(key=lambda one: one[0])  # stable
            best = list({option.key: option for _, option in of}.values())[:N_WIDENED]
            further = (each for option in best for each in self.broods.further(option, rng))
            looked = [self._look(further, flying)]
            found += looked
        return found

    # -- what it expects --

    def _look(self, options: Iterable[Option], flying: Mapping[Digest, Recipe]) -> Looked:
        """What is known already is left out, as far as its spelling shows it."""
        tried = self.memory.tried
        new = [o for o in options if o.key not in tried and o.key not in flying]
        designs = [(option.key, option.draft.recipe) for option in new]
        expected = self.ranking.expects(designs, list(flying.items())) if new else None
        return Looked(new, expected)

    def _is_stuck(self, expected: Expected | None) -> Stuck | None:
        n_trials = len(self.memory.tried)
        limit = max(STUCK, STUCK_SHARE * n_trials)
        since = n_trials - self.n_gained
        promised = 0.0 if expected is None else float(expected.gain.max())
        if since < limit or promised >= self.problem.margin:
            return None
        return Stuck(since, promised, 2 if since < 2 * limit else 3)

    def _print(self, name: Digest, recipe: Recipe) -> Digest | None:
        """Fingerprint; None where it cannot be built."""
        if name not in self.prints:
            if len(self.prints) >= N_PRINTS:
                self.prints.pop(next(iter(self.prints)))  # the oldest
            try:
                self.prints[name] = fingerprint(recipe)
            except InputError:
                self.prints[name] = None
        return self.prints[name]


def helping(turn: Turn, before: Effects) -> Effects:
    """What the analyst is sure helps: the interval of a clear effect lies on one side of 0.

    before   what stays where the insight is of another version
    """
    try:
        insight = Insight.from_dict(turn.result.facts)
    except InputError:
        return before
    clear = [effect for effect in insight.effects if effect.clear]
    good = {(effect.field, str(effect.value)) for effect in clear if effect.low > 0}
    halved = {(e.field, "/2") for e in clear if e.value == DOUBLED and e.high < 0}
    return Effects(turn.id, frozenset(good | halved))

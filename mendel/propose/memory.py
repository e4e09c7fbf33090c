"""What was learned: each design once, with what all its turns say of it.

value of a design = level of its champion on the screen's seeds + mean difference to it, over all
pairs. So designs compare that met another champion or other seeds; the cut ones too, roughly.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mendel.propose.recipes import linked, recipe_of
from mendel.propose.spelling import spelled
from mendel.spec import Recipe
from mendel.types import Candidate, Digest, InputError, Turn


@dataclass
class Tried:
    """One design of one task.

    place    in the order of trying
    recipe   canonical
    turn     its first turn
    values   of each round, with the number of its pairs; none: it failed
    scores   the mean of each suite and proxy at its first scored round
    """

    place: int
    recipe: Recipe
    key: Digest
    turn: int
    values: list[tuple[float, int]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False
    n_children: int = 0

    @property
    def value(self) -> float:
        """NaN: it failed, or its last round did."""
        if self.failed or not self.values:
            return math.nan
        n_pairs = sum(n for _, n in self.values)
        return sum(value * n for value, n in self.values) / n_pairs


@dataclass
class Memory:
    """Of one task; fed turn by turn, it is a function of the turns alone.

    tried         by key; order: in the order of trying; values: of each, in that order
    levels        of champions on the screen's seeds, by the turn that made them champion
    fingerprints  of all that was built
    by_turn       the design of each turn
    promoted      turns whose design was kept
    """

    tried: dict[Digest, Tried] = field(default_factory=dict)
    order: list[Tried] = field(default_factory=list)
    values: array[float] = field(default_factory=lambda: array("d"))
    levels: dict[int, float] = field(default_factory=dict)
    fingerprints: set[Digest] = field(default_factory=set)
    by_turn: dict[int, Tried] = field(default_factory=dict)
    promoted: list[Turn] = field(default_factory=list)
    champion: int = 0  # its turn; 0: none was seen yet
    first_champion: int = 0

    def learn(self, turn: Turn) -> Tried | None:
        """None where its candidate is no recipe of this version."""
        try:
            name, recipe = spelled(recipe_of(turn.candidate))
        except InputError:
            return None
        tried = self.tried.get(name)
        if tried is None:
            tried = self.tried[name] = Tried(len(self.tried), recipe, name, turn.id)
            self.order.append(tried)
            self.values.append(math.nan)
            for parent in self.parents(turn.candidate):
                parent.n_children += 1
        self.by_turn[turn.id] = tried
        self._note_champion(turn)
        self._note_result(tried, turn)
        self.values[tried.place] = tried.value
        return tried

    def parents(self, candidate: Candidate) -> list[Tried]:
        turns = [int(name) for name in linked(candidate) if name.isdigit()]
        return [self.by_turn[turn] for turn in turns if turn in self.by_turn]

    def _note_champion(self, turn: Turn) -> None:
        self.first_champion = self.first_champion or turn.champion
        self.champion = turn.id if turn.verdict.keep else turn.champion
        if turn.verdict.keep:
            self.promoted.append(turn)

    def _note_result(self, tried: Tried, turn: Turn) -> None:
        result, facts = turn.result, turn.result.facts
        if print_ := facts.get("fingerprint"):
            self.fingerprints.add(str(print_))
        value = self._value(turn)
        tried.failed = result.error is not None or not math.isfinite(value)
        if tried.failed:
            return
        tried.values.append((value, len(result.scores)))
        if not tried.scores:
            tried.scores = means(facts)
            tried.facts = facts

    def _value(self, turn: Turn) -> float:
        mine, its = turn.result.scores, turn.result.baseline
        if turn.result.error is not None or not mine:
            return math.nan
        if not its:
            return _mean(mine)
        if turn.result.facts.get("stage") == "screen":
            self.levels.setdefault(turn.champion, _mean(its))
        return self.level(turn.champion, _mean(its)) + _mean(mine) - _mean(its)

    def level(self, champion: int, otherwise: float) -> float:
        """Of a champion on the screen's seeds; before any screen beside it, of its own turns."""
        if champion in self.levels:
            return self.levels[champion]
        own = self.by_turn.get(champion)
        return otherwise if own is None or math.isnan(own.value) else own.value


def means(facts: Mapping[str, Any]) -> dict[str, float]:
    """Normalised mean score of each suite and proxy."""
    told = {**facts.get("proxies", {}), **facts.get("suites", {})}
    return {name: _mean(scores) for name, scores in told.items() if scores}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

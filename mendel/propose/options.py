"""What could be tried next: operators on parents, each option with its words and its links.

mutate insert ablate simplify   one typed change of a parent
cross                           of two parents
neighbour                       of a parent and a design of the menu
note                            a change that a knowledge note speaks for
insight                         a change that the analyst found to help
widen                           a change of an option: several at once

Options are drafts: they are ranked first, and only the most promising are fitted beneath the caps,
which is what takes the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mendel.propose.changes import KINDS, Draft, crossing
from mendel.propose.changes.change import fitted
from mendel.propose.memory import Tried
from mendel.propose.notes import Note, advice
from mendel.propose.recipes import Problem
from mendel.propose.spaces import Rng
from mendel.propose.spelling import canonical, spelled
from mendel.spec import Recipe
from mendel.types import Digest, InputError

K = TypeVar("K")
V = TypeVar("V")
ARMS = (
    "mutate", "insert", "ablate", "simplify", "cross", "neighbour", "note", "insight", "widen",
)  # fmt: skip
N_KEPT = 512  # broods that are remembered
N_FURTHER = 24  # changes of an option that are looked at
N_NOTES = 2  # that are named


@dataclass(frozen=True)
class Option:
    """A change that could be tried, before it is fitted beneath the caps.

    arm      the operator that made it
    key      of the draft's recipe
    parents  the designs that it changes
    insight  turn of the analyst that found it to help; 0: none did
    menu     name of the last parent, where it is a design of the menu
    before   the option that it is one more change of
    """

    arm: str
    draft: Draft
    key: Digest
    parents: tuple[Tried, ...]
    notes: tuple[Note, ...] = ()
    insight: int = 0
    menu: str = ""
    before: Option | None = None

    @property
    def links(self) -> tuple[str, ...]:
        """Turns, knowledge notes, insights and designs of the menu that it came from."""
        named = [f"note:{note.name}" for note in self.notes]
        named += [f"insight:{self.insight}"] if self.insight else []
        named += [f"menu:{self.menu}"] if self.menu else []
        first = self.before.links if self.before else ()
        turns = (each for parent in self.parents for each in link(parent))
        return tuple(dict.fromkeys((*first, *turns, *named)))

    @property
    def words(self) -> str:
        """What is changed, and why."""
        if self.before:
            return f"{self.before.words} And {_said(self.draft)}"
        told = [f"{_said(self.draft)} From {' and '.join(map(_named, self.parents))}."]
        if self.notes:
            told.append(f"For it speaks: {'; '.join(note.title for note in self.notes)}.")
        if self.insight:
            told.append(f"The analyst found in turn {self.insight} that it helps.")
        return " ".join(told)


@dataclass(frozen=True)
class Effects:
    """What the analyst found to help: (field, value) of the last insight, and its turn."""

    turn: int = 0
    helping: frozenset[tuple[str, str]] = frozenset()

    def speaks_for(self, change: Draft) -> bool:
        if not self.helping:
            return False
        label = change.name.partition("=")[2].split(" ")[0]  # x2 and /2 of numbers
        found = zip(change.about, change.values, strict=True)
        said = ((plain(path), each) for path, value in found for each in (str(value), label))
        return any(one in self.helping for one in said)


@dataclass
class Broods:
    """The options that parents give. What was worked out is kept for a while: it does not depend
    on turns, so runs of the same problem may share it."""

    problem: Problem
    kept: dict[tuple[Digest, ...], list[tuple[Draft, Digest]]] = field(default_factory=dict)
    advised: dict[tuple[Digest, str], list[tuple[Note, ...]]] = field(default_factory=dict)
    drafted: dict[Digest, list[Draft]] = field(default_factory=dict)
    fits: dict[tuple[Digest, Digest], Recipe | None] = field(default_factory=dict)

    def of(self, parent: Tried, effects: Effects) -> Iterator[Option]:
        """One change, once for each operator that speaks for it."""
        brood = self.brood(parent.recipe, parent.key)
        for (draft, name), told in zip(brood, self._advice(parent, brood), strict=True):
            yield Option(draft.verb, draft, name, (parent,))
            if told:
                yield Option("note", draft, name, (parent,), told)
            if effects.speaks_for(draft):
                yield Option("insight", draft, name, (parent,), insight=effects.turn)

    def between(self, parent: Tried, other: Tried, menu: str = "") -> Iterator[Option]:
        """Recombinations; menu: the name of the other one, where it is of the menu."""
        pair = parent.key, other.key
        if pair not in self.kept:
            drafts = crossing.drafts(canonical(parent.recipe), canonical(other.recipe))
            _keep(self.kept, pair, _named_drafts(drafts, pair))
        arm = "neighbour" if menu else "cross"
        for draft, name in self.kept[pair]:
            yield Option(arm, draft, name, (parent, other), menu=menu)

    def further(self, option: Option, rng: Rng) -> Iterator[Option]:
        """One change more; some of them, for such an option is seldom met again."""
        if option.key not in self.drafted:  # while a search is stuck it comes back here
            _keep(self.drafted, option.key, self.drafts(option.draft.recipe))
        drafts = self.drafted[option.key]
        picked = rng.permutation(len(drafts))[:N_FURTHER]
        for draft, name in _named_drafts((drafts[i] for i in picked), (option.key,)):
            yield Option("widen", draft, name, option.parents, before=option)

    def fit(self, draft: Draft, name: Digest, parent: Recipe, of: Digest) -> Recipe | None:
        """Canonical and as wide as fits beneath the caps; None where it does not.

        name of   keys of the draft and of the parent
        """
        at = name, of
        if at not in self.fits:
            found = fitted([draft], self.problem.caps, [parent])
            _keep(self.fits, at, found[0].recipe if found else None, 64 * N_KEPT)
        return self.fits[at]

    def brood(self, recipe: Recipe, name: Digest) -> list[tuple[Draft, Digest]]:
        """Every change of a recipe as it is drafted, with the key of what it leads to."""
        if (name,) not in self.kept:
            _keep(self.kept, (name,), _named_drafts(iter(self.drafts(recipe)), (name,)))
        return self.kept[name,]

    def drafts(self, recipe: Recipe) -> list[Draft]:
        """None of a draft whose fields do not go together."""
        try:
            whole = canonical(recipe)
            return [draft for kind in KINDS for draft in kind.drafts(whole)]
        except InputError:
            return []

    def _advice(
        self, parent: Tried, brood: list[tuple[Draft, Digest]]
    ) -> list[tuple[Note, ...]]:  # fmt: skip
        at = parent.key, str(sorted(parent.scores.items()))
        if at not in self.advised:
            known = self.problem.notes
            told = (advice(draft, parent.scores, known, parent.recipe) for draft, _ in brood)
            _keep(self.advised, at, [tuple(notes[:N_NOTES]) for notes in told])
        return self.advised[at]


def _named_drafts(
    drafts: Iterator[Draft], parents: tuple[Digest, ...]
) -> list[tuple[Draft, Digest]]:
    """Each recipe once and canonical, none of them a parent; those that can be spelled."""
    found: dict[Digest, Draft] = {}
    for draft in drafts:
        try:
            name, one = spelled(draft.recipe)
        except InputError:
            continue  # fields that do not go together
        if name not in found:
            found[name] = replace(draft, recipe=one)
    return [(draft, name) for name, draft in found.items() if name not in parents]


def _keep(kept: dict[K, V], at: K, value: V, most: int = N_KEPT) -> None:
    """The oldest goes where there are too many."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[at] = value


def plain(path: str) -> str:
    """A field as the analyst calls it: mixers.0.erase -> mixers.erase."""
    steps = [step for step in path.split(".") if not step.isdigit()]
    return ".".join(steps).removeprefix("model.")


def link(tried: Tried) -> tuple[str, ...]:
    return (f"turn:{tried.turn}",) if tried.turn else ()


def _said(change: Draft) -> str:
    why = change.why if change.why.endswith((".", "?")) else f"{change.why}."
    return f"{change.name}, {why}"


def _named(tried: Tried) -> str:
    return f"turn {tried.turn}" if tried.turn else "the recipe that the line starts from"

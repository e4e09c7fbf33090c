"""What could be tried next: operators on parents, each option with its words and its links.

mutate insert ablate simplify   one typed change of a parent
cross                           of two parents
neighbour                       of a parent and a design of the menu
note                            a change that a knowledge note speaks for
insight                         a change that the analyst found to help
widen                           a change of an option: several at once
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mendel.propose.changes import Change, changes, crosses
from mendel.propose.memory import Tried
from mendel.propose.notes import Note, advice
from mendel.propose.novelty import key
from mendel.propose.recipes import Problem
from mendel.spec import Recipe
from mendel.types import Digest

ARMS = (
    "mutate", "insert", "ablate", "simplify", "cross", "neighbour", "note", "insight", "widen",
)  # fmt: skip
N_BROODS = 512  # parents whose changes are remembered


@dataclass(frozen=True)
class Option:
    """A recipe that could be tried.

    arm     the operator that made it
    words   what is changed, and why
    links   turns, notes, insights and designs of the menu that it came from
    """

    arm: str
    recipe: Recipe
    key: Digest
    words: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class Effects:
    """What the analyst found to help: (field, value) of the last insight, and its turn."""

    turn: int = 0
    helping: frozenset[tuple[str, str]] = frozenset()

    def speaks_for(self, change: Change) -> bool:
        label = change.name.partition("=")[2].split(" ")[0]  # x2 and /2 of numbers
        found = zip(change.about, change.values, strict=True)
        said = ((plain(path), each) for path, value in found for each in (str(value), label))
        return any(one in self.helping for one in said)


class Broods:
    """The options that parents give; what was worked out once is remembered."""

    def __init__(self, problem: Problem) -> None:
        self.caps, self.notes = problem.caps, problem.notes
        self.changes = lru_cache(N_BROODS)(self._changes)
        self.crosses = lru_cache(N_BROODS)(self._crosses)
        self.recipes: dict[Digest, Recipe] = {}

    def of(self, parent: Tried, effects: Effects) -> Iterator[Option]:
        """One change, once for each operator that speaks for it."""
        for change, name in self._brood(parent.key, parent.recipe):
            option = Option(change.verb, change.recipe, name, _words(change, parent), link(parent))
            yield option
            told = advice(change, parent.scores, self.notes)
            if told:
                yield _advised(option, told)
            if effects.speaks_for(change):
                words = f"{option.words} The analyst found in turn {effects.turn} that it helps."
                links = (*option.links, f"insight:{effects.turn}")
                yield replace(option, arm="insight", words=words, links=links)

    def between(self, parent: Tried, other: Tried, menu: str = "") -> Iterator[Option]:
        """Recombinations; menu: the name of the other one, where it is of the menu."""
        self.recipes |= {parent.key: parent.recipe, other.key: other.recipe}
        links = (*link(parent), *link(other), *([f"menu:{menu}"] if menu else []))
        for change, name in self.crosses(parent.key, other.key):
            words = f"{_words(change, parent)} The other parent is {_named(other)}."
            yield Option("neighbour" if menu else "cross", change.recipe, name, words, links)

    def further(self, option: Option) -> Iterator[Option]:
        """One change more."""
        for change, name in self._brood(option.key, option.recipe):
            words = f"{option.words} And {_said(change)}"
            yield Option("widen", change.recipe, name, words, option.links)

    def _brood(self, name: Digest, recipe: Recipe) -> list[tuple[Change, Digest]]:
        self.recipes[name] = recipe
        return self.changes(name)

    def _changes(self, parent: Digest) -> list[tuple[Change, Digest]]:
        return [(c, key(c.recipe)) for c in changes(self.recipes[parent], self.caps)]

    def _crosses(self, parent: Digest, other: Digest) -> list[tuple[Change, Digest]]:
        found = crosses(self.recipes[parent], self.recipes[other], self.caps)
        return [(c, key(c.recipe)) for c in found]


def plain(path: str) -> str:
    """A field as the analyst calls it: mixers.0.erase -> mixers.erase."""
    steps = [step for step in path.split(".") if not step.isdigit()]
    return ".".join(steps).removeprefix("model.")


def link(tried: Tried) -> tuple[str, ...]:
    return (f"turn:{tried.turn}",) if tried.turn else ()


def _advised(option: Option, told: Sequence[Note]) -> Option:
    titles = "; ".join(note.title for note in told[:2])
    links = tuple(f"note:{note.name}" for note in told[:2])
    words = f"{option.words} For it speaks: {titles}."
    return replace(option, arm="note", words=words, links=(*option.links, *links))


def _words(change: Change, parent: Tried) -> str:
    return f"{_said(change)} From {_named(parent)}."


def _said(change: Change) -> str:
    why = change.why if change.why.endswith((".", "?")) else f"{change.why}."
    return f"{change.name}, {why}"


def _named(tried: Tried) -> str:
    return f"turn {tried.turn}" if tried.turn else "the recipe that the line starts from"

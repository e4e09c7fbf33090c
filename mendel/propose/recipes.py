"""Who proposes recipes: the problem, the protocol, and the proposers by name.

A candidate's links are its operator ("operator:cross"), the turns, notes, insights and designs of
the menu that it came from, and whether the search was stuck; its motivation says so in words. All
lie in the ledger, so a proposer that learns the turns anew is the one that was killed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from mendel.propose.matching import Caps
from mendel.propose.menu import Named
from mendel.propose.notes import Note
from mendel.propose.spaces import Rng
from mendel.spec import Recipe
from mendel.types import Candidate, Digest, InputError, Turn, did_you_mean, digest

Name = Literal["builtin", "random", "evolution", "tpe"]
OPERATOR, STUCK = "operator", "stuck"  # kinds of links
MARGIN = 0.01  # points of the score; a gain that is smaller is none


@dataclass(frozen=True)
class Problem:
    """What is searched.

    start   the champion that the line begins with
    menu    the designs that are tried first
    task    digest of the line's task; turns of other lines are evidence, not trials. None: every
            turn is of this one
    margin  the least gain that counts, in points of the score
    """

    caps: Caps
    start: Recipe
    menu: tuple[Named, ...]
    notes: tuple[Note, ...]
    seed: int
    task: Digest | None = None
    margin: float = MARGIN


class Proposer(Protocol):
    """State is a function of what was learned, of what is pending and of the seed alone."""

    def learn(self, turns: Sequence[Turn]) -> None:
        """TRIAL and INSIGHT turns that it has not seen, oldest first, each once."""
        ...

    def propose(self, pending: Sequence[Candidate]) -> Candidate | None:
        """The next candidate, none of those in flight; None where nothing new is left."""
        ...


def make_proposer(name: Name, problem: Problem) -> Proposer:
    """A proposer by its name; raises InputError for another name, or where its extra is missing."""
    from mendel.propose.baselines import EvolutionOver, RandomOver
    from mendel.propose.builtin import Builtin
    from mendel.propose.parzen import TreeParzenOver

    made: dict[str, type[Builtin | RandomOver | EvolutionOver | TreeParzenOver]] = {
        "builtin": Builtin,
        "random": RandomOver,
        "evolution": EvolutionOver,
        "tpe": TreeParzenOver,
    }
    if name not in made:
        hint = did_you_mean(name, made) or f"There are {', '.join(get_args(Name))}."
        raise InputError(f"no proposer is called {name!r}. {hint}")
    return made[name](problem)


def from_menu(menu: Sequence[Named], known: Collection[Digest]) -> Candidate | None:
    """The first design of the menu that nobody has tried."""
    for design in menu:
        if design.key not in known:
            why = f"menu: {design.name}, a design of the literature that every win must beat."
            return Candidate(design.recipe.to_dict(), why, (made_by("menu"), f"menu:{design.name}"))
    return None


def made_by(operator: str) -> str:
    """The link of a candidate to the operator that made it."""
    return f"{OPERATOR}:{operator}"


def operator(candidate: Candidate) -> str:
    """By its link; of turns from before there was one, the word before the motivation's colon."""
    if (named := next(linked(candidate, OPERATOR), None)) is not None:
        return named
    word, colon, _ = candidate.motivation.partition(":")
    return word if colon else ""


def stuck(candidate: Candidate) -> str:
    """What its proposer says of being stuck; empty where it is not. A link says that it is, words
    alone do in turns from before there were operators' links."""
    if any(linked(candidate, OPERATOR)) and not any(linked(candidate, STUCK)):
        return ""
    _, _, words = candidate.motivation.partition("Stuck: ")
    return words


def linked(candidate: Candidate, kind: str = "turn") -> Iterator[str]:
    """What its links of a kind name."""
    for link in candidate.links:
        found, _, name = link.partition(":")
        if found == kind:
            yield name


def recipe_of(candidate: Candidate) -> Recipe:
    """Raises SpecError where its state is no recipe."""
    return Recipe.parse(dict(candidate.state))


def luck(seed: int, n_learned: int, pending: Sequence[Candidate]) -> Rng:
    """Random numbers that depend on what is known and in flight, not on how often one asked."""
    told = int(digest([candidate.id for candidate in pending])[:12], 16)
    return np.random.default_rng([seed, n_learned, told])

"""A recipe by what a person calls it, and where a turn's recipe came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mendel.clocks.research.run import Run
from mendel.ledger import Ledger
from mendel.presets import PRESETS, discoveries, load_recipe
from mendel.spec import Recipe
from mendel.types import InputError, Kind, LedgerError, Turn, did_you_mean

KINDS = [Kind.START, Kind.TRIAL]
SHORTEST = 6  # digits of a candidate's id


@dataclass(frozen=True)
class Found:
    """A recipe, its name for people, and its turn where it has one."""

    name: str
    recipe: Recipe
    turn: Turn | None = None


def lookup(word: str, ledger: Ledger) -> Found:
    """A turn's number, a candidate's id, a preset, a verified recipe or a TOML file.

    raises   InputError where it is none of them
    """
    if word in PRESETS or word in discoveries() or Path(word).suffix == ".toml":
        model, train = load_recipe(word)
        return Found(Path(word).stem, Recipe(model=model, train=train))
    if word.isdecimal() and (turn := _numbered(word, ledger)) is not None:
        if turn.line.clock != "research" or turn.kind not in KINDS:
            raise InputError(
                f"turn {word} is no recipe: it is a {turn.kind} of {turn.line}. Wanted a trial of "
                "`mendel research`. `mendel research report` lists those."
            )
        return Found(f"turn {word}", Recipe.parse(dict(turn.candidate.state)), turn)
    if len(word) >= SHORTEST:
        for turn in reversed(ledger.turns(clock="research", kinds=KINDS)):
            if turn.candidate.id.startswith(word):
                return Found(f"turn {turn.id}", Recipe.parse(dict(turn.candidate.state)), turn)
    known = [*PRESETS, *discoveries()]
    hint = did_you_mean(word, known) or f"Names are {', '.join(known)}."
    raise InputError(
        f"{word!r} is no turn, no candidate's id (6 digits or more), no TOML file and no name. "
        f"{hint} `mendel research report` lists turns."
    )


def _numbered(word: str, ledger: Ledger) -> Turn | None:
    """None where there is no such turn, and it may be a candidate's id that has digits alone."""
    try:
        return ledger.turn(int(word))
    except (LedgerError, OverflowError):
        if len(word) >= SHORTEST:
            return None
        raise


def run_of(turn: Turn, ledger: Ledger) -> Run:
    """The run whose folder says what a line was asked; raises InputError where it is gone."""
    folder = ledger.folder / "research" / turn.line.run
    if not (folder / "run.json").is_file():
        raise InputError(
            f"the run of turn {turn.id}, {turn.line.run}, is not in {folder.parent}. "
            "Wanted its folder, which says what was asked. Set MENDEL_HOME to where it was begun."
        )
    return Run.load(folder)


def parents(turn: Turn) -> list[int]:
    """The turns that a candidate was made from, as its links say."""
    links = (link.partition(":") for link in turn.candidate.links)
    return [int(name) for kind, _, name in links if kind == "turn" and name.isdigit()]


def before(found: Found, ledger: Ledger) -> Found:
    """What it was made from: its first parent, else the champion that it met.

    raises   InputError where there is neither
    """
    turn = found.turn
    if turn is not None:
        for id in [*parents(turn), *([turn.champion] if turn.champion else [])]:
            return lookup(str(id), ledger)
    raise InputError(f"{found.name} has no parent. Wanted two recipes to compare. Name another.")

"""Where wins came from, counted from the links that their candidates bear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mendel.types import Candidate, Kind, Turn


@dataclass(frozen=True)
class Shares:
    """Wins by what they were built on; the first four add up to n_wins.

    experience    a turn before, or an insight of the analyst
    notes         a knowledge note; the turn that it was applied to does not count besides, for
                  every change is of something
    both          a note and an insight
    neither       a design of the menu, or nothing at all
    recombined    of all, those of two parents: nothing in them is new but the company
    """

    n_wins: int = 0
    experience: int = 0
    notes: int = 0
    both: int = 0
    neither: int = 0
    recombined: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def words(self) -> str:
        if not self.n_wins:
            return "No win."
        parts = [
            f"{self.experience} from experience",
            f"{self.notes} from knowledge notes",
            f"{self.both} from both",
            f"{self.neither} from neither",
        ]
        wins = "1 win" if self.n_wins == 1 else f"{self.n_wins} wins"
        return f"{wins}: {', '.join(parts)}; {self.recombined} recombine two parents."


def shares(turns: Sequence[Turn]) -> Shares:
    """Of the wins among them: trials kept by a confirmation that was given a level.

    A design that is kept by point estimate, as the menu's are, has won nothing.
    """
    wins = [
        turn.candidate
        for turn in turns
        if turn.kind is Kind.TRIAL and turn.verdict.keep and turn.verdict.level is not None
    ]
    kinds = [_kind(candidate) for candidate in wins]
    counts = {kind: kinds.count(kind) for kind in ("experience", "notes", "both", "neither")}
    recombined = sum(len(_linked(candidate, "turn")) > 1 for candidate in wins)
    return Shares(len(wins), recombined=recombined, **counts)


def _kind(candidate: Candidate) -> str:
    insight, note = _linked(candidate, "insight"), _linked(candidate, "note")
    if note:
        return "both" if insight else "notes"
    return "experience" if insight or _linked(candidate, "turn") else "neither"


def _linked(candidate: Candidate, kind: str) -> set[str]:
    """What its links of a kind name, each once."""
    parts = (link.partition(":") for link in candidate.links)
    return {name for found, _, name in parts if found == kind}

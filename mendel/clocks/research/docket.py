"""What the ledger is told of a verification: each opening of sealed proxies, and the claim.

question (candidate, menu, sealed) -> opening turns, once each -> one claim, whose scores are sealed
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from mendel.clocks.research.terms import Terms, terms
from mendel.clocks.research.twins import Condition
from mendel.ledger import Ledger
from mendel.propose.spelling import key
from mendel.spec import Recipe
from mendel.types import (
    Candidate,
    Decision,
    Digest,
    Json,
    Kind,
    Result,
    Turn,
    Verdict,
    digest,
)


@dataclass(frozen=True)
class Docket:
    """One recipe's; the same recipe against another menu is another question.

    turn         the trial that is verified
    first        the condition that it begins with
    everywhere   the whole menu is met at each size: another question
    """

    ledger: Ledger
    turn: Turn
    first: Condition
    everywhere: bool = False

    @property
    def question(self) -> Digest:
        asked = [self.turn.candidate.id, self.first.key]
        return digest([*asked, "everywhere"] if self.everywhere else asked)

    def claimed(self) -> Turn | None:
        """What was found before; a win joined the menu, and would only meet itself."""
        mine = self.turn.candidate.id
        found = self.ledger.turns(self.turn.line, kinds=[Kind.CLAIM])
        wins = [turn for turn in found if turn.candidate.id == mine and turn.verdict.keep]
        return next(iter([*wins, *self._told(Kind.CLAIM)]), None)

    def begin(self) -> Terms:
        """Those of the first beginning: its level is charged once, however often we begin."""
        line = self.turn.line
        with self.ledger.writing(line) as connection:
            for turn in self._told(Kind.OPENING):
                if "terms" in turn.result.facts:
                    return Terms.told(turn.result.facts["terms"])
            trials = self.ledger.turns(line, kinds=[Kind.TRIAL])
            account = self.ledger.account(line, connection)
            found = terms(trials, self.first.twins.open, account)
            self.ledger.append(connection, self._opening(self.first, {"terms": asdict(found)}))
            self.ledger.charge(connection, line, begun=1, kept=0)
        return found

    def favourites(self) -> list[str]:
        """Rivals in the first condition whose designs once led the line."""
        led = self.ledger.turns(self.turn.line, kinds=[Kind.START, Kind.TRIAL], kept=True)
        return self.first.named({key(Recipe.parse(dict(turn.candidate.state))) for turn in led})

    def open(self, condition: Condition) -> None:
        """A turn for each condition, once."""
        known = {turn.result.facts["condition"] for turn in self._told(Kind.OPENING)}
        if condition.name not in known:
            with self.ledger.writing(self.turn.line) as connection:
                self.ledger.append(connection, self._opening(condition, {}))

    def claim(self, verdict: Verdict, facts: Json, scores: Json) -> Turn:
        """The end of it; the scores are for the judge and for people alone."""
        found = Result(facts={"question": self.question, **facts})
        turn = Turn(
            self.turn.line, Kind.CLAIM, self._candidate(), found, verdict, self.turn.id,
            at=time.time(), sealed={"score": scores},
        )  # fmt: skip
        with self.ledger.writing(self.turn.line) as connection:
            if verdict.keep:
                self.ledger.charge(connection, self.turn.line, begun=0, kept=1)
            return self.ledger.append(connection, turn)

    def _opening(self, condition: Condition, more: dict[str, Any]) -> Turn:
        words = f"sealed {' and '.join(condition.twins.names)} opened, {condition.name}"
        facts = {
            "question": self.question,
            "sealed": condition.sealed,
            "condition": condition.name,
            "n": len(condition.twins.whole),
            **more,
        }
        verdict = Verdict(Decision.DISCARD, words)
        return Turn(
            self.turn.line, Kind.OPENING, self._candidate(), Result(facts=facts), verdict,
            self.turn.id, at=time.time(),
        )  # fmt: skip

    def _candidate(self) -> Candidate:
        state = self.turn.candidate.state
        return Candidate(state, f"verify turn {self.turn.id}", (f"turn:{self.turn.id}",))

    def _told(self, kind: Kind) -> list[Turn]:
        found = self.ledger.turns(self.turn.line, kinds=[kind])
        return [turn for turn in found if turn.result.facts.get("question") == self.question]

"""Rows of the ledger's tables to nouns and back, and what a list of turns leads to.

Turn <-> row of turns; Trial -> row of trials; turns --replay--> champions
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any

import sqlalchemy as sa

from mendel.types import (
    TRIAL,
    Candidate,
    Champion,
    Cost,
    Decision,
    Kind,
    Line,
    Result,
    Trial,
    Turn,
    Verdict,
)

POINTERS = (Kind.START, Kind.ROLLBACK)  # turns that move the champion whatever their verdict


def makes_champion(turn: Turn) -> bool:
    """Does this turn move the pointer? The one rule that replay and append share."""
    return turn.kind in POINTERS or (turn.kind is Kind.TRIAL and turn.verdict.keep)


def as_champion(turn: Turn) -> Champion:
    return Champion(turn.candidate, turn.result, turn.id)


def replay(history: Iterable[Turn]) -> dict[Line, Champion]:
    """The champions that the turns alone lead to, whatever the pointers say."""
    return {turn.line: as_champion(turn) for turn in history if makes_champion(turn)}


def candidate_from(data: Mapping[str, Any]) -> Candidate:
    return Candidate(data["state"], data.get("motivation", ""), tuple(data.get("links", ())))


def turn_of(row: sa.Row[Any]) -> Turn:
    return Turn(
        line=Line(row.clock, row.task, row.run),
        kind=Kind(row.kind),
        candidate=candidate_from(row.candidate),
        result=result_from(row.result),
        verdict=Verdict(**{**row.verdict, "decision": Decision(row.decision)}),
        champion=row.champion,
        trial=row.trial,
        round=row.round,
        id=row.id,
        at=row.at,
        sealed=None if os.environ.get(TRIAL) else row.sealed,  # not for those who measure
    )


def row_of_turn(turn: Turn, line_id: int) -> dict[str, Any]:
    return dict(
        line_id=line_id,
        kind=turn.kind,
        trial=turn.trial,
        round=turn.round,
        candidate=_to_json(turn.candidate),
        result=_to_json(turn.result),
        decision=turn.verdict.decision,
        verdict=_to_json(turn.verdict),
        champion=turn.champion,
        sealed=None if turn.sealed is None else _to_json(turn.sealed),
        at=turn.at,
    )


def checked(result: object) -> Result:
    """The result as the ledger can keep it; what is malformed becomes a failed result."""
    try:
        if not isinstance(result, Result):
            raise TypeError(f"a trial gave {type(result).__name__}. Wanted a Result.")
        scores, baseline = (tuple(map(float, s)) for s in (result.scores, result.baseline))
        result = replace(result, scores=scores, baseline=baseline)
        json.dumps(_to_json(result), allow_nan=False)
        return result
    except (TypeError, ValueError) as error:
        return Result(error=f"malformed result: {error}")


def row_of_trial(trial: Trial, line_id: int, at: float) -> dict[str, Any]:
    """One that nobody has told yet, on its first lease."""
    return dict(
        id=trial.id,
        line_id=line_id,
        candidate_id=trial.candidate.id,
        candidate=_to_json(trial.candidate),
        champion=trial.champion.turn,
        round=0,
        attempts=1,
        level=None,
        deadline=trial.deadline,
        open=True,
        at=at,
    )


def result_from(data: Mapping[str, Any]) -> Result:
    found = dict(data)
    for name in ("scores", "baseline"):
        if name in found:  # null was not finite
            found[name] = tuple(math.nan if x is None else float(x) for x in found[name])
    if "cost" in found:
        found["cost"] = Cost(**found["cost"])
    return Result(**found)


def _to_json(value: Any) -> Any:
    """Plain JSON. Fields at their default are left out; what is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if is_dataclass(value):
        told = {field.name: getattr(value, field.name) for field in fields(value)}
        usual = _defaults(value.__class__)
        return {k: _to_json(v) for k, v in told.items() if k not in usual or v != usual[k]}
    return value


@cache
def _defaults(noun: type[Any]) -> Mapping[str, Any]:
    found = {}
    for field in fields(noun):
        if field.default is not MISSING:
            found[field.name] = field.default
        elif field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    return found

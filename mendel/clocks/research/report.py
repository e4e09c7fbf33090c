"""What a research run found, as plain JSON, as lines for a terminal, and as one page.

turns of a line -> trials, lineage, wins, effects, provenance, cost; its null lines -> band of luck
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mendel.clocks.research.lookup import parents
from mendel.clocks.research.rates import Counted, rate, words
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.verdict import believed
from mendel.driver import REPLACED
from mendel.ledger import Ledger
from mendel.propose.analyst import shares
from mendel.propose.changes import difference
from mendel.spec import Recipe
from mendel.types import InputError, Kind, Line, Turn

WATTS = 10.0  # of one busy core with its share of the machine: an estimate, no measurement
N_EFFECTS = 20
N_LINES = 8
N_ASKED = 100  # of a line's newest trials, whether it is a null line


def gathered(ledger: Ledger, named: str | None = None) -> dict[str, Any]:
    """All that a report says; plain JSON. Sealed scores are not in it.

    named    a part of the line's name; None: the newest line that is no null line
    raises   InputError where there is no such line
    """
    line = _line(ledger, named)
    turns = [believed(turn) for turn in ledger.turns(line)]
    trials = _by_trial(turns)
    rows = [_row(rounds) for rounds in trials]
    _add_differences(rows, turns)
    hours = sum(row["s"] for row in rows) / 3600
    wins = [row for row in rows if row["win"]]
    null = _null(ledger)
    verified = [_claim(turn) for turn in turns if turn.kind is Kind.CLAIM]
    insights = [turn for turn in turns if turn.kind is Kind.INSIGHT]
    effects = insights[-1].result.facts.get("effects", []) if insights else []
    sealed = [turn for turn in turns if turn.kind is Kind.OPENING]
    account = ledger.account(line)
    told: dict[str, Any] = rounded(
        {
            "line": str(line),
            "is_null": any(row["null"] for row in rows),
            "began": turns[0].at if turns else 0.0,
            "ended": turns[-1].at if turns else 0.0,
            "trials": rows,
            "counts": _counts(rows),
            "hours": hours,
            "flops": sum(turn.result.cost.flops for turn in turns if turn.kind is Kind.TRIAL),
            "joules": 3600 * hours * WATTS,
            "wins": asdict(rate([row["h"] for row in wins], hours)),
            "null": None if null is None else asdict(null),
            "verified": verified,
            "effects": [each for each in effects if each["value"] is not None][:N_EFFECTS],
            "insights": list(insights[-1].result.facts.get("words", [])) if insights else [],
            "shares": shares(turns).to_dict(),
            "shares_words": shares(turns).words,
            "openings": len(sealed),
            "account": asdict(account),
        }
    )
    return told


def lines(found: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    counts, hours = found["counts"], found["hours"]
    reached = ", ".join(f"{n} {what}" for what, n in counts.items() if what != "trials")
    kilojoules = found["joules"] / 1000
    null = " (null: every candidate was trained as its start)" if found["is_null"] else ""
    told = [
        f"line {found['line']}{null}",
        f"{counts['trials']} trials: {reached}",
        f"{hours:.3g} core hours, {found['flops']:.3g} FLOPs, about {kilojoules:.0f} kJ",
    ]
    wins = [row for row in found["trials"] if row["win"]]
    told += [f"  turn {row['k']}: {row['m']} | {row['r']}" for row in wins[-N_LINES:]]
    told += words(found["wins"], found["null"])
    told += [f"verified: turn {each['of']}: {each['reason']}" for each in found["verified"]]
    n_won = sum(each["win"] for each in found["verified"])
    if n_won:
        checked = sum(c["seconds"] for v in found["verified"] for c in v["conditions"].values())
        each = (hours + checked / 3600) / n_won
        told.append(f"{each:.2f} core hours a verified win, verification included")
    else:
        told.append("no verified win. `mendel research verify TURN` checks what was kept.")
    told += [f"sealed data was opened {found['openings']} times", found["shares_words"]]
    return [*told, *found["insights"][:N_LINES]]


def page(found: Mapping[str, Any]) -> str:
    """The same as one HTML page that loads nothing; what is drawn is drawn when it is seen."""
    folders = [Path(__file__).parent / "templates", Path(__file__).parents[2] / "emit/templates"]
    env = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    curves = {row["k"]: row["curves"] for row in found["trials"] if row["curves"]}
    bare = [{k: v for k, v in row.items() if k != "curves"} for row in found["trials"]]
    return env.get_template("report.html.j2").render(
        found=found,
        data={**found, "trials": bare},
        curves=curves,
        told=lines(found)[1:3],
        wins_words=words(found["wins"], found["null"]),
    )


def _line(ledger: Ledger, named: str | None) -> Line:
    """The newest by its last turn."""
    if named is not None:
        found = ledger.turns(clock="research", named=named, limit=1)
    else:
        newest = {turn.line: turn for turn in ledger.turns(clock="research", kinds=[Kind.START])}
        turns = [turn for line, turn in newest.items() if not _is_null(ledger, line)]
        found = turns[-1:] or list(newest.values())[-1:]
    if not found:
        raise InputError(
            f"no research line{'' if named is None else f' is called {named!r}'} in this ledger. "
            "Wanted one that `mendel research` began. `mendel log` shows lines."
        )
    return found[-1].line


def _is_null(ledger: Ledger, line: Line) -> bool:
    told = ledger.turns(line, kinds=[Kind.TRIAL], limit=N_ASKED)
    return any(turn.result.facts.get("null") for turn in told)  # one that failed does not say


def _null(ledger: Ledger) -> Counted | None:
    """Keeps of all null lines together: what luck alone gives."""
    at, hours = [], 0.0
    for line in ledger.lines():
        if line.clock != "research" or not _is_null(ledger, line):
            continue
        turns = ledger.turns(line, kinds=[Kind.TRIAL])
        for rounds in _by_trial([believed(turn) for turn in turns]):
            row = _row(rounds)
            hours += row["s"] / 3600
            at += [hours] if row["win"] else []
    return rate(at, hours) if hours else None


def _by_trial(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The rounds of each trial, in the order of the first."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        if turn.kind is Kind.TRIAL:
            found.setdefault(turn.trial, []).append(turn)
    return list(found.values())


def _row(rounds: Sequence[Turn]) -> dict[str, Any]:
    """A trial; keys are short, for there may be thousands."""
    last = rounds[-1]
    facts, ok = last.result.facts, last.result.error is None and bool(last.result.scores)
    links = [link.partition(":")[::2] for link in last.candidate.links]
    return {
        "k": last.id,  # the turn that people ask for
        "ids": [turn.id for turn in rounds],
        "m": last.candidate.motivation,
        "p": parents(last),
        "n": [name for kind, name in links if kind in ("note", "insight", "menu")],
        "stage": "failed" if last.result.error else facts.get("stage", ""),
        "score": fmean(last.result.scores) if ok else None,
        "base": fmean(last.result.baseline) if ok and last.result.baseline else None,
        "suites": {s: fmean(v) for s, v in facts.get("suites", {}).items()} if ok else {},
        "worse": _regressions(facts) if ok else {},
        "d": str(last.verdict.decision),
        "win": last.verdict.keep and last.verdict.level is not None,
        "r": last.verdict.reason,
        "rounds": [turn.verdict.reason for turn in rounds[:-1]],
        "c": [facts.get("n_params"), facts.get("flops"), facts.get("state_bytes")],
        "s": sum(turn.result.cost.seconds for turn in rounds),
        "h": 0.0,  # core hours of the line up to here
        "again": any(turn.verdict.reason == REPLACED for turn in rounds),  # so it counts there
        "audit": facts.get("audit", {}).get("verdict", ""),
        "repairs": facts.get("repairs", []),
        "null": bool(facts.get("null")),
        "champion": last.champion,
        "curves": facts.get("curves", {}) if facts.get("stage") != "race" else {},
    }


def _regressions(facts: Mapping[str, Any]) -> dict[str, float]:
    """Of each proxy, candidate minus champion."""
    mine, its = facts.get("proxies", {}), facts.get("champion", {})
    return {name: fmean(mine[name]) - fmean(its[name]) for name in mine if its.get(name)}


def _add_differences(rows: list[dict[str, Any]], turns: Sequence[Turn]) -> None:
    """In words, from the first parent, else from the champion; and hours so far."""
    states = {turn.id: turn.candidate.state for turn in turns}
    hours = 0.0
    for row in rows:
        hours += row["s"] / 3600
        row["h"] = hours
        came = next((id for id in (*row["p"], row["champion"]) if id in states), None)
        row["from"] = came
        row["diff"] = [] if came is None else _words(states[came], states[row["k"]])


def _words(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    try:
        return difference(Recipe.parse(dict(before)), Recipe.parse(dict(after)))
    except InputError as error:  # of another version, or with a plug-in's part
        return [f"cannot be compared: {error}"]


def _claim(turn: Turn) -> dict[str, Any]:
    facts = turn.result.facts
    return {
        "id": turn.id,
        "of": facts.get("verified"),
        "outcome": facts.get("outcome", ""),
        "win": turn.verdict.keep,
        "reason": turn.verdict.reason,
        "conditions": facts.get("conditions", {}),
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Of trials as `trials_of` has them; their hours are all that was spent."""
    stages = [row["stage"] for row in rows if not row["again"]]
    return {
        "trials": len(stages),
        "cut by the race": stages.count("race"),
        "screened": stages.count("screen"),
        "confirmed on fresh seeds": stages.count("confirm"),
        "failed": stages.count("failed"),
        "kept by the judge": sum(row["win"] for row in rows),
    }

"""mendel log, why, champions, gc: what the ledger knows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mendel.cli import amounts

if TYPE_CHECKING:
    from mendel.ledger import Ledger
    from mendel.types import Champion, Line, Turn

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
age = amounts.parser(amounts.SECONDS, "30d")


def add_to(app: typer.Typer) -> None:
    for command in (log, why, champions, gc):
        app.command()(command)


def log(
    line: Annotated[str | None, typer.Option(help="Only lines whose name contains this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many turns.")] = 30,
    as_json: Json = False,
) -> None:
    """List turns, oldest first."""
    with _open() as ledger:
        turns = ledger.turns(named=line, limit=limit)
    _show(turns, as_json)


def why(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TURN | PLAN",
            help="A turn's number, as `mendel log` shows it; or a server's plan, such as lookup-4.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """The chain of verdicts that led to a turn; of a research turn also where it came from."""
    told: list[str] = []
    with _open() as ledger:
        id = _turn(what, ledger)
        chain = ledger.why(id)
        own = next(turn for turn in chain if turn.id == id)
        if own.line.clock == "research" and not as_json:
            from mendel.clocks.research.story import story

            told = story(own, ledger)
    _show(chain, as_json)
    for line in told:
        print(line)


def _turn(what: str, ledger: Ledger) -> int:
    """A number, or the newest turn that gave queries this plan."""
    if what.isdecimal():
        return int(what)
    from mendel.clocks.tune.clock import promoted
    from mendel.types import InputError

    turn = promoted(ledger, what)
    if turn is None:
        raise InputError(
            f"{what!r} is no turn, and no plan that a server of this ledger ever chose. Wanted a "
            "number as `mendel log` shows it, or a plan as `mendel log --line tune` does."
        )
    return turn.id


def champions(as_json: Json = False) -> None:
    """What is live on each line."""
    with _open() as ledger:
        found = ledger.champions()
        accounts = {line: ledger.account(line) for line, _ in found}
    if as_json:
        for line, champion in found:
            row = {"line": asdict(line), **asdict(champion), "account": asdict(accounts[line])}
            print(json.dumps(row, ensure_ascii=False))
        return
    table = Table("line", "turn", "champion", "confirmations begun / kept")
    for line, champion in found:
        account = accounts[line]
        spent = f"{account.n_begun} / {account.n_kept}"
        table.add_row(str(line), str(champion.turn), _state(champion), spent)
    Console().print(table)
    tasks = {(line.clock, line.task): account for line, account in accounts.items()}
    n_begun, n_kept = (sum(getattr(a, n) for a in tasks.values()) for n in ("n_begun", "n_kept"))
    expected = sum(account.alpha for account in tasks.values())
    print(
        f"{len(tasks)} tasks: {n_begun} confirmations begun, {n_kept} kept. Were nothing truly "
        f"better, at most {expected:.2g} of the tasks would be expected to have kept anything."
    )


def gc(
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=age, metavar="TIME", help="Also what a replay can rebuild, if this old: 30d."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete blobs that no turn points to; champions' are always kept."""
    with _open() as ledger:
        n, freed = ledger.gc(older_than_s=older_than, working=_open_runs(ledger))
    if as_json:
        print(json.dumps({"n_blobs": n, "n_bytes": freed}))
    else:
        print(f"{n} blobs deleted, {freed / 1e6:.1f} MB freed")


def _open_runs(ledger: Ledger) -> list[Line]:
    """Lines of design runs that --resume could go on with."""
    from mendel.clocks.design.run import has_ended

    found: list[Line] = []
    for file in (ledger.folder / "runs").glob("*/run.json"):
        if not has_ended(file.parent):
            told = json.loads(file.read_text(encoding="utf-8"))
            found += [line for line in ledger.lines() if line.run == told["id"]]
    return found


@contextmanager
def _open() -> Iterator[Ledger]:
    from mendel.ledger import Ledger

    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()


def _show(turns: list[Turn], as_json: bool) -> None:
    if as_json:
        for turn in turns:
            print(json.dumps(asdict(turn), ensure_ascii=False))
        return
    table = Table("turn", "when", "line", "kind", "decision", "reason", "motivation")
    for turn in turns:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(turn.at))
        # an insight decides nothing
        decision = "" if turn.kind == "insight" else turn.verdict.decision
        cells = (str(turn.line), turn.kind, decision, turn.verdict.reason)
        plain = [_plain(cell) for cell in (*cells, turn.candidate.motivation)]
        table.add_row(str(turn.id), when, *plain)
    Console().print(table)


def _plain(text: str) -> str:
    return escape(str(text))


def _state(champion: Champion) -> str:
    state: Any = champion.candidate.state
    return _plain(json.dumps(state, ensure_ascii=False)[:80])

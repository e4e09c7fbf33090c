"""mendel research verify, publish: the long check of what was kept, and its place on the menu."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mendel.cli import amounts

hours = amounts.parser(amounts.SECONDS, "2h")


def add_to(group: typer.Typer) -> None:
    for command in (verify, publish):
        group.command()(command)


def verify(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Turns that were kept.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, one thread each. [one a core]")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(parser=hours, metavar="TIME", help="Stop after it; the same command goes on."),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="All of the menu at twice the size too.")
    ] = False,
) -> None:
    """Compare recipes with every design of the menu on sealed tasks: hours, if need be.

    As found, then with who came nearest and the best of each kind at 2x width and 2x tokens.
    Ctrl-C stops; the same command goes on.
    Exit 0: verified wins, 1: at least one is none, 130: stopped.
    """
    from mendel.clocks.research.verify import verify as check
    from mendel.ledger import Ledger

    until = None if budget is None else time.time() + budget
    ledger = Ledger()
    try:
        with _Screen(Console(stderr=True)) as screen:
            found = []
            for id in ids:
                one = check(
                    id, ledger, screen, workers=workers or 0, until=until, everywhere=everywhere
                )
                if one is None:
                    raise KeyboardInterrupt
                found.append(one)
                print(f"turn {id}: {one.turn.verdict.reason}")
    finally:
        ledger.close()
    if any(one.outcome != "verified win" for one in found):
        raise typer.Exit(1)


def publish(
    id: Annotated[int, typer.Argument(help="The turn of a verified win, as `verify` tells it.")],
    to: Annotated[Path, typer.Option(help="Folder of discoveries.")] = Path("discoveries"),
) -> None:
    """Write the recipe, its evidence and its commands into a folder, to be shared."""
    from mendel.clocks.research.discovery import publish as write
    from mendel.ledger import Ledger

    ledger = Ledger()
    try:
        print(write(ledger.turn(id), ledger, to))
    finally:
        ledger.close()


class _Screen:
    """A bar on a terminal, one line a change elsewhere; no score is shown before the end."""

    def __init__(self, console: Console) -> None:
        self._console, self._said = console, ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("", visible=False)

    def __enter__(self) -> _Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def progress(self, what: str, n_done: int, n: int) -> None:
        self._bar.update(self._task, description=what, completed=n_done, total=n, visible=True)
        said = f"{what}: {n} to measure"
        if not self._console.is_terminal and said != self._said:
            self._said = said
            self.note(said)

"""mendel research report, diff, export, replay: what was found, and the proof of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mendel.ledger import Ledger

Which = Annotated[
    str, typer.Argument(help="A turn, a candidate's id, a preset, a discovery, a TOML file.")
]


def add_to(group: typer.Typer) -> None:
    for command in (report, diff, export, replay):
        group.command()(command)


def report(
    line: Annotated[
        str | None, typer.Option(help="A part of the line's name. Default: the newest run.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one page that needs nothing else.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Its numbers, for machines.")] = False,
) -> None:
    """Say what a run found: wins, how they came about, what matters, what it cost."""
    from mendel.clocks.research.report import gathered, lines, page

    with _ledger() as ledger:
        found = gathered(ledger, line)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_bytes(page(found).encode("utf-8", "backslashreplace"))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for each in lines(found):
            print(each)


def diff(
    id: Which, id2: Annotated[str | None, typer.Argument(help="Default: its parent.")] = None
) -> None:
    """Say in words, field by field, what differs between two recipes."""
    from mendel.clocks.research.lookup import before, lookup
    from mendel.propose.changes import difference

    with _ledger() as ledger:
        first = lookup(id, ledger)
        second = before(first, ledger) if id2 is None else lookup(id2, ledger)
    old, new = (second, first) if id2 is None else (first, second)
    print(f"{old.name} -> {new.name}")
    for words in difference(old.recipe, new.recipe) or ["nothing differs"]:
        print(f"  {words}")


def export(id: Which, out: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Write the model as one torch file that needs no mendel, with its test."""
    from mendel.clocks.research.export import export as write
    from mendel.clocks.research.lookup import lookup

    with _ledger() as ledger:
        found = lookup(id, ledger)
    about: list[str] = []
    if found.turn is not None:
        about = [f"{found.turn.candidate.motivation}. {found.turn.verdict.reason}."]
    for file in write(found.recipe, out, title=f"The model of {found.name}.", about=about):
        print(file)
    Console(stderr=True).print(f"Try: cd {out} && python -m pytest", markup=False)


def replay(id: Annotated[int, typer.Argument(help="A round of a trial.")]) -> None:
    """Measure a turn's round again. Exit 0: the same scores, 1: others."""
    from mendel.clocks.research.replay import replay as again

    console = Console(stderr=True)
    with _ledger() as ledger, console.status("measuring again"):
        found = again(id, ledger)
    told = found.turn.result
    for name, then, now in (
        ("candidate", told.scores, found.again.scores),
        ("champion", told.baseline, found.again.baseline),
    ):
        print(f"{name:<10} then {_scores(then)}\n{'':<10} now  {_scores(now)}")
    if found.same:
        print("the same scores")
        return
    by = "" if found.furthest is None else f", by {found.furthest:.2g} at most"
    print(f"they differ{by}. Another machine, or other versions, may be why.")
    if found.again.error:
        print(found.again.error)
    raise typer.Exit(1)


def _scores(scores: tuple[float, ...]) -> str:
    return " ".join(f"{score:.6f}" for score in scores) or "none"


@contextmanager
def _ledger() -> Iterator[Ledger]:
    from mendel.ledger import Ledger

    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()

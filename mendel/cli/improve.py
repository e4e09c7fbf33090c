"""mendel improve: mend the errors of a shipped model, if nothing else is lost."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mendel.cli.design import seconds
from mendel.cli.options import Next, Project, Resume, UsualColumn, UsualSecond
from mendel.cli.screen import Screen, print_outcome


def add_to(app: typer.Typer) -> None:
    app.command()(improve)


def improve(
    folder: Project,
    errors: Annotated[Path, typer.Option(help="Texts that it got wrong, with the right labels.")],
    out: Next = None,
    margin: Annotated[
        float, typer.Option(help="Share of its score that it may lose on old rows.")
    ] = 0.01,
    budget: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Default: what it will probably take."),
    ] = None,
    text_column: UsualColumn = None,
    second_column: UsualSecond = None,
    label_column: UsualColumn = None,
    resume: Resume = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; ship even what the gate refuses.")
    ] = False,
) -> None:
    """Train DIR's recipe on its rows and the errors, and ship it if errors are fixed at no cost.

    An error is fixed where the model that answers it was not trained on it. DIR is not touched.
    """
    from mendel.clocks.design.again import before, next_to, request_of
    from mendel.clocks.design.improve import improve, time_needed
    from mendel.ledger import Ledger

    console, ledger = Console(stderr=True), Ledger()
    try:
        was = before(folder, ledger)
        request = request_of(
            was,
            data=errors,
            out=out or next_to(folder),
            budget_s=budget or max(time_needed(was, ledger), 60.0),
            text_column=text_column,
            second_column=second_column,
            label_column=label_column,
            resume=resume,
            yes=yes,
            command=shlex.join(["mendel", *sys.argv[1:]]),
        )
        with Screen(console, asks=sys.stdin.isatty() and not yes) as screen:
            shipped = improve(was, request, ledger, screen, margin=margin)
    except KeyboardInterrupt:
        console.print("given up: nothing was shipped. The same command with --resume goes on.")
        raise
    finally:
        ledger.close()
    if shipped is None:
        return
    _tell(shipped.report["repair"])
    if not shipped.report["repair"]["chosen"] and not shipped.model:
        print(
            f"nothing was shipped, {folder} stays as it is; --resume --yes ships what was refused"
        )
    if shipped.model or "sealed" in shipped.report:
        print_outcome(shipped.report, shipped.folder, shipped.model)


def _tell(repair: dict[str, Any]) -> None:
    """Improved or not, in one line, and what was looked at."""
    print(f"{'mended' if repair['chosen'] else 'not improved'}: {repair['reason']}")
    for row in repair["looked"]:
        print(
            f"  {row['name']}: {row['n_fixed']} of {repair['n_errors']} errors fixed, old rows "
            f"{100 * row['change']:+.2f} points, at least {100 * row['low']:+.2f}"
        )

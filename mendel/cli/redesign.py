"""mendel redesign: a new design from a shipped project and more rows."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mendel.cli.design import Prefer, count, milliseconds, n_bytes, seconds
from mendel.cli.options import Next, Project, Resume, UsualColumn, UsualSecond, Yes
from mendel.cli.screen import Screen, print_outcome

AS_BEFORE = "Default: as before."


def add_to(app: typer.Typer) -> None:
    app.command()(redesign)


def redesign(
    folder: Project,
    data: Annotated[Path, typer.Option(help="New rows; they win where a text had another label.")],
    out: Next = None,
    budget: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help=AS_BEFORE)
    ] = None,
    max_size: Annotated[
        float | None, typer.Option(parser=n_bytes, metavar="BYTES", help=AS_BEFORE)
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(parser=milliseconds, metavar="TIME", help=AS_BEFORE)
    ] = None,
    max_params: Annotated[
        float | None, typer.Option(parser=count, metavar="COUNT", help=AS_BEFORE)
    ] = None,
    prefer: Annotated[Prefer | None, typer.Option(help=AS_BEFORE)] = None,
    seed: Annotated[int | None, typer.Option(help=AS_BEFORE)] = None,
    outside: Annotated[
        Path | None, typer.Option(help="More texts that have none of the labels.")
    ] = None,
    outside_label: Annotated[
        str | None, typer.Option(help="New rows with this label are such texts.")
    ] = None,
    unlabeled: Annotated[Path | None, typer.Option(help="More texts without labels.")] = None,
    text_column: UsualColumn = None,
    second_column: UsualSecond = None,
    label_column: UsualColumn = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Design again from DIR's rows and new ones, with the sealed rows and limits of before.

    DIR is not touched. The report says which answers change.
    """
    from mendel.clocks.design.again import before, limits_of, next_to, redesign, request_of
    from mendel.ledger import Ledger

    console, ledger = Console(stderr=True), Ledger()
    try:
        was = before(folder, ledger)
        request = request_of(
            was,
            data=data,
            out=out or next_to(folder),
            budget_s=budget,
            limits=limits_of(was, max_size, max_latency, max_params),
            prefer=prefer.value if prefer else None,
            seed=seed,
            outside=outside,
            outside_label=outside_label,
            unlabeled=unlabeled,
            text_column=text_column,
            second_column=second_column,
            label_column=label_column,
            resume=resume,
            yes=yes,
            command=shlex.join(["mendel", *sys.argv[1:]]),
        )
        with Screen(console, asks=sys.stdin.isatty() and not yes) as screen:
            shipped = redesign(was, request, ledger, screen)
    except KeyboardInterrupt:
        console.print("given up: nothing was shipped. The same command with --resume goes on.")
        raise
    finally:
        ledger.close()
    if shipped is not None:
        print_outcome(shipped.report, shipped.folder, shipped.model)

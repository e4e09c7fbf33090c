"""mendel report: what is known of a designed model, for readers of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mendel.cli.options import Project
from mendel.types import InputError


def add_to(app: typer.Typer) -> None:
    app.command()(report)


def report(
    folder: Project,
    plain: Annotated[
        bool, typer.Option("--plain", help="For readers who are not engineers: report.plain.md.")
    ] = False,
    technical: Annotated[
        bool, typer.Option("--technical", help="As a regulator would ask for: TECHNICAL.md.")
    ] = False,
) -> None:
    """Print a report of a project; --plain and --technical are also written into its folder."""
    from mendel.emit.report import (
        PLAIN,
        TECHNICAL,
        markdown,
        plain_markdown,
        technical_markdown,
        write_text,
    )

    told = _read(folder)
    if plain:
        write_text(plain_markdown(told), folder / PLAIN)
        typer.echo(plain_markdown(told), nl=False)
    if technical:
        write_text(technical_markdown(told), folder / TECHNICAL)
        typer.echo(technical_markdown(told), nl=False)
    if not (plain or technical):
        typer.echo(markdown(told), nl=False)


def _read(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{folder} has no report that can be read: {why}. Wanted a folder that "
            "`mendel design` wrote. Look for the one with report.json in it."
        ) from None
    if not isinstance(told, dict):
        raise InputError(f"{folder / 'report.json'} is no report. Wanted one of `mendel design`.")
    return told

"""mendel diff: which answers change between two projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mendel.cli.check import progress_bar
from mendel.cli.options import Column, Project


def add_to(app: typer.Typer) -> None:
    app.command()(diff)


def diff(
    old: Project,
    new: Annotated[Path, typer.Argument(help="Another one, of the same kind.")],
    texts: Annotated[
        Path | None, typer.Option(help="Texts, one a line or a table; labels are not looked at.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Texts with labels: what became right, what wrong.")
    ] = None,
    text_column: Column = None,
    label_column: Column = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Compare what two projects answer to the same texts: give --texts or --data."""
    from mendel.clocks.design.changes import between

    with progress_bar() as told:
        found = between(
            old, new, texts=texts, data=data, text_column=text_column, label_column=label_column,
            progress=lambda share: told("asking both", share),
        )  # fmt: skip
    print(json.dumps(found, indent=2, ensure_ascii=False)) if as_json else tell(found)


def tell(found: dict[str, Any]) -> None:
    """The shares, then from what to what, then examples."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{found['n_changed']:,} of {found['n']:,} answers change ({found['share']:.1%})")
    if known := found.get("labelled"):
        console.print(
            f"wrong -> right {known['fixed']:,}, right -> wrong {known['broken']:,}; score "
            f"{known['score_before']:.1%} -> {known['score_after']:.1%}"
        )
    if shift := found["shift"]:
        told = ", ".join(f"{name} {value:.3g}" for name, value in shift.items())
        console.print(f"the number beside an answer moves by: {told}")
    for flow in found["flows"][:15]:
        console.print(f"{flow['count']:>6,}  {flow['from']} -> {flow['to']}")
    for row in found["examples"][:5]:
        console.print(f"        {row['text']!r}: {row['before']} -> {row['after']}", style="dim")

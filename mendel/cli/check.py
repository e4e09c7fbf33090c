"""mendel check: what is wrong with a file of texts, on one screen or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mendel.cli.options import Column

if TYPE_CHECKING:
    from mendel.data.check import Report
    from mendel.data.check.examine import Progress as Told


def add_to(app: typer.Typer) -> None:
    app.command()(check)


def check(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or JSON lines with texts and labels.")],
    test: Annotated[
        Path | None, typer.Option(help="The test file: is it apart from DATA? Default: a column "
                                       "named split or fold.")
    ] = None,
    text_column: Column = None,
    label_column: Column = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a file that must be mended to be read.")
    ] = False,
) -> None:  # fmt: skip
    """Check data before training: labels, split, languages, personal data and secrets.

    Exit 0: clean, 1: findings, 2: it cannot be read. Secrets are masked wherever they are shown.
    """
    from mendel.data.check import check_data
    from mendel.data.check.personal import mask
    from mendel.types import InputError

    try:
        with progress_bar() as told:
            report = check_data(
                data, test=test, text_column=text_column, label_column=label_column,
                strict=strict, progress=told,
            )  # fmt: skip
    except InputError as error:
        raise InputError(mask(str(error))) from None  # it may name columns or labels
    print(json.dumps(report.to_dict(), indent=2)) if as_json else _tell(report)
    if report.findings:
        raise typer.Exit(1)


@contextmanager
def progress_bar() -> Iterator[Told]:
    """A bar on a terminal, gone at the end; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


def _tell(report: Report) -> None:
    """The file in a few lines, then each finding with what to do, then what was not looked at."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(report.file)}[/bold]  {escape(_about(report.facts))}")
    for found in report.findings:
        where = f"  rows {', '.join(map(str, found.rows[:5]))}" if found.rows else ""
        console.print(
            f"\n[bold]{found.count:>6,}  {found.kind}[/bold]: {escape(found.what)}{where}"
        )
        for example in found.examples:
            more = ", ".join(
                f"{key.replace('_', ' ')} {value}" for key, value in example.more.items()
            )
            line = f"row {example.row}: {example.text}" + f"  ({more})" * bool(more)
            console.print(f"        {line}", style="dim", markup=False)
        console.print(f"        {found.why} {found.do}", markup=False)
    console.print()
    for kind, why in report.skipped.items():
        console.print(f"not looked at: {kind}, {why}", markup=False)
    n = len(report.findings)
    console.print(f"{n} finding(s)" if n else "nothing was found")


def _about(facts: Mapping[str, Any]) -> str:
    words, characters = facts["words"], facts["characters"]
    told = [f"{facts['rows']:,} rows"]
    if "classes" in facts:
        ends = (facts[end] for end in ("smallest", "largest"))
        sizes = " to ".join(f"{end['rows']:,} ({end['label']})" for end in ends)
        told.append(f"{facts['classes']} classes of {sizes} rows")
    told.append(f"words {words['median']} / {words['p95']} / {words['max']}")
    told.append(f"characters {characters['median']} / {characters['p95']} / {characters['max']}")
    if facts["languages"]:
        most = list(facts["languages"].items())[:3]
        told.append("languages " + ", ".join(f"{name} {share:.1%}" for name, share in most))
    told += [f"{name} {n:,} rows" for name, n in facts.get("parts", {}).items()]
    return "; ".join(told) + " (lengths: median / 95 % / longest)"

"""mendel research: a live table, and what it came to."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from mendel.cli import amounts

if TYPE_CHECKING:
    from mendel.clocks.research.run import Run
    from mendel.types import Turn

seconds = amounts.parser(amounts.SECONDS, "1h")
N_ROWS = 14


class Proposer(StrEnum):
    builtin = "builtin"
    random = "random"
    evolution = "evolution"
    tpe = "tpe"


class Preset(StrEnum):
    seconds = "seconds"
    minutes = "minutes"
    published = "published"


group = typer.Typer(
    help="Breed sequence models on suites of small tasks; keep what is shown to be better.",
    invoke_without_command=True,
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="research")


@group.callback()
def research(
    context: typer.Context,
    suite: Annotated[
        str | None,
        typer.Option(
            help="recall, states, text, several with commas, or all. Default: states,recall."
        ),
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="How long a seed of a task takes. Default: seconds.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="File or folder whose characters are learned.")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Of each task's steps; below 1 only to try things out. [1]"),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Wall-clock time in all. [1h]"),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Stop after so many.")] = None,
    proposer: Annotated[
        Proposer | None, typer.Option(help="Who proposes. Default: builtin.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SPEC",
            help="A preset, a TOML file, a turn or a candidate's id. Default: the menu's best.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of this machine, one thread each. [2]")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A Ray cluster that this machine is part of: HOST:PORT, auto."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run.")] = False,
    null: Annotated[
        bool, typer.Option("--null", help="Train the start for every candidate: the band of luck.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of the proposals. [0]")] = None,
) -> None:
    """Breed recipes; Ctrl-C stops, --resume goes on."""
    if context.invoked_subcommand is not None:
        return
    from mendel.clocks.research.request import Request
    from mendel.clocks.research.session import research as run_research
    from mendel.ledger import Ledger

    request = Request(
        suite=suite,
        preset=None if preset is None else preset.value,
        text=text,
        share=share,
        budget_s=budget,
        trials=trials,
        proposer=None if proposer is None else proposer.value,
        start=start,
        n_workers=workers,
        ray=ray,
        resume=resume,
        null=null,
        seed=seed,
        command=shlex.join(["mendel", *sys.argv[1:]]),
    )
    ledger = Ledger()
    try:
        with Screen(Console(stderr=True)) as screen:
            found = run_research(request, ledger, screen)
    finally:
        ledger.close()
    for line in found.lines():
        print(line)


class Screen:
    """Live progress on a terminal; one line a turn elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._run: Run | None = None
        self._n_told = 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def begins(self, run: Run) -> None:
        self._run, caps = run, run.spec.caps
        names = ", ".join(leg.name for leg in run.spec.suites.confirm)
        self.note(f"run {run.spec.id}: {' and '.join(run.spec.suites.names)} ({names})")
        self.note(
            f"at most {caps.n_params:,} parameters, {caps.flops:,.0f} FLOPs a token and "
            f"{caps.state_bytes:,} bytes of state after {caps.n_tokens} tokens"
        )

    def note(self, text: str) -> None:
        self._stop()
        self._console.print(text, markup=False, soft_wrap=True)

    def turns(self, told: list[Turn], spent_s: float) -> None:
        if not self._console.is_terminal:
            for turn in told[self._n_told :]:
                self._console.print(_line(turn, spent_s), markup=False, soft_wrap=True)
            self._n_told = len(told)
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        self._live.update(Group(self._head(told, spent_s), table(told)))

    def _head(self, told: list[Turn], spent_s: float) -> Table:
        from mendel.clocks.research.clock import trials_of

        assert self._run is not None
        spec, n = self._run.spec, len(trials_of(told))
        done, whole = (spent_s, spec.budget_s) if spec.budget_s else (n, spec.trials or 1)
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=whole, completed=min(done, whole), width=40)
        head.add_row(bar, f"{spent_s:.0f} s, {n} trials", "Ctrl-C stops, --resume goes on")
        return head

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def table(told: list[Turn]) -> Table:
    """The champion, then the newest turns, the newest last."""
    found = Table(box=None, header_style="dim")
    for name in ("turn", "stage", "score", "champion", "decision", "what and why"):
        found.add_column(name, justify="right" if name in ("turn", "score", "champion") else "left")
    live = [turn for turn in told if turn.verdict.keep][-1:]
    for turn in [*live, *told[-N_ROWS:]]:
        found.add_row(*map(escape, _cells(turn)), style="bold" if turn.verdict.keep else None)
    return found


def _cells(turn: Turn) -> tuple[str, ...]:
    result, motivation = turn.result, turn.candidate.motivation[:60]
    if turn.kind == "insight":
        return str(turn.id), "insight", "", "", "", turn.verdict.reason[:90]
    stage = "failed" if result.error else str(result.facts.get("stage", ""))
    scores = [f"{sum(s) / len(s):.3f}" if s else "" for s in (result.scores, result.baseline)]
    why = f"{motivation} | {turn.verdict.reason[:70]}"
    return str(turn.id), stage, *scores, str(turn.verdict.decision), why


def _line(turn: Turn, spent_s: float) -> str:
    id, stage, score, champion, decision, why = _cells(turn)
    return f"{spent_s:6.0f} s  {id:>5}  {stage:<8} {score:>6} {champion:>6}  {decision:<9} {why}"

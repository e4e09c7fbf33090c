"""What a design run shows: plan card, live table, outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mendel.clocks.design.request import Plan
    from mendel.propose import Start
    from mendel.types import Turn


class Screen:
    """Live progress on a terminal; one line a stage and a turn elsewhere."""

    def __init__(self, console: Console, *, asks: bool) -> None:
        self._console, self._asks = console, asks
        self._live: Live | None = None
        self._stage, self._told = "", 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def confirm(self, plan: Plan) -> bool:
        self._console.print(plan_card(plan))
        if plan.request.explain:
            self._console.print(start_card(plan.start))
        if not self._asks:
            return True
        self._console.print("Enter starts, Ctrl-C leaves. ", end="")
        try:
            input()
        except (KeyboardInterrupt, EOFError):
            self._console.print("\nnothing was started")
            return False
        return True

    def stage(self, name: str) -> None:
        self._stop()
        self._stage = name
        self._console.print(f"[bold]{name}[/bold]")

    def note(self, text: str) -> None:
        self._stop()
        self._console.print(text, markup=False)

    def turns(self, told: list[Turn], spent_s: float, budget_s: float) -> None:
        if not self._console.is_terminal:
            for turn in told[self._told :]:
                self._console.print(_line(turn, spent_s), markup=False, soft_wrap=True)
            self._told = len(told)
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        bar = ProgressBar(total=budget_s, completed=min(spent_s, budget_s), width=40)
        head = Table.grid(padding=(0, 2))
        head.add_row(bar, f"{spent_s:.0f} of {budget_s:.0f} s", "Ctrl-C ships the best so far")
        self._live.update(Group(head, ladder_table(told)))

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def plan_card(plan: Plan) -> Panel:
    """Task, labels, data, stages and expected time, on one screen."""
    request, data = plan.request, plan.data
    table = Table.grid(padding=(0, 2))
    names = ", ".join(plan.labels[:8]) + (" ..." if len(plan.labels) > 8 else "")
    rows = [
        ("task", f"{request.description} ({plan.kind.name}: {plan.kind.answers})"),
        ("labels", f"{len(plan.labels)}: {names}" if plan.labels else "none"),
        *(("labels", told) for told in [plan.form.told()] if told),
        (
            "data",
            f"{request.data}: {len(data.texts):,} rows, columns "
            f"{data.text_column} -> {data.label_column}",
        ),
        (
            "sealed test",
            plan.sealed_from + ("" if plan.test is None else f", {len(plan.test.texts):,} rows"),
        ),
        *(("given", told) for told in _inputs(plan)),
        ("provenance", str(request.provenance or data.provenance or "not stated")),
        (
            "limits",
            f"{request.limits.max_bytes / 1e6:g} MB, {request.limits.max_latency_ms:g} ms, "
            f"{request.limits.max_params / 1e6:g} M parameters; prefers {request.prefer}",
        ),
        *((f"stage {i}", f"{name}: about {s:.0f} s") for i, (name, s) in enumerate(plan.stages, 1)),
        ("budget", f"{request.budget_s:.0f} s, project in {request.out}"),
        *(("note", note) for note in data.notes),
        *(("fault", f"{f.count} x {f.kind}: {f.note}") for f in plan.faults),
    ]
    for name, value in rows:
        table.add_row(f"[dim]{name}[/dim]", escape(value))
    return Panel(table, title="plan", expand=False)


def start_card(start: Start) -> Panel:
    """What a run starts from and why; one row a recipe, in the order of trying."""
    from mendel.propose import named

    table = Table(box=None, header_style="dim")
    for name in ("recipe", "expected gain", "a round", "seen in", "why"):
        table.add_column(name, justify="left" if name in ("recipe", "why") else "right")
    for step in start.steps:
        gain = "a known loser" if step.when == "last" else f"{step.gain:+.1%}"
        told = (named(step.recipe), gain, f"{step.seconds:.1f} s", str(step.n_seen), step.why)
        table.add_row(*map(escape, told))
    shown = [table] if start.steps else []
    words = Text("\n".join(start.why))
    return Panel(Group(words, *shown), title="what it starts from", expand=False)


def _inputs(plan: Plan) -> list[str]:
    given = plan.inputs
    teacher = f", labelled by the encoder {given.teacher}" if given.teacher else ""
    learned = ", and are learned from" if plan.request.learn_validation else ""
    found = [
        (len(given.outside), "texts that have none of the labels"),
        (len(plan.validation.texts) if plan.validation else 0, f"rows that choose{learned}"),
        (len(given.unlabeled), f"unlabelled texts{teacher}"),
        (len(given.passages), "passages of documents"),
        *((len(phrases), f"phrases of {name}") for name, phrases in given.gazetteers.items()),
    ]
    return [f"{n:,} {what}" for n, what in found if n]


def ladder_table(told: list[Turn], most: int = 12) -> Table:
    """One row a candidate, the newest last."""
    table = Table(box=None, header_style="dim")
    for name in ("candidate", "folds", "score", "size", "ms", "fit", "verdict"):
        table.add_column(
            name, justify="right" if name in ("folds", "score", "size", "ms", "fit") else "left"
        )
    by_trial: dict[str, list[Turn]] = {}
    for turn in told:
        by_trial.setdefault(turn.trial, []).append(turn)
    for turns in list(by_trial.values())[-most:]:
        good = [turn.result for turn in turns if turn.result.error is None]
        family = _family(turns[0])
        if not good:
            table.add_row(family, "0", "", "", "", "", escape(turns[-1].verdict.reason[:60]))
            continue
        mean = sum(result.scores[0] for result in good) / len(good)
        form = good[0].facts["int8"]
        table.add_row(
            family,
            str(len(good)),
            f"{mean:.2%}",
            f"{form['n_bytes'] / 1e6:.2f} MB",
            f"{form['latency_ms']:.2f}",
            f"{good[-1].cost.seconds:.1f} s",
            str(turns[-1].verdict.decision),
        )
    return table


def _family(turn: Turn) -> str:
    """Of the model, and how often it learns from errors where it is to mend them."""
    state = turn.candidate.state
    mends = f" x{state['times']}" if "times" in state else ""
    return str(state["model"]["fields"].get("family", "?")) + mends


def _line(turn: Turn, spent_s: float) -> str:
    return (
        f"  {spent_s:5.0f} s  {_family(turn):<9} {turn.verdict.decision:<9} {turn.verdict.reason}"
    )


def print_outcome(report: dict[str, Any], folder: Path, model: bool) -> None:
    """The main lines of the report, and what to do next."""
    from mendel.emit.plain import weak_points
    from mendel.emit.values import times

    sealed, shipped = report["sealed"], report["shipped"]
    print(
        f"sealed {report['metric']} {sealed['score']:.1%} (95 % interval {sealed['low']:.1%} to "
        f"{sealed['high']:.1%}, {sealed['n']:,} rows, opened {times(sealed['opened'])})"
    )
    if "bits_per_byte" in sealed:
        print(f"{sealed['bits_per_byte']:.3f} bits a byte")
    if not report["status"]["verified"]:
        print(f"UNVERIFIED: {report['status']['reason']}")
    for row in report["baselines"]:
        each = f", {8 * (1 - row['score']):.3f} bits a byte" * ("bits_per_byte" in sealed)
        print(f"  beside {row['name']}: {row['score']:.1%}{each}")
    print(
        f"{shipped['name']}: {shipped['n_params']:,} parameters, "
        f"{shipped['model_bytes'] / 1e6:.2f} MB, {report['latency']['p50_ms']:.2f} ms a text"
    )
    for line in weak_points(report)[:3]:
        print(f"  weak: {line}")
    for limit in report["limits"]:
        if not limit["met"]:
            print(
                f"limit not met: {limit['limit']}: wanted {limit['wanted']:g}, "
                f"got {limit['got']:g}, {limit['note']}"
            )
    if model:
        print(f'project in {folder}: python {folder / "predict.py"} "text"')
        print(f"report in {folder / 'report.md'} and report.html")
    else:
        print(
            f"no model meets every limit, so none was shipped; report in {folder / 'report.md'}. "
            "--yes ships the nearest."
        )

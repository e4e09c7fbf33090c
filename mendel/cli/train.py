"""mendel train: a sequence model on a text."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mendel.train.job import Job
    from mendel.train.run import Outcome, Progress

TELL_EVERY_S = 2.0


def add_to(app: typer.Typer) -> None:
    app.command()(train)


def train(
    spec: Annotated[str, typer.Argument(help="A preset (modern, hybrid, microgpt, nanogpt) or a "
                                             "TOML file with tables model and train.")],
    data: Annotated[Path, typer.Option(help="A text file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; new or empty.")],
    glob: Annotated[str, typer.Option(help='Which files of a folder, such as "*.py".')] = "*",
    lines: Annotated[bool, typer.Option("--lines", help="Each line is a document; repeated ones "
                                                        "count once.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="bytes, chars or bpe:4096.")] = None,
    budget: Annotated[str | None, typer.Option(help="10m, 2000steps, 5e6tokens, "
                                         "1e15flops.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs with different weights.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A field of the spec: "
                        "width=256, mixers=gated_delta_net, mixers.0.n_heads=2.")] = None,
    early_exit: Annotated[bool, typer.Option("--early-exit", help="Layers are left out and exits "
                          "trained on the way: shallow drafts that `mendel serve` "
                          "verifies.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped "
                                                             "run.")] = False,
    replay: Annotated[Path | None, typer.Option(help="Folder of a run whose schedule to repeat "
                                                     "step by step.")] = None,
) -> None:  # fmt: skip
    """Train a sequence model on a text. Ctrl-C keeps it as it is; --resume goes on."""
    from mendel.audit import require_sound
    from mendel.presets import load_recipe, override
    from mendel.train.exits import EARLY_EXIT
    from mendel.train.job import Request, prepare

    console = Console(stderr=True)
    named = {"tokenizer": tokenizer, "budget": budget, "n_seeds": seeds}
    flags = [f"train.{name}={_quoted(value)}" for name, value in named.items() if value is not None]
    exits = EARLY_EXIT if early_exit else ()
    model, how = override(*load_recipe(spec), [*exits, *(settings or []), *flags])
    request = Request(model, how, data, out, glob, lines, resume, replay)
    with console.status("auditing the design"):
        require_sound(model)
    with console.status("reading the text"):
        job = prepare(request)
    _tell_job(console, job)
    ticker = _Ticker(console, job)
    try:
        outcome = job.run(ticker, ticker.stopping)
    except KeyboardInterrupt:
        console.print("given up. Where a checkpoint was written, --resume goes on from it.")
        raise
    _tell_outcome(console, outcome, out)
    if not outcome.finished:
        raise KeyboardInterrupt
    if outcome.result.error:
        raise typer.Exit(1)


def _quoted(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


def _tell_job(console: Console, job: Job) -> None:
    how, tokens = job.request.train, job.tokens
    for notice in job.corpus.notices:
        console.print(notice, markup=False)
    console.print(
        f"{len(tokens.train):,} tokens to learn from, {len(tokens.val):,} to validate on "
        f"({job.split.by}), vocabulary {tokens.vocab_size:,}\n{job.n_params:,} parameters, "
        f"{how.optimizer}, {how.budget}, {how.n_seeds} seed(s)",
        markup=False,
        highlight=False,
    )


class _Ticker:
    """A line every two seconds, and one for each evaluation."""

    def __init__(self, console: Console, job: Job) -> None:
        self._console, self._last = console, time.monotonic()
        self._per_step = job.request.train.batch * job.model.context

    def stopping(self) -> None:
        """Ctrl-C was heard."""
        self._console.print("stopping; the model is validated as it is (Ctrl-C again: give up)")

    def __call__(self, progress: Progress) -> None:
        curve = next(iter(progress.curves.values()))
        if curve.evaluations and curve.evaluations[-1][0] == progress.step:
            found = [c.evaluations[-1][1] for c in progress.curves.values() if c.evaluations]
            self._say(progress, "validation " + " ".join(f"{loss:.4f}" for loss in found))
        elif time.monotonic() - self._last > TELL_EVERY_S:
            recent = [loss for c in progress.curves.values() for loss in c.losses[-20:]]
            known = [loss for loss in recent if math.isfinite(loss)]
            loss = sum(known) / max(len(known), 1)
            self._say(progress, f"loss {loss:.4f}")

    def _say(self, progress: Progress, what: str) -> None:
        self._last = time.monotonic()
        rate = progress.step * self._per_step / max(progress.elapsed_s, 1e-9)
        left = progress.elapsed_s * (1 / max(progress.share, 1e-9) - 1)
        self._console.print(
            f"step {progress.step:>6} {progress.share:>4.0%}  {what}  {rate:,.0f} tokens/s  "
            f"{left:,.0f} s left",
            highlight=False,
        )


def _tell_outcome(console: Console, outcome: Outcome, out: Path) -> None:
    result = outcome.result
    for problem in (*outcome.notices, *([result.error] if result.error else [])):
        console.print(problem, markup=False)
    for seed, curve in outcome.curves.items():
        if curve.diverged is None and curve.evaluations:
            loss = curve.evaluations[-1][1]
            worth = f"{loss:.4f} nats a token on validation"
            print(f"seed {seed}: {worth}, perplexity {math.exp(min(loss, 700)):.2f}")
    spent = f"{result.cost.seconds:.0f} s, {result.cost.flops:.3g} FLOPs a seed"
    if not outcome.finished:
        console.print(f"stopped after {spent}. Go on with --resume.", markup=False)
    if all(curve.diverged is not None for curve in outcome.curves.values()):
        return
    many = len(outcome.curves) > 1
    place = f"{out}/seed-N" if many else str(out)
    console.print(f"{spent}. Try: mendel sample {place} --prompt ...", markup=False)

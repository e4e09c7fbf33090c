"""mendel design: a plan card, live progress, the report's main lines."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mendel.cli import amounts
from mendel.cli.options import Column, Resume, Yes
from mendel.cli.screen import Screen, print_outcome


class Prefer(StrEnum):
    accuracy = "accuracy"
    size = "size"


class TaskKind(StrEnum):
    auto = "auto"
    classify = "classify"
    multilabel = "multilabel"
    pair = "pair"
    regress = "regress"
    retrieve = "retrieve"
    tag = "tag"
    extract = "extract"
    generate = "generate"


class Origin(StrEnum):
    collected = "collected"
    written = "written"
    generated = "generated"


seconds = amounts.parser(amounts.SECONDS, "10m")
n_bytes = amounts.parser(amounts.BYTES, "10MB")
count = amounts.parser(amounts.COUNT, "7M")
watts = amounts.parser(amounts.WATTS, "15W")
milliseconds = amounts.parser(amounts.MILLISECONDS, "2ms")

Budget = Annotated[
    float, typer.Option(parser=seconds, metavar="TIME", help="Wall-clock time for everything.")
]
Size = Annotated[
    float, typer.Option(parser=n_bytes, metavar="BYTES", help="Of the model and its vocabulary.")
]
Latency = Annotated[
    float,
    typer.Option(parser=milliseconds, metavar="TIME", help="Median for one text on one core."),
]
Params = Annotated[
    float, typer.Option(parser=count, metavar="COUNT", help="Parameters of the model.")
]


Watts = Annotated[
    float, typer.Option(parser=watts, metavar="WATTS", help="Of the processor that will answer.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(design)


def _named(given: str) -> tuple[str, Path]:
    name, sign, file = given.partition("=")
    if not (name and sign and file):
        raise typer.BadParameter(f"--gazetteer {given!r}. Wanted NAME=FILE.")
    return name, Path(file)


def _licence(given: str) -> tuple[str, str]:
    """NAME=TEXT, or TEXT alone for the data."""
    name, sign, words = given.partition("=")
    if not (words if sign else name).strip():
        raise typer.BadParameter(f"--licence {given!r}. Wanted NAME=TEXT, or TEXT for the data.")
    return (name.strip(), words.strip()) if sign else ("data", given.strip())


def design(
    description: Annotated[str, typer.Argument(help="What the model is to do, in a sentence.")],
    data: Annotated[
        Path,
        typer.Option(help="CSV, TSV or JSON lines with texts and labels; a folder of documents."),
    ],
    test: Annotated[
        Path | None, typer.Option(help="Sealed until the end. Default: 15 % of the data.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Rows like those it will meet: they choose the recipe.")
    ] = None,
    learn_validation: Annotated[
        bool, typer.Option("--learn-validation", help="Learn from these rows too.")
    ] = False,
    budget: Budget = "10m",  # type: ignore[assignment]
    max_size: Size = "10MB",  # type: ignore[assignment]
    max_latency: Latency = "12ms",  # type: ignore[assignment]
    max_params: Params = "7M",  # type: ignore[assignment]
    prefer: Annotated[
        Prefer, typer.Option(help="What ships among models of level accuracy.")
    ] = Prefer.accuracy,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="Folder of the project; new or empty.")] = Path(
        "mendel-model"
    ),
    kind: Annotated[
        TaskKind, typer.Option(help="What an answer is. auto: guessed from the data.")
    ] = TaskKind.auto,
    outside: Annotated[
        Path | None, typer.Option(help="Texts that have none of the labels, one a line or a table.")
    ] = None,
    outside_label: Annotated[
        str | None, typer.Option(help="Rows with this label are such texts.")
    ] = None,
    unlabeled: Annotated[
        Path | None, typer.Option(help="Texts without labels, like the others: they help.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="A sentence encoder that labels them: auto, or its folder."),
    ] = None,
    gazetteer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Phrases, one a line, that a tagger is told of."),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,...,HIGH", help="The labels as an order. Default: numbers are one."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="For retrieve: queries with the file, answer or passage wanted."),
    ] = None,
    coverage: Annotated[
        float, typer.Option(help="How often sets of labels and intervals hold the truth.")
    ] = 0.95,
    reject: Annotated[
        float, typer.Option(help="Share of texts whose right answer abstention may cost.")
    ] = 0.01,
    text_column: Column = None,
    second_column: Annotated[
        str | None, typer.Option(help="The other text, for --kind pair. Default: guessed.")
    ] = None,
    label_column: Column = None,
    provenance: Annotated[Origin | None, typer.Option(help="Where the rows come from.")] = None,
    licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]TEXT",
            help="Of the data; or of test, outside, unlabeled, teacher, a gazetteer by its name.",
        ),
    ] = None,
    tdp: Watts = "15W",  # type: ignore[assignment]
    euro_per_kwh: Annotated[
        float, typer.Option(help="Price of electricity, for the report.")
    ] = 0.3,
    api_price: Annotated[
        float | None, typer.Option(help="Euro a call of what you would use instead.")
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Begin as if the ledger knew no earlier task.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what it starts from and why.")
    ] = False,
    resume: Resume = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at faults in the data that are otherwise counted."),
    ] = False,
    yes: Yes = False,
) -> None:
    """Design, train, prove and pack a model for texts.

    Ctrl-C ships the best so far. A killed run goes on with --resume.
    """
    from mendel.clocks.design.request import Request
    from mendel.clocks.design.session import design as run_design
    from mendel.ledger import Ledger
    from mendel.spec import Limits

    limits = Limits(
        max_bytes=max(int(max_size), 1),
        max_latency_ms=max(max_latency, 1e-9),
        max_params=max(int(max_params), 1),
    )
    request = Request(
        description=description,
        data=data,
        test=test,
        kind=kind.value,
        validation=validation,
        learn_validation=learn_validation,
        outside=outside,
        outside_label=outside_label,
        unlabeled=unlabeled,
        teacher=teacher,
        gazetteers=tuple(map(_named, gazetteer or ())),
        order=tuple(name.strip() for name in order.split(",")) if order else (),
        queries=queries,
        coverage=coverage,
        reject=reject,
        text_column=text_column,
        second_column=second_column,
        label_column=label_column,
        provenance=provenance.value if provenance else None,
        budget_s=budget,
        limits=limits,
        prefer=prefer.value,
        seed=seed,
        out=out,
        licences=tuple(map(_licence, licence or ())),
        tdp_w=tdp,
        euro_per_kwh=euro_per_kwh,
        api_price=api_price,
        cold=cold,
        explain=explain,
        resume=resume,
        strict=strict,
        yes=yes,
        command=shlex.join(["mendel", *sys.argv[1:]]),
    )
    console = Console(stderr=True)
    ledger = Ledger()
    try:
        with Screen(console, asks=sys.stdin.isatty() and not yes) as screen:
            shipped = run_design(request, ledger, screen)
    except KeyboardInterrupt:
        console.print("given up: nothing was shipped. The same command with --resume goes on.")
        raise
    finally:
        ledger.close()
    if shipped is not None:
        print_outcome(shipped.report, shipped.folder, shipped.model)

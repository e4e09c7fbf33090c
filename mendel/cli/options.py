"""Arguments and options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Project = Annotated[Path, typer.Argument(help="A project that `mendel design` wrote.")]
Column = Annotated[str | None, typer.Option(help="Default: guessed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that was to write --out.")]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask; ship the nearest model if none meets the limits."
    ),
]

# of commands that go on from a project
Next = Annotated[
    Path | None, typer.Option(help="Folder of the new project. Default: DIR-2, DIR-3, ...")
]
UsualColumn = Annotated[
    str | None, typer.Option(help="Default: as before where the file has it, else guessed.")
]
UsualSecond = Annotated[
    str | None, typer.Option(help="The other text of a pair. Default: as before, else guessed.")
]

"""mendel predict: an emitted project's answers, as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from mendel.cli.options import Project
from mendel.types import InputError


def add_to(app: typer.Typer) -> None:
    app.command()(predict)


def predict(
    folder: Project,
    texts: Annotated[list[str] | None, typer.Argument(help="Default: the lines of stdin.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to list.")] = 3,
    abstain: Annotated[bool, typer.Option(help="Give no label below the threshold.")] = True,
    why: Annotated[
        bool, typer.Option("--why", help="Add the words that decided: a text more for each word.")
    ] = False,
) -> None:
    """Answer texts with a designed model: one JSON object a line, in order."""
    from mendel.emit.runtime import answers_of, load_model

    model = load_model(folder)
    if why and not hasattr(model.decoder, "evidence"):
        kind = model.agent["kind"]
        raise InputError(f"--why: a model of kind {kind} cannot say why. Leave it out.")
    # a kind takes the options that it knows, and leaves the others
    options = answers_of(model.agent["kind"]).requested({"top": top, "abstain": abstain})
    lines = (raw.decode("utf-8", "replace").rstrip("\r\n") for raw in sys.stdin.buffer)
    for text in texts or lines:
        [answer] = model.predict([text], **options)
        said = answer.to_dict() | ({"why": model.explain(text)} if why else {})
        print(json.dumps(said, ensure_ascii=False), flush=True)

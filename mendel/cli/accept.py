"""mendel accept: a person takes responsibility for a file's code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    app.command()(accept)


def accept(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="A file that registers parts.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a file's code run outside the sandbox: `mendel --parts FILE.py train ...` then takes it.

    What is accepted is the text: one letter changed, and it is a stranger again.
    """
    from mendel.audit.accept import accept as record
    from mendel.audit.accept import is_accepted, read_source, source_digest
    from mendel.audit.scan import scan

    text = read_source(file)
    for sight in scan(text, file.name):
        print(sight)
    print(f"{file}: {len(text.splitlines())} lines, sha256 {source_digest(text)}")
    if is_accepted(text):
        print("accepted before; nothing to do.")
        return
    if not yes and not typer.confirm("Run this code outside the sandbox from now on?"):
        print("not accepted.")
        raise typer.Exit(1)
    record(text, file)
    print(f"accepted. Use it: mendel --parts {file} train SPEC ...")

"""The command line: parse, call, print. Exit 0 done, 1 our fault or findings, 2 the user's."""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mendel.cli import (
    accept,
    audit,
    bench_serve,
    check,
    design,
    diff,
    doctor,
    improve,
    label,
    ledger,
    parts,
    predict,
    redesign,
    report,
    research,
    research_show,
    research_verify,
    sample,
    serve,
    train,
)
from mendel.types import InputError, LedgerError, MendelError, is_out_of_memory

app = typer.Typer(
    help="mendel breeds small models: describe a task, get a tested model that runs alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
design.add_to(app)
predict.add_to(app)
report.add_to(app)
ledger.add_to(app)
train.add_to(app)
sample.add_to(app)
serve.add_to(app)
parts.add_to(app)
audit.add_to(app)
accept.add_to(app)
check.add_to(app)
doctor.add_to(app)
label.add_to(app)
redesign.add_to(app)
improve.add_to(app)
diff.add_to(app)
bench_serve.add_to(app)
research.add_to(app)
research_show.add_to(research.group)
research_verify.add_to(research.group)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    parts_of: Annotated[
        list[Path] | None,
        typer.Option("--parts", help="A file that registers parts; see `mendel accept`."),
    ] = None,
) -> None:
    """Options before the command's name."""
    if parts_of:
        from mendel.audit.accept import load_parts

        for file in parts_of:
            load_parts(file)


def main() -> None:
    """Entry point of `mendel`."""
    debug = "--debug" in sys.argv
    try:
        app()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(_message(error), file=sys.stderr)
        sys.exit(2 if _is_users(error) else 1)


def _is_users(error: Exception) -> bool:
    return (
        _is_full_disk(error)
        or is_out_of_memory(error)
        or isinstance(error, (InputError, LedgerError, OSError))
    )


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return "database or disk is full" in str(error)  # SQLite's own words


def _message(error: Exception) -> str:
    if isinstance(error, MendelError):
        return f"{type(error).__name__}: {error}"
    if _is_full_disk(error):
        return "the disk is full; nothing half-written was left. Free some space and run it again."
    if is_out_of_memory(error):
        return "that does not fit into this machine's memory. Make the model or the batch smaller."
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed. `mendel doctor` says how to get it."
    return f"{type(error).__name__}: {error}. `mendel --debug ...` shows where."

"""mendel label: a person labels the texts that help the most, at the terminal or in a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mendel.cli.check import progress_bar
from mendel.cli.options import Column, Project

if TYPE_CHECKING:
    from mendel.clocks.design.label import Asked
    from mendel.clocks.design.sheet import Item, Labelled, Reading

KEYS = "Enter takes the guess; a number or a name; s skip, o none of the labels, u undo, q stop"


def add_to(app: typer.Typer) -> None:
    app.command()(label)


def label(
    folder: Project,
    unlabeled: Annotated[
        Path | None, typer.Option(help="Texts to choose from, one a line or a table.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Texts to ask for.")] = 50,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write a sheet to fill in; ask nothing now.")
    ] = None,
    filled: Annotated[
        Path | None, typer.Option("--from", help="Read such a sheet, its labels filled in.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where labels are kept. Default: DIR-labelled.csv.")
    ] = None,
    new_labels: Annotated[
        bool, typer.Option("--new-labels", help="Other names are new labels, not mistakes.")
    ] = False,
    text_column: Column = None,
) -> None:
    """Label the texts that the model learns the most from; give --unlabeled or --from.

    Each answer is saved at once. `mendel redesign DIR --data` takes the file of labels.
    """
    from mendel.clocks.design.label import check_kind
    from mendel.clocks.design.sheet import Labelled, Reading, place_of, read_sheet, write_sheet
    from mendel.emit.runtime import load_model
    from mendel.types import InputError

    if (unlabeled is None) == (filled is None):
        raise InputError("where do texts come from? Give --unlabeled FILE, or --from SHEET.")
    model = load_model(folder)
    check_kind(model)
    kept = Labelled(out or place_of(folder))
    many = model.agent["kind"] == "multilabel"
    reading = Reading(model.labels, many=many, new_labels=new_labels)
    if filled is not None:
        rows, n_empty = read_sheet(filled, reading)
        kept.add(rows)
        print(f"{len(rows)} labels read, {n_empty} rows are not filled in")
        _tell_where(kept, folder)
        return
    assert unlabeled is not None
    asked = _asked(folder, model, unlabeled, text_column, n, kept)
    if csv is not None:
        write_sheet(asked.items, csv)
        print(f"{len(asked.items)} texts in {csv}: fill in the column 'label', then")
        print(f"  mendel label {folder} --from {csv}")
        return
    _ask_for_each(asked.items, reading, kept)
    _tell_where(kept, folder)


def _asked(
    folder: Path, model: Any, unlabeled: Path, text_column: str | None, n: int, kept: Labelled
) -> Asked:
    from mendel.clocks.design.label import ask, near_sealed
    from mendel.data.texts import read_texts
    from mendel.ledger import Ledger

    ledger = Ledger()
    try:
        learnt, near = near_sealed(folder, ledger)
        texts = read_texts(unlabeled, text_column=text_column).texts
        with progress_bar() as told:
            return ask(model, texts, n, known={*learnt, *kept.texts}, near=near, progress=told)
    finally:
        ledger.close()


def _ask_for_each(items: Sequence[Item], reading: Reading, kept: Labelled) -> None:
    """Until the last is answered, or a person stops; Ctrl-C stops too."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(KEYS, style="dim")
    at = 0
    answered: list[Item] = []
    while at < len(items):
        item = items[at]
        _show(console, item, f"{at + 1} of {len(items)}")
        try:
            meaning = reading.typed(input("> "), item)
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if meaning.act == "quit":
            return
        if meaning.act == "unclear":
            console.print(meaning.value)
        elif meaning.act == "undo":
            at = _undone(console, items, at, answered, kept)
        else:
            if meaning.act == "label":
                kept.add([(item.text, meaning.value)])
                answered.append(item)
            at += 1


def _undone(
    console: Console, items: Sequence[Item], at: int, answered: list[Item], kept: Labelled
) -> int:
    """Back to the text that was labelled last; its label is taken back."""
    if not answered:
        console.print("nothing to undo")
        return at
    item = answered.pop()
    kept.take_back(item.text)
    return items.index(item)


def _show(console: Console, item: Item, place: str) -> None:
    from mendel.clocks.design.sheet import NONE

    console.print(f"\n[{place}] {item.text}", style="bold")
    console.print(f"  guess: {item.guess or NONE}")
    for number, name in enumerate(item.alternatives, 1):
        console.print(f"  {number}  {name}", style="dim")


def _tell_where(kept: Labelled, folder: Path) -> None:
    print(f"{len(kept.rows)} labelled texts in {kept.file}. To learn from them:")
    print(f"  mendel redesign {folder} --data {kept.file}")

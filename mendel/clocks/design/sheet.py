"""Labels from a person: what was meant by an answer, and the files that keep answers.

typed or filled in -> Reading -> a label -> Labelled, a file that redesign takes
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mendel.blobs import write_atomically
from mendel.data.cells import SEPARATOR, clean_text, plain, squeezed
from mendel.data.faults import Log
from mendel.data.tables import read_table
from mendel.train.outside import OUTSIDE
from mendel.types import InputError, did_you_mean

JOIN = "|"  # of several labels
NONE = "(none)"  # no label at all, of a task with several; an empty cell in the file
SHEET = ("text", "label", "guess", "alternatives")


@dataclass(frozen=True)
class Item:
    """One text to ask a person about."""

    text: str
    guess: str  # as a label is written in the file; "" = none of several
    alternatives: tuple[str, ...]  # labels, the likeliest first


class Meaning(NamedTuple):
    """What a person meant by what was typed."""

    act: Literal["label", "skip", "undo", "quit", "unclear"]
    value: str = ""  # the label; or what was unclear


def written(labels: Iterable[str]) -> str:
    """Several labels as one cell."""
    return JOIN.join(sorted(set(labels)))


class Reading:
    """What a person's answer means.

    labels      that the model knows
    many        may there be several, and none
    new_labels  other names are new labels, not mistakes
    """

    def __init__(self, labels: Sequence[str], *, many: bool, new_labels: bool) -> None:
        self.labels, self.many, self.new_labels = list(labels), many, new_labels
        self._folded = {label.casefold(): label for label in labels}

    def typed(self, given: str, item: Item) -> Meaning:
        """At the terminal: Enter, a number, a name, or a letter that does something.

        A label that is called like a number or a letter is that label; ":s" is always a command.
        """
        words = squeezed(given)
        if not words:
            return Meaning("label", item.guess)
        if words not in self.labels and (act := _act(words)):
            return Meaning("label", "" if self.many else OUTSIDE) if act == "o" else ACTS[act]
        try:
            return Meaning("label", self.cell(words, item.alternatives))
        except InputError as error:
            return Meaning("unclear", str(error))

    def cell(self, given: str, numbered: Sequence[str] = ()) -> str:
        """The label or labels that were written; raises InputError for an unknown one."""
        if not self.many:
            return OUTSIDE if given == OUTSIDE else self._name(given, numbered)
        parts = [] if given in (NONE, OUTSIDE) else SEPARATOR.split(given)
        return written(self._name(part.strip(), numbered) for part in parts if part.strip())

    def _name(self, given: str, numbered: Sequence[str]) -> str:
        if given in self.labels:
            return given
        if given.isdecimal() and 1 <= int(given) <= len(numbered):
            return numbered[int(given) - 1]
        if given.casefold() in self._folded:
            return self._folded[given.casefold()]
        if self.new_labels:
            self.labels.append(given)
            return given
        hint = did_you_mean(given, self.labels) or f"It has {', '.join(self.labels[:8])}, ..."
        raise InputError(f"{given!r} is no label of the model. {hint} --new-labels allows it.")


ACTS = {"s": Meaning("skip"), "u": Meaning("undo"), "q": Meaning("quit")}


def _act(words: str) -> str | None:
    letter = words.removeprefix(":").lower()
    return letter if letter in (*ACTS, "o") else None


class Labelled:
    """A file of texts with labels, whole on disk after each change.

    raises   InputError where the file is there and holds something else
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[tuple[str, str]] = _read(file) if file.exists() else []

    @property
    def texts(self) -> set[str]:
        return {text for text, _ in self.rows}

    def add(self, rows: Iterable[tuple[str, str]]) -> None:
        """The newest label of a text holds."""
        new = dict(rows)
        self.rows = [(text, label) for text, label in self.rows if text not in new]
        self.rows += new.items()
        self._save()

    def take_back(self, text: str) -> None:
        self.rows = [row for row in self.rows if row[0] != text]
        self._save()

    def _save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, _csv(("text", "label"), self.rows))


def write_sheet(items: Sequence[Item], file: Path) -> None:
    """A sheet to fill in; raises InputError where there is one already: it may be filled in."""
    if file.exists():
        raise InputError(f"{file} is there already, and may hold labels. Give another --csv.")
    rows = [(item.text, "", item.guess or NONE, " | ".join(item.alternatives)) for item in items]
    write_atomically(file, _csv(SHEET, rows))


def read_sheet(file: Path, reading: Reading) -> tuple[list[tuple[str, str]], int]:
    """The rows whose label was filled in, and how many were not.

    raises   InputError for columns that are missing, unknown labels, and a sheet without labels
    """
    log = Log()
    table = read_table(file, {"text", "label"}, True, log)
    missing = {"text", "label"} - set(table.columns)
    if missing:
        raise InputError(
            f"{file} has no column {min(missing)!r}. Got {', '.join(table.columns[:6])}. Wanted a "
            "sheet that `mendel label --csv` wrote, with labels filled in."
        )
    found, unknown, n_empty = [], [], 0
    cells = zip(table.numbers, table.values("text"), table.values("label"), strict=True)
    for number, text, cell in cells:
        label = squeezed(plain(cell))
        if not label:
            n_empty += 1
            continue
        try:
            found.append((clean_text(plain(text), number, log), reading.cell(label)))
        except InputError as error:
            unknown.append(f"row {number}: {error}")
    if unknown:
        raise InputError(f"{file}: {len(unknown)} labels are unknown. {' '.join(unknown[:3])}")
    if not found:
        raise InputError(f"{file} has no label filled in. Wanted some in its column 'label'.")
    return found, n_empty


def _read(file: Path) -> list[tuple[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.reader(handle))
    if not rows or rows[0] != ["text", "label"] or any(len(row) != 2 for row in rows[1:]):
        raise InputError(
            f"{file} is no file of labelled texts. Wanted columns text and label. Give another "
            "--out."
        )
    return [(text, label) for text, label in rows[1:]]


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue().encode()


def place_of(project: Path) -> Path:
    """DIR-labelled.csv beside DIR, which stays as it was shipped."""
    whole = project.resolve()
    return whole.parent / f"{whole.name}-labelled.csv"

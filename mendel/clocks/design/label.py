"""Ask a person for labels: which texts, what was meant by an answer, where answers are kept.

project, texts -> ask -> Items -> a terminal or a CSV sheet -> Labelled, a file that redesign takes
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendel.blobs import write_atomically
from mendel.clocks.design.run import Run
from mendel.data.cells import SEPARATOR, clean_text, squeezed
from mendel.data.cells import plain as plain_cell
from mendel.data.faults import Log
from mendel.data.tables import read_table
from mendel.data.vault import Sealed, Vault
from mendel.ledger import Ledger
from mendel.train.folds import Rows
from mendel.train.outside import OUTSIDE
from mendel.types import InputError, did_you_mean

KINDS_ASKED = ("classify", "multilabel")
N_ALTERNATIVES = 5
MOST = 20_000  # texts that are looked at
JOIN = "|"  # of several labels
NONE = "(none)"  # no label at all, of a task with several; an empty cell in the file
SHEET = ("text", "label", "guess", "alternatives")


@dataclass(frozen=True)
class Item:
    """One text to ask a person about."""

    text: str
    guess: str  # as a label is written in the file; "" = none of several
    alternatives: tuple[str, ...]  # labels, the likeliest first


@dataclass(frozen=True)
class Asked:
    items: tuple[Item, ...]
    n_left: int  # texts that were there to choose from
    n_near: int  # left out: they say nearly what a sealed row says, so no training may use them


class Meaning(NamedTuple):
    """What a person meant by what was typed."""

    act: Literal["label", "skip", "undo", "quit", "unclear"]
    value: str = ""  # the label; or what was unclear


def ask(
    model: Any,
    texts: Sequence[str],
    n: int,
    *,
    known: Collection[str] = (),
    near: Callable[[Sequence[str]], NDArray[np.bool_]] | None = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Asked:
    """The texts whose labels help the most: those that the model doubts, no two alike.

    model    as `load_model` gives it, of kind classify or multilabel
    known    texts that have a label: they are not asked for
    near     says which texts are nearly sealed ones
    raises   InputError for another kind, and where no text is left
    cost     10,000 texts in about 15 s on one core
    """
    kind = model.agent["kind"]
    if kind not in KINDS_ASKED:
        raise InputError(
            f"`mendel label` asks about labels of texts. Got a project of kind {kind}. "
            f"Wanted {' or '.join(KINDS_ASKED)}. Label a file in an editor, then `mendel redesign`."
        )
    if n < 1:
        raise InputError(f"--n {n} asks for nothing. Wanted 1 or more.")
    done = set(known)
    rest = [text for text in dict.fromkeys(texts) if text not in done]
    out = near(rest) if near is not None and rest else np.zeros(len(rest), bool)
    left = [text for text, sealed in zip(rest, out.tolist(), strict=True) if not sealed]
    if not left:
        raise InputError(
            f"no text is left to ask for: {len(texts)} given, {len(set(texts) & done)} of them "
            f"have a label, {int(out.sum())} are nearly sealed rows. Give others by --unlabeled."
        )
    some = _sample(left)
    shares = _shares(model, some, progress)
    # imported here: scikit-learn takes seconds
    from mendel.train.few.ask import most_useful
    from mendel.train.few.view import latent

    progress("comparing texts", 0.9)
    chosen = most_useful(shares, latent(some, seed=0), n).tolist()
    items = _items(model, [some[i] for i in chosen])
    progress("done", 1.0)
    return Asked(items, len(left), int(out.sum()))


def near_sealed(
    project: Path, ledger: Ledger
) -> tuple[tuple[str, ...], Callable[[Sequence[str]], NDArray[np.bool_]] | None]:
    """The texts that the project has learnt from, and who says what is nearly sealed.

    returns   nothing of either where the run that made it is not here
    """
    run = Run.that_made(ledger, project)
    if run is None or not (run.folder / "inputs.json").exists():
        return (), None
    sealed = Sealed(run.spec.sealed, run.spec.n_sealed)
    return Rows.load(run.folder).texts, lambda texts: Vault(ledger).near(sealed, texts)


def _sample(texts: list[str]) -> list[str]:
    if len(texts) <= MOST:
        return texts
    kept = np.sort(np.random.default_rng(0).choice(len(texts), MOST, replace=False))
    return [texts[i] for i in kept.tolist()]


def _shares(
    model: Any, texts: Sequence[str], progress: Callable[[str, float], None]
) -> NDArray[np.float64]:
    """(n, K) of the labels; of a task with several (n, 2) of the label that is least clear."""
    found = []
    for begin in range(0, len(texts), 256):
        outputs = model.outputs(texts[begin : begin + 256])
        if model.agent["kind"] == "classify":
            found.append(model.decoder.probabilities(outputs))
        else:
            p = 1 / (1 + np.exp(-np.abs(outputs - model.decoder.cuts).min(1).astype(np.float64)))
            found.append(np.stack([p, 1 - p], 1))
        progress("asking the model", 0.9 * min(begin + 256, len(texts)) / len(texts))
    return np.concatenate(found)


def _items(model: Any, texts: Sequence[str]) -> tuple[Item, ...]:
    if model.agent["kind"] == "classify":
        answers = model.predict(texts, top=N_ALTERNATIVES)
        return tuple(
            Item(text, answer.top[0][0], tuple(label for label, _ in answer.top))
            for text, answer in zip(texts, answers, strict=True)
        )
    return tuple(
        Item(text, written(answer.labels), tuple(_likeliest(answer.probabilities)))
        for text, answer in zip(texts, model.predict(texts), strict=True)
    )


def _likeliest(probabilities: dict[str, float]) -> list[str]:
    return sorted(probabilities, key=lambda label: -probabilities[label])[:N_ALTERNATIVES]


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
        label = squeezed(plain_cell(cell))
        if not label:
            n_empty += 1
            continue
        try:
            found.append((clean_text(plain_cell(text), number, log), reading.cell(label)))
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

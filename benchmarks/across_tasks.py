"""The tasks of `benchmarks/across.py`: five small ones of different kinds, and a new one.

Public data into CSV files of a text and a label; training files only.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

Pair = tuple[str, str]  # text, label


def other_tasks(data: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """A description and a file each."""
    clinc = json.loads((data / "clinc150/data_full.json").read_text(encoding="utf-8"))["train"]
    labels = sorted({label for _, label in clinc})
    random.Random(0).shuffle(labels)
    half = [(text, label) for text, label in clinc if label in labels[:80]]
    few = [(text, label) for text, label in clinc if label in labels[80:104]]
    tasks = (
        ("Route questions to an assistant", "intents80", _some(half, 30)),
        ("Tell two dozen requests apart", "intents24", _some(few, 100)),
        ("Which of seven voice commands is it?", "commands", _some(_snips(data), 350)),
        ("Which country is a forename from?", "names", _names(data)),
        ("Does a message name anybody or anything?", "messages", _some(_messages(data), 1_200)),
    )
    for words, name, pairs in tasks:
        yield words, _write(folder / f"{name}.csv", pairs)


def new_task(data: Path, folder: Path, n: int) -> Path:
    """BANKING77, n rows of each intent."""
    with (data / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    return _write(folder / f"banking{n}.csv", _some(pairs, n))


def _some(pairs: Sequence[Pair], n: int) -> list[Pair]:
    """At most n of each label, the same ones every time."""
    by_label: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_label.setdefault(pair[1], []).append(pair)
    chance = random.Random(0)
    return [
        pair
        for label in sorted(by_label)
        for pair in chance.sample(by_label[label], min(n, len(by_label[label])))
    ]


def _snips(data: Path) -> list[Pair]:
    folder = data / "snips_slots/train"
    texts = (folder / "seq.in").read_text(encoding="utf-8").splitlines()
    labels = (folder / "label").read_text(encoding="utf-8").splitlines()
    return list(zip(texts, labels, strict=True))


def _names(data: Path) -> list[Pair]:
    """Countries with 39 names or more."""
    file = data / "names_by_country/common-forenames-by-country.csv"
    with file.open(encoding="utf-8-sig", newline="") as rows:
        pairs = [(row["Romanized Name"], row["Country"]) for row in csv.DictReader(rows)]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair[0].strip()]
    counts = Counter(country for _, country in pairs)
    return [pair for pair in pairs if counts[pair[1]] >= 39]


def _messages(data: Path) -> list[Pair]:
    text = (data / "wnut17/wnut17train.conll").read_text(encoding="utf-8")
    found = []
    for block in text.split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line.strip()]
        if rows:
            words = " ".join(row[0] for row in rows)
            found.append((words, "none" if all(row[-1] == "O" for row in rows) else "some"))
    return found


def _write(file: Path, pairs: Sequence[Pair]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as rows:
        writer = csv.writer(rows)
        writer.writerow(("text", "label"))
        writer.writerows(pairs)
    return file

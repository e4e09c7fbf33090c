"""The tasks of `benchmarks/design.py --full`: public data into the files that users have.

Each task is one run of `mendel design` in a process of its own; its test file is sealed and opened
once, after the model is packed. Peers answer the same sealed rows: the baselines of the report,
TF-IDF + LinearSVC for labels, a CRF on hand-made features for spans.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Row = dict[str, str]


@dataclass(frozen=True)
class Task:
    """What to run, and what it must reach.

    files    written for it: flag -> path
    must     of the score, in %; aim likewise
    draws    runs, each with its own seed and, where rows are few, its own rows
    """

    name: str
    words: str
    files: dict[str, Path]
    flags: list[str] = field(default_factory=list)
    must: float | None = None
    aim: float | None = None
    draws: int = 1

    @property
    def kind(self) -> str:
        return self.flags[self.flags.index("--kind") + 1] if "--kind" in self.flags else "classify"


def tasks(data: Path, folder: Path, seed: int) -> Iterator[Task]:
    """Those whose data is there; files are made in `folder`."""
    yield from _banking77(data / "banking77", folder, seed)
    if (data / "clinc150").exists():
        yield _clinc150(data / "clinc150", folder)
    if (data / "snips_slots").exists():
        place = data / "snips_slots"
        files = {"--data": place / "train", "--test": place / "test"}
        words = "Find the slots of a voice command"
        yield Task("snips", words, files, ["--kind", "tag"], 93.4, 96)
        files = {
            "--data": _intents(place, "train", folder),
            "--test": _intents(place, "test", folder),
        }
        yield Task("snips intents", "Tell what a voice command asks for", files)
    if (data / "wnut17").exists():
        yield from _wnut17(data, folder)
    if (data / "names_by_country").exists():
        yield _countries(data / "names_by_country", folder)


def _banking77(data: Path, folder: Path, seed: int) -> Iterator[Task]:
    if not data.exists():
        return
    with (data / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    test, words = data / "test.csv", "Route bank customers' questions to the right intent"
    files = {"--data": data / "train.csv", "--test": test}
    yield Task("banking77", words, files, ["--max-latency", "2ms"], 91.8, 93, 3)
    large = ["--max-latency", "12ms", "--max-params", "20M", "--max-size", "30MB"]
    yield Task("banking77, large", words, files, large, 92.5, 93.7)
    for n, must, aim in ((5, 68, 72), (10, 76, 80), (20, 82, 85)):
        few, rest = _few(rows, n, seed)
        labelled, unlabeled = folder / f"few{n}.csv", folder / f"rest{n}.txt"
        _write_csv(labelled, few)
        unlabeled.write_text("".join(" ".join(r["text"].split()) + "\n" for r in rest), "utf-8")
        files = {"--data": labelled, "--test": test, "--unlabeled": unlabeled}
        yield Task(f"banking77 {n} a class", words, files, ["--max-latency", "2ms"], must, aim, 3)
    for n, must, aim in ((5, 81, 83.5), (10, 85.5, 88), (20, 88, 90)):
        files = {
            "--data": folder / f"few{n}.csv",
            "--test": test,
            "--unlabeled": folder / f"rest{n}.txt",
        }
        flags = ["--max-latency", "2ms", "--teacher", "auto"]
        yield Task(f"banking77 {n} a class, teacher", words, files, flags, must, aim, 3)


def _few(rows: list[Row], n: int, seed: int) -> tuple[list[Row], list[Row]]:
    chance = random.Random(seed)
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row["category"], []).append(row)
    few = [row for label in sorted(by_label) for row in chance.sample(by_label[label], n)]
    chosen = {id(row) for row in few}
    return few, [row for row in rows if id(row) not in chosen]


def _write_csv(file: Path, rows: list[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _clinc150(data: Path, folder: Path) -> Task:
    """Validation rows are trained on as well; the threshold is fitted out of fold."""

    told = json.loads((data / "data_full.json").read_text(encoding="utf-8"))

    def read(name: str) -> list[Row]:
        return [{"text": text, "label": label} for text, label in told[name]]

    train, test = folder / "clinc.csv", folder / "clinc_test.csv"
    _write_csv(train, [*read("train"), *read("val"), *read("oos_train"), *read("oos_val")])
    _write_csv(test, [*read("test"), *read("oos_test")])
    flags = ["--outside-label", "oos", "--max-latency", "2ms"]
    files = {"--data": train, "--test": test}
    return Task("clinc150", "Tell what a user asks an assistant for", files, flags, 92.7, 93.2)


def _intents(data: Path, part: str, folder: Path) -> Path:
    texts, labels = (_lines(data / part / name) for name in ("seq.in", "label"))
    file = folder / f"snips_{part}.csv"
    _write_csv(file, [{"text": x, "label": y} for x, y in zip(texts, labels, strict=True)])
    return file


def _countries(data: Path, folder: Path) -> Task:
    """Surnames as they are written in Latin letters; of every five rows one is for the test."""
    with (data / "common-surnames-by-country.csv").open(encoding="utf-8-sig", newline="") as file:
        told = list(csv.DictReader(file))
    rows = [{"text": row["Romanized Name"], "label": row["Country"]} for row in told]
    rows = [row for row in rows if row["text"].strip()]
    random.Random(0).shuffle(rows)
    train, test = folder / "countries.csv", folder / "countries_test.csv"
    _write_csv(train, [row for i, row in enumerate(rows) if i % 5])
    _write_csv(test, rows[::5])
    files = {"--data": train, "--test": test}
    return Task("country of a surname", "Guess the country of a surname", files)


def _wnut17(data: Path, folder: Path) -> Iterator[Task]:
    place, words = data / "wnut17", "Find names in noisy posts"
    train, dev = place / "wnut17train.conll", place / "emerging.dev.conll"
    test = place / "emerging.test.annotated"
    files = {"--data": train, "--validation": dev, "--test": test}
    files["--unlabeled"] = _plain_english(data, folder)
    flags = ["--kind", "tag", *_gazetteers(data, folder)]
    yield Task("wnut17, train", words, files, flags, 25, 29)
    yield Task("wnut17, train + dev", words, files, [*flags, "--learn-validation"], 29, 36)


def _plain_english(data: Path, folder: Path) -> Path:
    """Every text at hand in English, without its labels: stories, plays, questions, commands."""
    texts = _lines(data / "tinystories_sample/tinystories_sample.txt")
    texts += _lines(data / "tinyshakespeare/input.txt")
    told = json.loads((data / "clinc150/data_full.json").read_text(encoding="utf-8"))
    texts += [text for part in ("train", "oos_train") for text, _ in told[part]]
    with (data / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        texts += [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    texts += _lines(data / "snips_slots/train/seq.in")
    file = folder / "plain_english.txt"
    file.write_text("\n".join(texts) + "\n", "utf-8")
    return file


def _gazetteers(data: Path, folder: Path) -> list[str]:
    with (data / "world_cities/world-cities.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lists: dict[str, Callable[[], list[str]]] = {
        "cities": lambda: [row["name"] for row in rows],
        "countries": lambda: sorted({row["country"] for row in rows}),
        "forenames": lambda: _lines(data / "person_place_names/first-names.txt"),
        "surnames": lambda: _lines(data / "person_place_names/names.txt"),
        "places": lambda: _lines(data / "person_place_names/places.txt"),
    }
    flags = []
    for name, read in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(read()) + "\n", "utf-8")
        flags += ["--gazetteer", f"{name}={folder / name}.txt"]
    return flags


def _lines(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]

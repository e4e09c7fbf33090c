"""Train the model again on your data, by the recipe in model.safetensors: a new project in --out.

    pip install -r requirements-train.txt
    python train.py --data labelled.csv --out ../retrained

A share of the rows is held out first, to measure accuracy and to set the temperature; the model
that is written has then learned from all rows. The threshold and the example texts stay.
Same data, seed, machine and versions: same model.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textmodel.export import Agent, dequantised, training_logits, write_card, write_model
from textmodel.features import words
from textmodel.fit import Examples, fit
from textmodel.recipe import Recipe
from textmodel.store import unpack

HERE = Path(__file__).resolve().parent
CODE = (
    *("predict.py", "train.py", "serve.py", "benchmark.py", "tests/test_model.py", "pytest.ini"),
    *("requirements.txt", "requirements-train.txt", "requirements-serve.txt"),
    *(
        "requirements-test.txt",
        "Dockerfile",
        ".dockerignore",
        "ruff.toml",
        "README.md",
        "card.md.j2",
    ),
)
HELD_OUT = 5  # one row in so many
FEW = 50  # held-out rows below which an accuracy is not to be relied on


class DataError(ValueError):
    """The file is not what was asked for."""


@dataclass(frozen=True)
class Score:
    """Accuracy on the rows held out, and the temperature that suits them best."""

    n: int
    n_right: int
    temperature: float

    def facts(self) -> dict[str, Any]:
        low, high = wilson(self.n_right, self.n)
        return {
            "accuracy": self.n_right / self.n,
            "95 % interval": [low, high],
            "held-out rows": self.n,
            "note": "one random split; near-duplicates in the data make it look better",
            "standing": "UNVERIFIED: "
            + (f"fewer than {FEW} rows; " if self.n < FEW else "")
            + "whether the rows come from real use is not known here",
        }


def read_rows(file: Path, text_column: str, label_column: str) -> list[tuple[str, str]]:
    """(text, label) of each row that has both."""
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    try:
        rows = list(_objects(file, content))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file}: {error}") from None
    found = {name for row in rows for name in row if name is not None}
    for column in (text_column, label_column):
        if column not in found:
            names = ", ".join(sorted(found))
            raise DataError(f"{file} has no column {column!r}. It has: {names or 'nothing'}.")
    pairs = [
        (_string(row.get(text_column)), _string(row.get(label_column)).strip()) for row in rows
    ]
    pairs = [(text, label) for text, label in pairs if text.strip() and label]
    if len({label for _, label in pairs}) < 2:
        raise DataError(f"{file} has rows of fewer than two labels.")
    return pairs


def _objects(file: Path, content: str) -> list[Mapping[str, Any]]:
    if file.suffix.lower() not in (".jsonl", ".ndjson"):
        csv.field_size_limit(max(len(content), 1))
        return list(csv.DictReader(io.StringIO(content, newline="")))
    rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("wanted one JSON object a line")
    return rows


def _string(value: object) -> str:
    return "" if value is None else str(value)


def held_out(texts: list[str], labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which rows: about a fifth of each label; equal texts stay together."""
    chance = np.random.default_rng(seed)
    chosen = np.zeros(len(texts), bool)
    keys = [" ".join(words(text)) for text in texts]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    for label in np.unique(labels):
        own = [i for key, i in first.items() if labels[i] == label]
        chosen[chance.permutation(own)[: len(own) // HELD_OUT]] = True
    return np.array([chosen[first[key]] for key in keys], bool)


def measure(recipe: Recipe, data: Examples, seed: int, int8: bool) -> Score | None:
    """Train on four fifths, measure on the rest; None where too few rows are left."""
    out = held_out(list(data.texts), data.labels, seed)
    if not out.any() or len(np.unique(data.labels[~out])) < 2:
        return None
    kept = [text for text, gone in zip(data.texts, out, strict=True) if not gone]
    trained = fit(recipe, Examples(kept, data.labels[~out], data.names), seed=seed)
    tested = [text for text, gone in zip(data.texts, out, strict=True) if gone]
    logits = training_logits(dequantised(trained) if int8 else trained, tested)
    labels = data.labels[out]
    n_right = int((logits.argmax(1) == labels).sum())
    return Score(len(tested), n_right, best_temperature(logits.astype(np.float64), labels))


def best_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Of 200 between 0.05 and 20, the one under which the labels are most likely."""

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        own = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(1)) - own).mean())

    return min((float(t) for t in np.geomspace(0.05, 20, 200)), key=loss)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, Wilson 1927."""
    z = 1.959964
    middle = (k + z * z / 2) / (n + z * z)
    half = z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def retrain(pairs: list[tuple[str, str]], source: str, seed: int) -> Agent:
    """The new agent: recipe, threshold, int8, task and examples are those of this project."""
    old = json.loads((HERE / "agent.json").read_bytes())
    recipe = unpack((HERE / "model.safetensors").read_bytes()).recipe
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    names = tuple(sorted(set(labels)))
    data = Examples(texts, np.array([names.index(label) for label in labels], np.int64), names)
    score = measure(recipe, data, seed, old["int8"])
    counts = {"rows": len(pairs), "labels": len(names), "seed": seed}
    return Agent(
        trained=fit(recipe, data, seed=seed),
        int8=old["int8"],
        labels=names,
        temperature=score.temperature if score else old["temperature"],
        threshold=old["threshold"],
        task=old["task"],
        examples=tuple(json.loads((HERE / "golden.json").read_bytes())["texts"]),
        provenance=f"trained again by train.py from {source}",
        card={"scores": score.facts() if score else "not measured: too few rows", "data": counts},
    )


def write_project(agent: Agent, folder: Path) -> None:
    """A whole project beside its final place, then renamed: complete or not there at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        partial.chmod(0o755)
        for name in CODE:
            (partial / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(HERE / name, partial / name)
        shutil.copytree(HERE / "textmodel", partial / "textmodel", ignore=_not_source)
        write_model(agent, partial)
        write_card(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _not_source(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the model again on your data.")
    parser.add_argument("--data", type=Path, required=True, help="CSV, or JSON lines in .jsonl")
    parser.add_argument("--text-column", default="text", help="(text)")
    parser.add_argument("--label-column", default="label", help="(label)")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out} exists already: name a new folder", file=sys.stderr)
        return 2
    try:
        pairs = read_rows(args.data, args.text_column, args.label_column)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    n_labels = len(Counter(label for _, label in pairs))
    print(f"{len(pairs):,} rows, {n_labels} labels", file=sys.stderr)
    agent = retrain(pairs, args.data.name, args.seed)
    write_project(agent, args.out.absolute())
    print(json.dumps({"out": str(args.out), **agent.card}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

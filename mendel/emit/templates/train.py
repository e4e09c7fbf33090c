"""Train the model again on your data, by the recipe in model.safetensors: a new project in --out.

    pip install -r requirements-train.txt
    python train.py --data labelled.csv --out ../retrained

A share of the rows is held out first, to measure and to set what answering needs; the model that
is written has then learned from all rows. What is not measured anew stays, and so do the examples.
Same data, seed, machine and versions: same model.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import learning
from answers import SIGNATURE
from shipping import Agent, write_card, write_model

HERE = Path(__file__).resolve().parent
PACKAGE = learning.export.__name__.split(".")[0]  # of the model's own code
CODE = (
    *(
        "predict.py",
        "answers.py",
        "explain.py",
        "train.py",
        "learning.py",
        "shipping.py",
        "conformal.py",
        "serve.py",
    ),
    *("benchmark.py", "tests/test_model.py", "tests/test_answers.py", "pytest.ini"),
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
OF_SOME_KINDS = ("behaviour.py", "tests/test_behaviour.py", "tests/test_explain.py")
HELD_OUT = 5  # one row in so many
FEW = 50  # held-out rows below which an accuracy is not to be relied on


class DataError(ValueError):
    """The file is not what was asked for."""


def read_rows(file: Path, text_column: str, target_column: str) -> list[tuple[str, Any]]:
    """(text, target) of each row that has both."""
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    try:
        rows = list(_objects(file, content))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file}: {error}") from None
    found = {name for row in rows for name in row if name is not None}
    for column in (text_column, target_column):
        if column not in found:
            names = ", ".join(sorted(found))
            raise DataError(f"{file} has no column {column!r}. It has: {names or 'nothing'}.")
    pairs = [(_string(row.get(text_column)), row.get(target_column)) for row in rows]
    try:
        read = [(text, learning.target_of(cell)) for text, cell in pairs if text.strip()]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file}, column {target_column!r}: {error}") from None
    kept = [(text, target) for text, target in read if target is not None]
    fault = learning.fault([target for _, target in kept])
    if fault:
        raise DataError(f"{file} {fault}")
    return kept


def _objects(file: Path, content: str) -> list[Mapping[str, Any]]:
    if file.suffix.lower() == ".txt":
        return [{"text": line} for line in content.split("\n")]
    if file.suffix.lower() not in (".jsonl", ".ndjson"):
        csv.field_size_limit(max(len(content), 1))
        return list(csv.DictReader(io.StringIO(content, newline="")))
    rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("wanted one JSON object a line")
    return rows


def _string(value: object) -> str:
    return "" if value is None else str(value)


def held_out(texts: list[str], strata: list[str], seed: int) -> list[bool]:
    """Which rows: about a fifth of each stratum; equal texts stay together."""
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    keys = [" ".join(text.lower().split()) for text in texts]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    of_stratum: dict[str, list[int]] = {}
    for i in order:
        if first[keys[i]] == i:
            of_stratum.setdefault(strata[i], []).append(i)
    chosen = {i for own in of_stratum.values() for i in own[: len(own) // HELD_OUT]}
    return [first[key] in chosen for key in keys]


def measured(
    recipe: Any, rows: list[tuple[str, Any]], names: tuple[str, ...], seed: int, int8: bool
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Settings and facts of a model of four fifths on the rest; None where too few are left."""
    out = held_out([t for t, _ in rows], [learning.stratum(t) for _, t in rows], seed)
    kept = [row for row, gone in zip(rows, out, strict=True) if not gone]
    tested = [row for row, gone in zip(rows, out, strict=True) if gone]
    if not tested or learning.fault([target for _, target in kept]):
        return None
    trained = learning.fit(recipe, learning.examples(kept, names), seed=seed)
    settings, facts = learning.measure(trained, int8, tested, names)
    standing = (f"fewer than {FEW} rows; " if len(tested) < FEW else "") + (
        "whether the rows come from real use is not known here"
    )
    return settings, {
        **facts,
        "held-out rows": len(tested),
        "note": "one random split; near-duplicates in the data make it look better",
        "standing": f"UNVERIFIED: {standing}",
    }


def retrain(rows: list[tuple[str, Any]], source: str, seed: int) -> Agent:
    """The new agent: recipe, int8, task and examples are those of this project."""
    old = json.loads((HERE / "agent.json").read_bytes())
    recipe = learning.unpack((HERE / "model.safetensors").read_bytes()).recipe
    names = learning.names_of([target for _, target in rows])
    found = measured(recipe, rows, names, seed, old["int8"])
    settings, scores = found or (learning.unmeasured(names), "not measured: too few rows")
    return Agent(
        kind=old["kind"],
        trained=learning.fit(recipe, learning.examples(rows, names), seed=seed),
        int8=old["int8"],
        labels=names,
        settings={**old["settings"], **settings},
        task=old["task"],
        examples=tuple(json.loads((HERE / "golden.json").read_bytes())["texts"]),
        provenance=f"trained again by train.py from {source}",
        card={
            "scores": scores,
            "data": {"rows": len(rows), "labels": len(names), "seed": seed},
        },
    )


def write_project(agent: Agent, folder: Path) -> None:
    """A whole project beside its final place, then renamed: complete or not there at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        partial.chmod(0o755)
        for name in [*CODE, *(name for name in OF_SOME_KINDS if (HERE / name).exists())]:
            (partial / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(HERE / name, partial / name)
        shutil.copytree(HERE / PACKAGE, partial / PACKAGE, ignore=_not_source)
        write_model(agent, learning.export, SIGNATURE, partial)
        write_card(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _not_source(folder: str, names: list[str]) -> list[str]:
    """What is no code; folders of code have no suffix."""
    return [n for n in names if Path(n).suffix not in ("", ".py") or n == "__pycache__"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the model again on your data.")
    takes_more = hasattr(learning, "add_flags")  # a search may be given documents instead of rows
    needed = {"required": not takes_more}
    parser.add_argument("--data", type=Path, help="CSV, or JSON lines in .jsonl", **needed)
    if takes_more:
        learning.add_flags(parser)
    parser.add_argument("--text-column", default="text", help="(text)")
    column = learning.COLUMN
    parser.add_argument("--label-column", default=column, help=f"({column})")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out} exists already: name a new folder", file=sys.stderr)
        return 2
    try:
        if takes_more:
            learning.take(args)
        rows = read_rows(args.data, args.text_column, args.label_column) if args.data else []
    except ValueError as error:  # DataError is one
        print(error, file=sys.stderr)
        return 2
    print(f"{len(rows):,} rows", file=sys.stderr)
    source = " and ".join(path.name for path in (args.data, getattr(args, "docs", None)) if path)
    agent = retrain(rows, source, args.seed)
    write_project(agent, args.out.absolute())
    print(json.dumps({"out": str(args.out), **agent.card}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

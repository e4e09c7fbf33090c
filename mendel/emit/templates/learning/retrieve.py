"""How this model learns: queries and the passages that answer them. Used by train.py alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from searchmodel import export
from searchmodel.documents import read_documents
from searchmodel.fit import Examples, Trained, fit
from searchmodel.passages import Passage
from searchmodel.store import unpack
from searchmodel.twin import dequantised, training_scores

__all__ = ["COLUMN", "add_flags", "examples", "export", "fault", "fit", "measure", "names_of",
           "stratum", "take", "target_of", "unmeasured", "unpack"]  # fmt: skip

COLUMN = "file"  # where targets stand
DEPTH = 10
Row = tuple[str, list[int]]
FOLDERS: list[Path] = []  # of documents, where train.py was given one


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--docs", type=Path, help="folder of documents in place of the old ones")


def take(args: argparse.Namespace) -> None:
    """Raises ValueError where there is nothing to learn from."""
    if args.docs is None and args.data is None:
        raise ValueError("nothing to learn from. Wanted --data, or --docs, or both.")
    if args.docs is not None:
        FOLDERS.append(args.docs)
        if not passages():
            raise ValueError(f"{args.docs} has no document (.txt .md .rst .html) with a word in it")


@cache
def passages() -> tuple[Passage, ...]:
    """Of the folder that was given, else those that the project has."""
    if FOLDERS:
        return read_documents(FOLDERS[-1]).passages
    weights = Path(__file__).resolve().with_name("model.safetensors").read_bytes()
    return unpack(weights).featurizer.passages


def target_of(cell: object) -> list[int] | None:
    """A file's name, or numbers of passages as predict.py gives them, also as JSON."""
    if cell is None or cell == "":
        return None
    given = json.loads(cell) if isinstance(cell, str) and cell.startswith("[") else cell
    if isinstance(given, list):
        found = sorted(int(number) for number in given)
        if not found or not 0 <= found[0] <= found[-1] < len(passages()):
            raise ValueError(f"{cell!r}: wanted numbers of passages, 0 to {len(passages()) - 1}")
        return found
    found = [i for i, passage in enumerate(passages()) if passage.file == str(given)]
    if not found:
        raise ValueError(f"{given!r} is none of the documents")
    return found


def fault(targets: Sequence[Sequence[int]]) -> str | None:
    return None if targets else "has no row."


def stratum(target: Sequence[int]) -> str:
    return ""


def names_of(targets: Sequence[Sequence[int]]) -> tuple[str, ...]:
    return ()


def examples(rows: Sequence[Row], names: Sequence[str]) -> Examples:
    return Examples([text for text, _ in rows], [target for _, target in rows], passages())


def unmeasured(names: Sequence[str]) -> dict[str, Any]:
    """The share of BM25 stays as it was."""
    return {}


def measure(
    trained: Trained, int8: bool, rows: Sequence[Row], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The share of BM25 with the highest MRR@10, the largest of equal ones."""
    model = dequantised(trained) if int8 else trained
    scores = training_scores(model, [text for text, _ in rows]).astype(np.float64)
    found = []
    for share in np.linspace(0, 1, 11):
        mixed = share * scores[:, 0] + (1 - share) * scores[:, -1]
        ranks = [
            _reciprocal_rank(m, set(target)) for m, (_, target) in zip(mixed, rows, strict=True)
        ]
        found.append((float(np.mean(ranks)), round(float(share), 2)))
    best, share = max(found)
    return {"bm25_share": share}, {"MRR@10, of the best share on these rows": best}


def _reciprocal_rank(scores: Any, right: set[int]) -> float:
    places = np.argsort(-scores, kind="stable")[:DEPTH].tolist()
    ranks = (n for n, i in enumerate(places, 1) if i in right and scores[i] > 0)
    return 1 / next(ranks, float("inf"))

"""Rows to choose by: those of --validation, beside the rows to learn from.

Where a model will meet text of another kind than its rows, folds of the rows prefer what remembers;
rows like those that it will meet choose better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design.request import Request
from mendel.clocks.design.seal import Split
from mendel.data.readers import Examples, read_examples
from mendel.data.splits import assign_folds, near_duplicate_groups
from mendel.data.tables import Fault
from mendel.data.vault import Vault
from mendel.kinds import Kind
from mendel.train.folds import ALWAYS, Rows
from mendel.types import InputError

MIN_ROWS = 20
NO_TABLE = ("retrieve", "generate")


def read_validation(request: Request, kind: Kind, data: Examples) -> Examples | None:
    """The rows of --validation that no row to learn from says nearly.

    raises   InputError where too few are left, or one has a label that no other row has
    """
    if request.validation is None:
        if request.learn_validation:
            raise InputError("--learn-validation has nothing to learn from. Give --validation.")
        return None
    if kind.name in NO_TABLE:
        raise InputError(f"--validation is for rows with answers. Got kind {kind.name}.")
    found = read_examples(
        request.validation,
        kind=data.kind,
        text_column=request.text_column,
        second_column=request.second_column,
        label_column=request.label_column,
        joins=True,
    )
    _, told = kind.told(data, found)
    assert told is not None
    n = len(data.texts)
    groups = near_duplicate_groups([*data.texts, *told.texts])
    near = np.isin(groups[n:], groups[:n])
    inside = [target != request.outside_label for target in told.targets]
    rows = _only(told, np.array(inside, bool) & ~near)
    if len(rows.texts) < MIN_ROWS:
        raise InputError(
            f"{request.validation} has {len(rows.texts)} rows to choose by, besides "
            f"{int(near.sum())} that {request.data} says nearly. Wanted at least {MIN_ROWS}. "
            "Add rows."
        )
    _check_labels(request, kind, data, rows)
    own = [replace(fault, kind=f"validation: {fault.kind}") for fault in found.faults]
    if near.any():
        note = "left out: what training has nearly tells little"
        places = tuple((np.flatnonzero(near)[:5] + 1).tolist())
        own.append(Fault("validation row nearly in the data", int(near.sum()), places, note))
    return replace(rows, faults=tuple(own))


def _check_labels(request: Request, kind: Kind, data: Examples, rows: Examples) -> None:
    known = kind.names(data.targets)
    new = [name for name in kind.names(rows.targets) if name not in known]
    if new and not request.learn_validation:
        raise InputError(
            f"{request.validation} has the label {new[0]!r}, which no row of {request.data} has. "
            "Wanted labels of the data. Correct it, or learn from these rows: --learn-validation."
        )


def rows_of(
    split: Split, labels: Sequence[str], rows: Examples, kind: Kind, folds: int, vault: Vault
) -> Rows:
    """Rows that every round learns from, and behind them those that choose.

    folds   of the rows that choose; with one they are never learned from
    """
    rows = _only(rows, ~vault.near(split.sealed, rows.texts))
    groups = near_duplicate_groups(rows.texts)
    n, n_more = len(split.texts), len(rows.texts)
    of = np.full(n + n_more, ALWAYS, np.int64)
    aside = None
    if folds == 1:
        of[n:] = 0
        aside = np.arange(n + n_more) >= n
    else:
        of[n:] = assign_folds(kind.strata(rows.targets), groups, n_folds=folds, seed=0)
    texts, targets = (*split.texts, *rows.texts), (*split.targets, *rows.targets)
    return Rows(texts, targets, tuple(labels), of, split.inputs, aside=aside)


def _only(data: Examples, chosen: NDArray[np.bool_]) -> Examples:
    places = np.flatnonzero(chosen).tolist()
    targets = tuple(data.targets[i] for i in places)
    besides = {name: tuple(cells[i] for i in places) for name, cells in data.besides.items()}
    texts = tuple(data.texts[i] for i in places)
    return replace(data, texts=texts, targets=targets, besides=besides)

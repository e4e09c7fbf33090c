"""Rows to choose by: those of --validation, beside the rows to learn from.

Where a model will meet text of another kind than its rows, folds of the rows prefer what remembers;
rows like those that it will meet choose better.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design.request import Plan, Request
from mendel.clocks.design.seal import Split
from mendel.data.readers import Examples
from mendel.data.splits import assign_folds, near_duplicate_groups
from mendel.data.tables import Fault
from mendel.kinds import Kind
from mendel.train.folds import ALWAYS, Rows
from mendel.types import InputError

MIN_ROWS = 20
NOTES = {
    "the data": "left out: what training has nearly tells little",
    "the test file": "left out: nothing is chosen by what is sealed",
}


def rows_to_choose_by(
    request: Request, kind: Kind, found: Examples, data: Examples, test: Examples | None
) -> Examples:
    """The rows of --validation that neither the data nor the test file says nearly.

    found    as they were read
    raises   InputError where too few are left, or one has a label that no other row has
    """
    near = {"the data": _near(found, data)}
    if test is not None:
        near["the test file"] = _near(found, test) & ~near["the data"]
    inside = np.array([target != request.outside_label for target in found.targets], bool)
    left_out = np.any(list(near.values()), 0)
    rows = found.only(np.flatnonzero(inside & ~left_out).tolist())
    if len(rows.texts) < MIN_ROWS:
        raise InputError(
            f"{request.validation} has {len(rows.texts)} rows to choose by, besides "
            f"{int(left_out.sum())} that data or test say nearly. Wanted at least {MIN_ROWS}. "
            "Add rows."
        )
    _check_labels(request, kind, data, rows)
    own = [replace(fault, kind=f"validation: {fault.kind}") for fault in found.faults]
    for whose, which in near.items():
        if which.any():
            places = tuple((np.flatnonzero(which)[:5] + 1).tolist())
            fault = f"validation row nearly in {whose}"
            own.append(Fault(fault, int(which.sum()), places, NOTES[whose]))
    return replace(rows, faults=tuple(own))


def _near(found: Examples, others: Examples) -> NDArray[np.bool_]:
    groups = near_duplicate_groups([*others.texts, *found.texts])
    n = len(others.texts)
    return np.isin(groups[n:], groups[:n])


def _check_labels(request: Request, kind: Kind, data: Examples, rows: Examples) -> None:
    known = kind.names(data.targets)
    new = [name for name in kind.names(rows.targets) if name not in known]
    if new and not request.learn_validation:
        raise InputError(
            f"{request.validation} has the label {new[0]!r}, which no row of {request.data} has. "
            "Wanted labels of the data. Correct it, or learn from these rows: --learn-validation."
        )


def rows_of(plan: Plan, split: Split, rows: Examples, n_folds: int) -> Rows:
    """Rows that every round learns from, and behind them those that choose."""
    n, n_more, request = len(split.texts), len(rows.texts), plan.request
    folds = np.full(n + n_more, ALWAYS, np.int64)
    strata, groups = plan.kind.strata(rows.targets), near_duplicate_groups(rows.texts)
    folds[n:] = 0
    if n_folds > 1:
        folds[n:] = assign_folds(strata, groups, n_folds=n_folds, seed=request.seed)
    aside = None if request.learn_validation else np.arange(n + n_more) >= n
    texts, targets = (*split.texts, *rows.texts), (*split.targets, *rows.targets)
    return Rows(texts, targets, plan.labels, folds, split.inputs, aside=aside)

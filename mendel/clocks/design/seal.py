"""Which rows are sealed: those of the test file, or a share; and what may be learnt from then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design.request import Plan
from mendel.data.splits import holdout, near_duplicate_groups
from mendel.data.vault import Sealed, Vault
from mendel.ledger import Ledger
from mendel.train.folds import Inputs
from mendel.types import InputError

Item = TypeVar("Item")
SEALED_SHARE = 0.15  # of the data, where no test file is given


@dataclass(frozen=True)
class Split:
    """The rows to learn from; the others are in the vault."""

    texts: list[str]
    targets: list[Any]
    groups: NDArray[np.int64]  # of near-duplicates
    inputs: Inputs  # to learn from: what is nearly sealed is not among them
    sealed: Sealed
    near: tuple[int, ...]  # sealed rows, by place, that have a near-duplicate here


def seal(plan: Plan, ledger: Ledger) -> Split:
    """Put the test rows into the vault: those of the test file, or a share of the data."""
    texts, targets = list(plan.data.texts), list(plan.data.targets)
    if plan.again is not None:  # what was sealed before is sealed now, and no more than that
        groups = near_duplicate_groups(texts)
        return Split(texts, targets, groups, plan.inputs, plan.again.sealed, plan.again.near)
    test_texts = [] if plan.test is None else list(plan.test.texts)
    groups = near_duplicate_groups([*texts, *test_texts])
    mine = plan.kind.bound(groups[: len(texts)], targets)
    vault = Vault(ledger)
    none = plan.request.outside_label
    if plan.test is not None:
        near = np.flatnonzero(np.isin(groups[len(texts) :], groups[: len(texts)])).tolist()
        wanted = [None if none is not None and t == none else t for t in plan.test.targets]
        given = None in wanted  # the test file has texts without a label of its own
        outside, more = (
            (plan.inputs.outside, ()) if given else _hold_out_outside(plan.inputs.outside)
        )
        sealed_texts = [*test_texts, *more]
        besides = _besides(plan.test.besides, len(more))
        sealed = vault.seal(sealed_texts, [*wanted, *[None] * len(more)], besides)
        inputs = _apart(replace(plan.inputs, outside=outside), sealed_texts)
        return Split(texts, targets, mine, inputs, sealed, tuple(near))
    # from the data, not from --seed: other seeds do not get other test rows to choose among
    strata = np.array(plan.kind.strata(targets), object)
    held = _hold_out(strata, mine, seed=int(plan.data.digest[:8], 16) % 2**31)
    outside, more = _hold_out_outside(plan.inputs.outside)
    wanted = [*_only(targets, held), *[None] * len(more)]
    sealed_texts = [*_only(texts, held), *more]
    cells = {name: _only(column, held) for name, column in plan.data.besides.items()}
    sealed = vault.seal(sealed_texts, wanted, _besides(cells, len(more)))
    near = np.flatnonzero(np.isin(mine[held], mine[~held])).tolist()
    kept = _only(texts, ~held), _only(targets, ~held)
    inputs = _apart(replace(plan.inputs, outside=outside), sealed_texts)
    return Split(*kept, mine[~held], inputs, sealed, tuple(near))


def _besides(columns: Mapping[str, Sequence[str]], n_more: int) -> dict[str, list[str]]:
    """The columns of the sealed rows; texts from another file have nothing in them."""
    return {name: [*cells, *[""] * n_more] for name, cells in columns.items()}


def _apart(inputs: Inputs, sealed: Sequence[str]) -> Inputs:
    """Without texts that are nearly sealed ones; what has no label is not unlabelled."""
    outside = _other_than(inputs.outside, sealed)
    unlabeled = _other_than(inputs.unlabeled, [*sealed, *outside])
    return replace(inputs, outside=outside, unlabeled=unlabeled)


def _other_than(texts: tuple[str, ...], others: Sequence[str]) -> tuple[str, ...]:
    if not texts:
        return texts
    groups = near_duplicate_groups([*others, *texts])
    taken = set(groups[: len(others)].tolist())
    mine = groups[len(others) :].tolist()
    return tuple(t for t, group in zip(texts, mine, strict=True) if group not in taken)


def _hold_out_outside(texts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every fifth is sealed, to say how many are found; equal ones stay together."""
    groups = near_duplicate_groups(texts)
    held = [int(group) % 5 == 4 for group in groups]
    pairs = list(zip(texts, held, strict=True))
    return tuple(t for t, h in pairs if not h), tuple(t for t, h in pairs if h)


def _hold_out(
    labels: NDArray[np.object_], groups: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """The rows to seal: the usual share, more of a set so small that it would give none."""
    for share in (SEALED_SHARE, 0.3, 0.45):
        held = holdout(list(labels), groups, share=share, seed=seed)
        held = _keep_every_label(held, labels, groups)
        if held.any():
            return held
    raise InputError(
        f"{len(labels)} rows leave none to seal: they are near-duplicates of one another, or each "
        "label has too few, or one document answers all. Wanted rows that differ. "
        "Add some, or give a --test file."
    )


def _keep_every_label(
    held: NDArray[np.bool_], labels: NDArray[np.object_], groups: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """A label whose rows were all held out gets them back, near-duplicates with them."""
    gone = set(labels[held]) - set(labels[~held])
    back = np.unique(groups[np.isin(labels.astype(str), sorted(gone))])
    return held & ~np.isin(groups, back)


def _only(items: Sequence[Item], chosen: NDArray[np.bool_]) -> list[Item]:
    return [item for item, keep in zip(items, chosen, strict=True) if keep]

"""A row's output does not depend on the rows beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from mendel.audit.auditor import Auditor

SIZES = (2, 3, 5)
BESIDE = "beside rows a hundred times as large"


def check(a: Auditor) -> None:
    if not a.comparable("batch"):
        return
    for train in (False, True):
        for T in _lengths(a):
            if _at(a, T, train):
                return


def _lengths(a: Auditor) -> list[int]:
    return sorted({a.short, *(a.fits(1, 65, 130) if a.full and not a.wide else a.fits(65))})


def _at(a: Auditor, T: int, train: bool) -> bool:
    """Every way to give a row company; true where one was reported."""
    how = {"train": train, "dropout": False}
    x = a.draw(max(SIZES), T, 100 + T)
    alone = [a.ask(x[i : i + 1], **how).y for i in range(len(x))]
    if any(y is None for y in alone):
        return False
    first = torch.cat([y for y in alone if y is not None])
    for company, name in _companies(a, x):
        answer = a.ask(company, **how)
        if answer.y is None:
            continue  # `shapes` has said so
        n = 3 if name == BESIDE else len(company)
        rows = answer.y.flip(0) if name == "in another order" else answer.y[:n]
        if _disagree(a, x[:n], first[:n], rows, T, train, name):
            return True
    return False


def _companies(a: Auditor, x: Tensor) -> list[tuple[Tensor, str]]:
    beside = [(x[:size], f"in a batch of {size}") for size in SIZES]
    beside.append((x.flip(0), "in another order"))
    loud = x.clone()
    loud[3:] = loud[3:] * 100 if a.spec.kind == "float" else 0
    return [*beside, (loud, BESIDE)]


def _disagree(
    a: Auditor, x: Tensor, alone: Tensor, beside: Tensor, T: int, train: bool, name: str
) -> bool:
    def noise() -> list[Tensor]:
        rows = x.split(1)
        return [torch.cat([a.noise(row, train=train, dropout=False) for row in rows])]

    pair = a.apart(alone, beside, noise, broken=True)
    if pair is None:
        return False
    if not train:
        a.alone = True
    row, at = pair.worst
    a.report(
        "batch",
        f"a row {name} gives another output than alone" + (" in train mode" if train else ""),
        sure=f"row {row} differs by {float(pair.gap.max()):.3g} at position {at}, "
        f"{pair.margin:.2g} times what is noise ({a.dtype})",
        cause=_cause(train),
        reproduce=a.recipe(max(SIZES), T, 100 + T, f"compare row {row} alone and {name}"),
        gap=float(pair.gap.max()),
        floor=float(pair.floor[row]),
        T=T,
        train=train,
    )
    return True


def _cause(train: bool) -> str:
    if train:
        return "batch norm or another statistic over the batch"
    return "a statistic, a softmax or a reshape over the batch axis; batch and time exchanged"

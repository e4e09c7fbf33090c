"""Train and eval differ by dropout only."""

from __future__ import annotations

import torch

from mendel.audit.auditor import Auditor


def check(a: Auditor) -> None:
    if not a.comparable("mode"):
        return
    for T in _lengths(a):
        if _at(a, T):
            return


def _lengths(a: Auditor) -> list[int]:
    return sorted({a.short, a.lengths[-1]})


def _at(a: Auditor, T: int) -> bool:
    x = a.draw(3, T, 400 + T)
    plain = a.ask(x)
    train, other = (a.ask(x, train=True, dropout=False, seed=seed) for seed in (0, 1))
    if plain.y is None:
        return False
    if train.y is None or other.y is None:
        a.report(
            "mode",
            "it fails in train mode and works in eval mode",
            sure=f"it raised {train.error or other.error}",
            cause="a branch that only train mode takes",
            reproduce=a.recipe(3, T, 400 + T, "model.train()(x) raises"),
        )
        return True
    if not torch.equal(train.y.nan_to_num(), other.y.nan_to_num()):
        a.skip("mode", "in train mode it draws random numbers beside dropout")
        return True
    pair = a.apart(plain.y, train.y, lambda: [a.noise(x), a.noise(x, train=True, dropout=False)])
    if pair is None:
        return False
    row, at = pair.worst
    a.report(
        "mode",
        "train mode computes something else than eval mode, dropout apart",
        sure=f"output {at} differs by {float(pair.gap[row]):.3g}, {pair.margin:.2g} times the "
        f"measured floor ({a.dtype}), with every dropout off",
        cause="batch norm, or a branch on self.training",
        reproduce=a.recipe(
            3, T, 400 + T, "compare model.train()(x) without dropout, model.eval()(x)"
        ),
        gap=float(pair.gap[row]),
        floor=float(pair.floor[row]),
        T=T,
    )
    return True

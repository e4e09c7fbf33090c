"""How wrong errors are, where labels are related: pure functions from labels to plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mendel.data.label_forms import path_of
from mendel.judge import interval

Pairs = Sequence[tuple[str, str]]  # true label, and the one that was said


def hierarchy(pairs: Pairs) -> dict[str, Any]:
    """Of labels that are paths: how far from the root an answer is right.

    returns  f1 n_wrong n_inside levels
             f1         2 |shared ancestors| / (|of the truth| + |of the answer|), over all rows;
                        a label is its own ancestor                       Kiritchenko 2006
             n_inside   errors whose first step is right
             levels     level n_labels n score low high: is the path right so far? Of rows whose
                        true path is so long
    """
    paths = [(path_of(true), path_of(said)) for true, said in pairs]
    shared = sum(_common(true, said) for true, said in paths)
    total = sum(len(true) + len(said) for true, said in paths)
    wrong = [(true, said) for true, said in paths if true != said]
    levels = []
    for level in range(1, max((len(true) for true, _ in paths), default=0) + 1):
        deep = [(true[:level], said[:level]) for true, said in paths if len(true) >= level]
        n_right = sum(true == said for true, said in deep)
        low, high = interval(n_right, len(deep))
        numbers = {"n": len(deep), "score": n_right / len(deep), "low": low, "high": high}
        levels.append({"level": level, "n_labels": len({true for true, _ in deep}), **numbers})
    return {
        "f1": 2 * shared / total if total else None,
        "n_wrong": len(wrong),
        "n_inside": sum(true[0] == said[0] for true, said in wrong),
        "levels": levels,
    }


def ordinal(pairs: Pairs, order: Sequence[str]) -> dict[str, Any]:
    """Of labels that are steps of an order: how many steps off an answer is.

    returns  order n mean_ranks_off far_off (share off by more than one) kappa
             kappa   1 - sum of squared steps / what chance alone would give; None where the truth
                     or the answers leave nothing to chance                     Cohen 1968
             labels that are not in the order are left out
    """
    rank = {label: i for i, label in enumerate(order)}
    known = [(rank[t], rank[s]) for t, s in pairs if t in rank and s in rank]
    if not known:
        return {"order": list(order), "n": 0}
    ranks = np.array(known, np.float64)
    true, said = ranks[:, 0], ranks[:, 1]
    off = np.abs(true - said)
    by_chance = float(((true[:, None] - said[None, :]) ** 2).mean())
    return {
        "order": list(order),
        "n": len(known),
        "mean_ranks_off": float(off.mean()),
        "far_off": float((off > 1).mean()),
        "kappa": 1 - float((off**2).mean()) / by_chance if by_chance else None,
    }


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Steps from the root that two paths share."""
    n = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        n += 1
    return n

"""What failed, and what the failures have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.propose.effects import holm
from mendel.propose.settings import Settings, Value

Flags = NDArray[np.bool_]
LONGEST = 90  # characters of a reason
N_REASONS = 10
CLEAR = 0.05


@dataclass(frozen=True)
class Failure:
    """One reason, and the value that goes with it, where one does beyond chance.

    n        trials that failed so
    field    "" where no value stands out
    n_with   of the failures, those with the value; n_tried: all trials with it
    """

    reason: str
    n: int
    field: str = ""
    value: Value = None
    n_with: int = 0
    n_tried: int = 0

    @property
    def words(self) -> str:
        often = f"{self.n} trials failed" if self.n > 1 else "1 trial failed"
        if not self.field:
            return f"{often}: {self.reason}."
        what = f"{self.field} = {self.value}"
        return (
            f"{often}: {self.reason}; {self.n_with} of them with {what}, "
            f"which {self.n_tried} trials had."
        )


def plain_reason(error: str) -> str:
    """The first line without numbers, so that one cause has one name."""
    line = (error.splitlines() or [""])[0]
    return re.sub(r"\d[\d.,e+-]*", "#", line)[:LONGEST].rstrip(". ")


def failures(tried: Sequence[tuple[Settings, str | None]]) -> list[Failure]:
    """The commonest reasons, each with the value that stands out most in it.

    tried   what each trial chose, and its error or None
    source  Fisher's exact test, one-sided, corrected for every value of every reason
    """
    reasons = [plain_reason(error) if error else "" for _, error in tried]
    common = [(r, n) for r, n in Counter(reasons).most_common() if r][:N_REASONS]
    if not common:
        return []
    values = _values([chosen for chosen, _ in tried])
    has = {key: np.array([key[1] in c.get(key[0], {}) for c, _ in tried]) for key in values}
    told: list[tuple[str, tuple[str, Value], tuple[int, int, float]]] = []
    for reason, _ in common:
        failed = np.array([one == reason for one in reasons])
        told += [(reason, key, _excess(failed, mine)) for key, mine in has.items()]
    p = holm(np.array([excess for _, _, (_, _, excess) in told]))
    best: dict[str, tuple[float, Failure]] = {}
    sizes = dict(common)
    for (reason, (field, value), (n_with, n_tried, _)), corrected in zip(told, p, strict=True):
        if corrected < min(CLEAR, best[reason][0] if reason in best else 1.0):
            found = Failure(reason, sizes[reason], field, value, n_with, n_tried)
            best[reason] = float(corrected), found
    return [best[reason][1] if reason in best else Failure(reason, n) for reason, n in common]


def _values(chosen: Sequence[Settings]) -> list[tuple[str, Value]]:
    """Every value of every field that has more than one."""
    found: dict[str, dict[Value, None]] = {}
    for one in chosen:
        for field, share in one.items():
            found.setdefault(field, {}).update(dict.fromkeys(share))
    return [(field, value) for field in sorted(found) if len(found[field]) > 1
            for value in sorted(found[field], key=str)]  # fmt: skip


def _excess(failed: Flags, mine: Flags) -> tuple[int, int, float]:
    """Failures with the value, trials with it, and how unlikely so many are by chance."""
    from scipy.stats import hypergeom

    n_with, n_tried = int((failed & mine).sum()), int(mine.sum())
    return n_with, n_tried, float(hypergeom.sf(n_with - 1, len(mine), int(failed.sum()), n_tried))

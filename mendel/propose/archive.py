"""The best design of each kind: cost x mechanism. Stepping stones that need not be the best of all.

A cell is how much state a text leaves behind, and how a design remembers, erases and forgets. The
archive is pyribs'; it needs the extra [research].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mendel.parts.part import resolve
from mendel.propose.matching import Caps, price
from mendel.spec import PartSpec, Recipe
from mendel.types import InputError

COSTS = ("tiny", "small", "middle", "full")
COST_ENDS = (1 / 32, 1 / 8, 1 / 2)  # of the cap on state
REMEMBERS = ("softmax", "window", "state", "filter", "hybrid")
ERASES = ("no", "delta", "signed", "key")
FORGETS = ("no", "fixed", "data")


class Cell(NamedTuple):
    cost: str
    remembers: str
    erases: str
    forgets: str


class Archive:
    """Elites by cell. Ranked by what was known when they came in: later rounds of an elite are for
    whoever draws parents to weigh.

    raises   InputError where pyribs is not installed
    """

    def __init__(self) -> None:
        try:
            from ribs.archives import CategoricalArchive
        except ModuleNotFoundError:
            raise InputError(
                "pyribs is not installed, and the builtin researcher keeps its stepping stones "
                "in it. Wanted ribs. Run pip install 'mendel[research]'."
            ) from None
        self.cells: Any = CategoricalArchive(
            solution_dim=(),
            categories=[COSTS, REMEMBERS, ERASES, FORGETS],
            solution_dtype=np.int64,
            objective_dtype=np.float64,
        )

    def add(self, place: int, value: float, cell: Cell) -> None:
        """One by one: pyribs compiles a batch for seconds first."""
        self.cells.add_single(place, value, np.array(cell, dtype=object))

    def elites(self) -> list[int]:
        """Places of the best of each cell, in the order of coming."""
        return sorted(int(place) for place in self.cells.data("solution"))


def cell_of(recipe: Recipe, caps: Caps) -> Cell:
    share = price(recipe, caps.vocab, caps.n_tokens).state_bytes / caps.state_bytes
    found = [_mechanism(part) for part in recipe.model.mixers]
    kinds = {kind for kind, _, _ in found}
    return Cell(
        COSTS[sum(share > end for end in COST_ENDS)],
        kinds.pop() if len(kinds) == 1 else "hybrid",
        max((erases for _, erases, _ in found), key=ERASES.index),
        max((forgets for _, _, forgets in found), key=FORGETS.index),
    )


def _mechanism(spec: PartSpec) -> tuple[str, str, str]:
    """How one mixer remembers, erases, forgets."""
    cls, given = resolve("mixer", spec)
    fields: Any = cls.Fields.parse(given)
    if hasattr(fields, "decay"):  # the recurrence
        return "state", _erases(fields.erase, fields.beta_max), _forgets(fields.decay)
    if hasattr(fields, "retention"):  # the routed one: delta beside filters
        return "state", _erases("delta", fields.beta_max), "fixed" if fields.retention else "no"
    if hasattr(fields, "window"):
        return "softmax" if fields.window is None else "window", "no", "no"
    return "filter", "no", "no"


def _erases(erase: str, beta_max: float) -> str:
    return "no" if erase == "none" else "signed" if beta_max > 1 else erase


def _forgets(decay: str) -> str:
    return {"none": "no", "fixed": "fixed", "learned": "fixed"}.get(decay, "data")

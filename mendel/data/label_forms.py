"""Labels that are related to one another: paths such as a/b/c, and steps of an order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mendel.types import InputError

SEPARATOR = "/"
MIN_STEPS = 3  # two labels have no order that a measure could see


@dataclass(frozen=True)
class LabelForm:
    """How labels are related.

    order      all labels, the least first; empty = they have none
    n_levels   of paths; 1 = they are none
    """

    order: tuple[str, ...] = ()
    n_levels: int = 1

    def told(self) -> str | None:
        """For the plan card; None where there is nothing to tell."""
        if self.order:
            return f"an order: {' < '.join(self.order)}"
        return f"a hierarchy of {self.n_levels} levels" if self.n_levels > 1 else None


def label_form(names: Sequence[str], order: Sequence[str] = ()) -> LabelForm:
    """As the user said, else as the labels look: numbers are an order, paths a hierarchy.

    order    the user's; a label of the test file may be unknown to it
    raises   InputError where a label is missing in the user's order, or stands there twice
    """
    if order:
        missing = [name for name in names if name not in order]
        twice = [name for name in order if list(order).count(name) > 1]
        if missing or twice:
            wrong = f"{missing[0]!r} is not in it" if missing else f"{twice[0]!r} is there twice"
            raise InputError(
                f"--order {','.join(order)}: {wrong}. Wanted each label once, the least first: "
                f"the data has {', '.join(names)}."
            )
        return LabelForm(order=tuple(order))
    numbers = {name: number_of(name) for name in names}
    if len(names) >= MIN_STEPS and None not in numbers.values():
        return LabelForm(order=tuple(sorted(names, key=lambda name: (numbers[name], name))))
    depth = [len(path_of(name)) for name in names]
    if names and sum(d > 1 for d in depth) >= len(names) / 2:
        return LabelForm(n_levels=max(depth))
    return LabelForm()


def path_of(label: str) -> tuple[str, ...]:
    """The steps of a path, from the root; a label without one is a path of one step."""
    return tuple(step.strip() for step in label.split(SEPARATOR) if step.strip()) or (label,)


def number_of(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

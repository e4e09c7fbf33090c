"""A recipe as what sets it apart from its task's starting point.

"dual, 2 copies, 48 wide" means the same on 600 rows and on 10,000, though the starting points
differ in epochs and batches; so recipes of different tasks can be compared and carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mendel.kinds import Maker, Shape

TABLES = ("max_rows", "max_clues")  # cut by a task's limits, not chosen
Relative = Mapping[str, Any]  # the family, and the fields that differ; epochs: as a ratio


def relative(maker: Maker, recipe: Any, shape: Shape) -> dict[str, Any]:
    """What sets a recipe apart; the cut that the limits of its task made is undone."""
    base = _base(maker, recipe.family, shape)
    usual = {name: getattr(base, name) for name in TABLES if hasattr(base, name)}
    whole = replace(recipe, **usual)
    if maker.within(whole, shape) == recipe:
        recipe = whole
    mine, its = asdict(recipe), asdict(base)
    found = {k: v for k, v in mine.items() if k == "family" or v != its[k]}
    if "epochs" in found:
        found["epochs"] = round(recipe.epochs / base.epochs, 1)  # 22 of 15 and 45 of 30 are one
    return found


def absolute(maker: Maker, found: Relative, shape: Shape) -> Any:
    """The recipe on another task, within its limits; raises ValueError, TypeError for a field
    that this version does not have."""
    base = _base(maker, str(found["family"]), shape)
    fields = dict(found)
    if "epochs" in fields:
        fields["epochs"] = max(1, round(base.epochs * fields["epochs"]))
    return maker.within(replace(base, **fields), shape)


def _base(maker: Maker, family: str, shape: Shape) -> Any:
    """What a task starts from; for what takes no gradient steps the defaults."""
    base = replace(maker.starting_point(shape), family=family)
    return base if base.is_learned else maker.recipes(family=family)

"""What a change is, before and after it is fitted beneath the caps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mendel.propose.matching import Caps, matched
from mendel.propose.spelling import key
from mendel.spec import PartSpec, Recipe
from mendel.types import Digest, InputError

KEPT = 0.5
Verb = Literal["mutate", "insert", "ablate", "simplify", "cross"]


@dataclass(frozen=True)
class Draft:
    """A change as its kind makes it: the recipe may be too dear, or not one at all."""

    name: str
    verb: Verb
    about: tuple[str, ...]  # paths of fields: mixers.0.erase, train.optimizer
    values: tuple[Any, ...]  # the new value of each
    recipe: Recipe
    why: str


@dataclass(frozen=True)
class Change(Draft):
    """A change whose recipe is canonical and as wide as fits beneath the caps."""


def fitted(drafts: Iterable[Draft], caps: Caps, not_these: Sequence[Recipe]) -> list[Change]:
    """Those that fit, each recipe once, in the order given; none of `not_these` among them.

    A change that would take more than half of the narrowest one's width is too dear.
    """
    seen: set[Digest] = {key(recipe) for recipe in not_these}
    least = KEPT * min(recipe.model.width for recipe in not_these)
    found = []
    for draft in drafts:
        recipe = _fitted(draft.recipe, caps)
        if recipe is None or recipe.model.width < least or key(recipe) in seen:
            continue
        seen.add(key(recipe))
        found.append(Change(**{**vars(draft), "recipe": recipe}))
    return found


def _fitted(recipe: Recipe, caps: Caps) -> Recipe | None:
    try:
        return matched(recipe, caps)
    except InputError:
        return None  # fields that do not go together


def with_model(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with fields of its model replaced. They are not checked: hundreds of drafts are
    made for one that is looked at, all of values that are in range."""
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return Recipe(model=recipe.model.model_copy(update=plain), train=recipe.train)


def with_train(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with fields of its training replaced, unchecked as well."""
    return Recipe(model=recipe.model, train=recipe.train.model_copy(update=fields))


def same_places(pattern: Iterable[PartSpec]) -> list[tuple[int, ...]]:
    """Indices of a pattern's entries, those that are equal together, and each of them alone."""
    parts = list(pattern)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault((part.part, repr(part.fields)), []).append(i)
    together = [tuple(each) for each in groups.values()]
    return together + [(i,) for each in together if len(each) > 1 for i in each]

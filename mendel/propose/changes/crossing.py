"""Two recipes make one: a mechanism, a part, the shape or the training of one in the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mendel.propose.changes.change import Draft, with_model
from mendel.propose.changes.words import called
from mendel.propose.spelling import whole
from mendel.spec import PartSpec, Recipe

# fields of the recurrence that make sense together only
MECHANISMS: dict[str, tuple[str, ...]] = {
    "decay and write": ("decay", "write", "beta_max"),
    "erasing": ("erase", "key_norm", "write", "beta_max", "n_steps"),
    "keys": ("feature", "conv", "token_shift", "rotary"),
    "reading": ("bonus", "direct", "out_norm", "out_gate"),
    "the state's shape": ("n_heads", "key_dim", "value_dim"),
}
START = ("init_std", "residual_init")


def drafts(a: Recipe, b: Recipe) -> Iterator[Draft]:
    """First what b has put into a, then what a has put into b."""
    yield from _into(a, b)
    yield from _into(b, a)


def _into(a: Recipe, b: Recipe) -> Iterator[Draft]:
    yield _draft("its training", ("train",), Recipe(model=a.model, train=b.train))
    start = {name: getattr(b.model, name) for name in START}
    yield _draft("its initialisation", START, _replaced(a, **start))
    yield _draft("its channels", ("channels",), _replaced(a, channels=b.model.channels))
    yield _draft("its mixers", ("mixers",), _replaced(a, mixers=b.model.mixers))
    yield _draft("its depth", ("n_layers",), _replaced(a, n_layers=b.model.n_layers))
    yield from _halves(a, b)
    for mechanism, fields in MECHANISMS.items():
        for part in _each_once(b.model.mixers):
            yield from _mechanism(a, part, mechanism, fields)


def _halves(a: Recipe, b: Recipe) -> Iterator[Draft]:
    """Layers of both: one after the other by turns, or the first half of a and the second of b."""
    n = a.model.n_layers
    mine, its = ([x.model.mixers[i % len(x.model.mixers)] for i in range(n)] for x in (a, b))
    turns = [mine[i] if i % 2 == 0 else its[i] for i in range(n)]
    half = mine[: n - n // 2] + its[n - n // 2 :]
    yield _draft("its mixers by turns", ("mixers",), _replaced(a, mixers=turns))
    yield _draft("its mixers in the upper half", ("mixers",), _replaced(a, mixers=half))


def _mechanism(
    a: Recipe, other: PartSpec, mechanism: str, fields: tuple[str, ...]
) -> Iterator[Draft]:
    """The recurrences of a with these fields of the other recurrence."""
    if other.part != "recurrence" or all(part.part != "recurrence" for part in a.model.mixers):
        return
    its = {name: value for name, value in whole("mixer", other).items() if name in fields}
    made = []
    for part in a.model.mixers:
        kept = {name: value for name, value in whole("mixer", part).items() if name not in fields}
        spec = PartSpec(part=part.part, fields=kept | its)
        made.append(spec if part.part == "recurrence" else part)
    yield _draft(
        f"{mechanism} of {called('mixer', other)}",
        tuple(f"mixers.{i}.{f}" for i, p in enumerate(made) if p.part == "recurrence" for f in its),
        _replaced(a, mixers=made),
    )


def _each_once(pattern: tuple[PartSpec, ...]) -> list[PartSpec]:
    return [part for i, part in enumerate(pattern) if part not in pattern[:i]]


def _replaced(recipe: Recipe, **fields: Any) -> Recipe:
    return with_model(recipe, **fields)


def _draft(name: str, about: tuple[str, ...], recipe: Recipe) -> Draft:
    told = {**recipe.model.to_dict(), "train": recipe.train.to_dict()}
    values = tuple(_value(told, path) for path in about)
    return Draft(name, "cross", about, values, recipe, f"one parent as it is, but for {name}")


def _value(told: Any, path: str) -> Any:
    """What stands at a path, as JSON has it; None: the default."""
    found = told
    for step in path.split("."):
        if isinstance(found, str):
            return None  # a part with no fields of its own
        found = found[int(step)] if isinstance(found, list) else found.get(step)
    return found

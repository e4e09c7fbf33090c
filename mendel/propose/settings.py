"""A recipe as the fields that somebody chose, without the layer: what turns are compared by.

recipe --settings--> field -> value -> share of the layers that have it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.parts.part import PARTS, Kind, parse_fields, resolve
from mendel.propose.spelling import SET_BY_TRIALS, canonical
from mendel.spec import ModelSpec, PartSpec, Recipe, TrainSpec
from mendel.types import Json

Value = bool | int | float | str | None
Settings = dict[str, dict[Value, float]]

# what follows from matched cost is no choice: width, a channel's hidden units
OF_MODEL = ("n_layers", "tied", "residual_init", "init_std", "final_norm")
FOLLOWS = ("hidden",)
KIND_OF: dict[str, Kind] = {
    "mixers": "mixer", "channels": "channel", "norm": "norm", "embedding": "embedding",
}  # fmt: skip


def settings(state: Json) -> Settings:
    """Of a candidate's state; a field that is no layer's has its one value at a share of 1.

    raises   SpecError where it is no recipe, or one of a part that there is not
    """
    return _settings(json.dumps(state, sort_keys=True))


@lru_cache(maxsize=1 << 14)
def _settings(state: str) -> Settings:
    recipe = canonical(Recipe.from_json(state))
    found: Settings = {}
    for field, value, share in _said(recipe):
        shares = found.setdefault(field, {})
        shares[value] = shares.get(value, 0.0) + share
    return found


def _said(recipe: Recipe) -> Iterator[tuple[str, Value, float]]:
    model, train = recipe.model, recipe.train
    yield from ((field, getattr(model, field), 1.0) for field in OF_MODEL)
    for owner in ("norm", "embedding"):
        part = getattr(model, owner)
        for name, value in whole(owner, part).items():
            yield f"{owner}.{name}", value, 1.0
    for owner in ("mixers", "channels"):
        for part in layers(recipe, owner):
            for name, value in whole(owner, part).items():
                yield f"{owner}.{name}", value, 1 / model.n_layers
    for field in type(train).model_fields:
        if field not in SET_BY_TRIALS:
            yield f"train.{field}", getattr(train, field), 1.0


def layers(recipe: Recipe, owner: str) -> list[PartSpec]:
    """The part of each layer; empty where there is none."""
    pattern = getattr(recipe.model, owner)
    return [pattern[i % len(pattern)] for i in range(recipe.model.n_layers)] if pattern else []


def whole(owner: str, part: PartSpec) -> dict[str, Value]:
    """Which part, and each field that it has, defaults too."""
    cls, given = resolve(KIND_OF[owner], part)
    fields = parse_fields(cls, part.part, given).model_dump(mode="json")
    plain = {name: _plain(value) for name, value in fields.items() if name not in FOLLOWS}
    return {"part": cls.name, **plain}


@cache
def defaults() -> dict[str, frozenset[Value]]:
    """Field -> what it is where nobody chose; two parts may differ in it."""
    found: dict[str, set[Value]] = {}
    for name in OF_MODEL:
        found[name] = {ModelSpec.model_fields[name].default}
    for name, info in TrainSpec.model_fields.items():
        found[f"train.{name}"] = {info.default}
    for owner, kind in KIND_OF.items():
        for part in PARTS[kind].values():
            for name, info in part.Fields.model_fields.items():
                default = info.get_default()
                plain = _plain(list(default) if isinstance(default, tuple) else default)
                found.setdefault(f"{owner}.{name}", set()).add(plain)
    return {field: frozenset(values) for field, values in found.items()}


def _plain(value: Any) -> Value:
    """Lists as their JSON, so that every value can be counted."""
    return json.dumps(value) if isinstance(value, list | dict) else value

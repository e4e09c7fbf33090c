"""The one spelling of a recipe, and its digest.

names -> parts and their fields; defaults, and what has no effect, are left out; patterns folded
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mendel.parts.channel import hidden_width
from mendel.parts.part import Kind, parse_fields, resolve
from mendel.spec import PartSpec, Recipe, TrainSpec
from mendel.types import Digest, digest

# what a trial sets itself, by its proxies and its seeds
SET_BY_TRIALS = (
    "budget", "batch", "seed", "n_seeds", "n_evaluations", "tokenizer", "holdout", "dtype",
)  # fmt: skip

# fields that do nothing unless another has this value: part -> field -> (the other, its value)
IDLE: dict[str, dict[str, tuple[str, Any]]] = {
    "recurrence": {"beta_max": ("write", "beta")},
    "attention": {"rotary_base": ("rotary", True), "qk_norm_eps": ("qk_norm", True)},
    "routed": {"floor": ("gate", "floor")},
}
# fields that say what follows from the width where they are left out
FROM_WIDTH: dict[str, tuple[str, ...]] = {
    "recurrence": ("key_dim", "value_dim"),
    "attention": ("head_dim",),
}


def canonical(recipe: Recipe) -> Recipe:
    """The same recipe in its one spelling.

    Parts have their own names and only the fields that differ from the default and have an
    effect; patterns are as short as they can be; a channel's hidden units are given only where
    its ratio would lead to others, and then the ratio stays beside them: it is what a change of
    the width goes by.
    raises   SpecError for a part or a field that there is not
    """
    model = recipe.model
    width, n = model.width, model.n_layers
    mixers = [_part("mixer", part, width) for part in model.mixers]
    channels = [_part("channel", part, width) for part in model.channels]
    made = model.model_copy(
        update={
            "embedding": _part("embedding", model.embedding, width),
            "mixers": tuple(folded(mixers, n)),
            "channels": tuple(folded(channels, n)),
            "norm": _part("norm", model.norm, width),
            "head": _part("head", model.head, width),
        }
    )
    return Recipe(model=made, train=_training(recipe.train))


def key(recipe: Recipe) -> Digest:
    """Names what is trained and how: the same for every spelling, and for any budget or seed."""
    one = canonical(recipe)
    model = one.model.to_dict()
    model["channels"] = [_by_hidden(part, one.model.width) for part in one.model.channels]
    return digest({"model": model, "train": trained(one.train)})


def folded(pattern: Sequence[PartSpec], n_layers: int) -> list[PartSpec]:
    """The shortest pattern that gives the same layers."""
    if not pattern:
        return []
    layers = [pattern[i % len(pattern)] for i in range(n_layers)]
    for n in range(1, n_layers):
        if all(layers[i] == layers[i % n] for i in range(n_layers)):
            return layers[:n]
    return layers


def _part(kind: Kind, spec: PartSpec, width: int) -> PartSpec:
    return _spelled(kind, spec.model_dump_json(), width)


@lru_cache(maxsize=1 << 15)  # a search spells the same few parts again and again
def _spelled(kind: Kind, text: str, width: int) -> PartSpec:
    """Own name, fields checked; those at their default or without effect are left out."""
    spec = PartSpec.model_validate_json(text)
    cls, given = resolve(kind, spec)
    parsed = parse_fields(cls, spec.part, given)
    fields = {
        name: value
        for name, value in parsed.to_dict().items()
        if value != _plain(cls.Fields.model_fields[name].default)
    }
    whole = parsed.to_dict()
    for field, (other, value) in IDLE.get(cls.name, {}).items():
        if whole[other] != value:
            fields.pop(field, None)
    for field in FROM_WIDTH.get(cls.name, ()):
        if fields.get(field) == width / whole["n_heads"]:
            fields.pop(field)
    if cls.name == "attention" and fields.get("n_kv_heads") == whole["n_heads"]:
        fields.pop("n_kv_heads")
    if "ratio" in whole and "hidden" in whole:
        ratio = whole["ratio"] if "ratio" in given else round(whole["hidden"] / width, 3)
        fields.pop("hidden")
        if whole["hidden"] != hidden_width(width, ratio):
            fields |= {"ratio": ratio, "hidden": whole["hidden"]}
        elif ratio != cls.Fields.model_fields["ratio"].default:
            fields["ratio"] = ratio
    return PartSpec(part=cls.name, fields=fields)


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _training(train: TrainSpec) -> TrainSpec:
    """Without fields that this optimizer or this schedule does not read."""
    idle = []
    if train.optimizer == "adamw":
        idle.append("matrix_lr")
    if train.shape == "constant":
        idle.append("final")
    return train.model_copy(update={f: TrainSpec.model_fields[f].default for f in idle})


def _by_hidden(part: PartSpec, width: int) -> Any:
    """A channel by its hidden units alone, however it was said how many they are."""
    cls, fields = resolve("channel", part)
    whole = parse_fields(cls, part.part, fields).to_dict()
    if "ratio" in whole:
        ratio = whole.pop("ratio")
        whole.setdefault("hidden", hidden_width(width, ratio))
    return {"part": part.part, **whole}


def trained(train: TrainSpec) -> dict[str, Any]:
    """The training without what a trial sets itself."""
    return {name: value for name, value in train.to_dict().items() if name not in SET_BY_TRIALS}

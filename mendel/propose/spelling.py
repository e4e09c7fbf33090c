"""The one spelling of a recipe, and its digest.

names -> parts and their fields; defaults, and what has no effect, are left out; patterns folded
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from mendel.parts.channel import hidden_width
from mendel.parts.part import Kind, parse_fields, resolve
from mendel.spec import PartSpec, Recipe, TrainSpec
from mendel.types import Digest, digest

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", PartSpec, tuple[PartSpec, ...])
N_KEPT = 1 << 15  # answers about parts that are remembered, of each question

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
KINDS_OF: dict[str, Kind] = {  # fields of ModelSpec that are parts
    "embedding": "embedding", "mixers": "mixer", "channels": "channel", "norm": "norm",
    "head": "head",
}  # fmt: skip


def once_a_part(
    work: Callable[Concatenate[Kind, S, P], R],
) -> Callable[Concatenate[Kind, S, P], R]:
    """Worked out once for each part, or pattern of parts, as it is written: a search meets the
    same few again and again.

    What is given back is shared: nobody may change it.
    """
    known: dict[tuple[Any, ...], R] = {}

    @wraps(work)
    def told(kind: Kind, spec: S, /, *args: P.args, **named: P.kwargs) -> R:
        at = (kind, _written(spec), *args, *named.values())
        if at not in known:
            if len(known) >= N_KEPT:
                known.clear()
            known[at] = work(kind, spec, *args, **named)
        return known[at]

    return told


def _written(spec: PartSpec | tuple[PartSpec, ...]) -> tuple[Any, ...]:
    if isinstance(spec, tuple):
        return tuple((part.part, repr(part.fields)) for part in spec)
    return spec.part, repr(spec.fields)


def whole(kind: Kind, spec: PartSpec) -> dict[str, Any]:
    """Every field of a part as JSON has it, checked; without those that are None.

    raises   SpecError for a part or a field that there is not
    """
    return dict(_whole(kind, spec))


@once_a_part
def _whole(kind: Kind, spec: PartSpec) -> dict[str, Any]:
    cls, given = resolve(kind, spec)
    return parse_fields(cls, spec.part, given).to_dict()


def canonical(recipe: Recipe) -> Recipe:
    """The same recipe in its one spelling.

    Parts have their own names and only the fields that differ from the default and have an
    effect; patterns are as short as they can be; a channel's hidden units are given only where
    its ratio would lead to others, and then the ratio stays beside them: it is what a change of
    the width goes by.
    raises   SpecError for a part or a field that there is not
    """
    return spelled(recipe)[1]


def key(recipe: Recipe) -> Digest:
    """Names what is trained and how: the same for every spelling, and for any budget or seed."""
    return spelled(recipe)[0]


def spelled(recipe: Recipe) -> tuple[Digest, Recipe]:
    """Key and canonical spelling, which are needed together as a rule."""
    model, said, made = recipe.model, [], dict[str, Any]()
    for name, value in model:
        if name in KINDS_OF:
            pattern = value if isinstance(value, tuple) else (value,)
            each = [_spelled(KINDS_OF[name], part, model.width) for part in pattern]
            parts = folded([part for part, _ in each], model.n_layers)
            made[name] = tuple(parts) if isinstance(value, tuple) else parts[0]
            value = [each[i % len(each)][1] for i in range(len(parts))]
        said.append(f"{name}: {value}")
    train = _training(recipe.train)
    name = digest("\n".join([*said, _said_training(train)]))
    return name, Recipe(model=model.model_copy(update=made), train=train)


def folded(pattern: Sequence[PartSpec], n_layers: int) -> list[PartSpec]:
    """The shortest pattern that gives the same layers."""
    if not pattern:
        return []
    layers = [pattern[i % len(pattern)] for i in range(n_layers)]
    for n in range(1, n_layers):
        if layers == [layers[i % n] for i in range(n_layers)]:
            return layers[:n]
    return layers


def _part(kind: Kind, spec: PartSpec, width: int) -> PartSpec:
    """Own name, fields checked; those at their default or without effect are left out."""
    cls, given = resolve(kind, spec)
    every = whole(kind, spec)
    fields = {
        name: value
        for name, value in every.items()
        if value != _plain(cls.Fields.model_fields[name].default)
    }
    for field, (other, value) in IDLE.get(cls.name, {}).items():
        if every[other] != value:
            fields.pop(field, None)
    for field in FROM_WIDTH.get(cls.name, ()):
        if fields.get(field) == width / every["n_heads"]:
            fields.pop(field)
    if cls.name == "attention" and fields.get("n_kv_heads") == every["n_heads"]:
        fields.pop("n_kv_heads")
    if "ratio" in every and "hidden" in every:
        ratio = every["ratio"] if "ratio" in given else round(every["hidden"] / width, 3)
        fields.pop("hidden")
        if every["hidden"] != hidden_width(width, ratio):
            fields |= {"ratio": ratio, "hidden": every["hidden"]}
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
    plain = {f: TrainSpec.model_fields[f].default for f in idle}
    if all(getattr(train, f) == value for f, value in plain.items()):
        return train
    return train.model_copy(update=plain)


@once_a_part
def _spelled(kind: Kind, spec: PartSpec, width: int) -> tuple[PartSpec, Digest]:
    """A part in its one spelling, and what names it: of a channel its hidden units alone, however
    it was said how many they are."""
    part = _part(kind, spec, width)
    every = whole(kind, part)
    if "ratio" in every:
        ratio = every.pop("ratio")
        every.setdefault("hidden", hidden_width(width, ratio))
    return part, digest({"part": part.part, "fields": every})


@lru_cache(maxsize=1 << 12)
def _said_training(train: TrainSpec) -> Digest:
    return digest(trained(train))


def trained(train: TrainSpec) -> dict[str, Any]:
    """The training without what a trial sets itself."""
    return {name: value for name, value in train.to_dict().items() if name not in SET_BY_TRIALS}

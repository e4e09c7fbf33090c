"""When two recipes are one: by their spelling, by what they compute, and how far apart they are.

canonical     one spelling of a recipe                          (spelling.py)
key           digest of that: the same design and the same training
fingerprint   digest of what the design computes, whatever it is called
features      a recipe as a flat row of numbers and words, near where designs are alike
distance      the share of features in which two recipes differ
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from typing import Any

import torch

from mendel.model import Model, build
from mendel.parts.channel import hidden_width
from mendel.parts.part import Kind, resolve
from mendel.propose.spelling import canonical, key, once_a_part, trained, whole
from mendel.spec import PartSpec, Recipe, TrainSpec
from mendel.types import Digest, digest

__all__ = ["Row", "canonical", "distance", "features", "fingerprint", "key"]

Row = dict[str, float | str]

N_TOKENS = 64  # that a fingerprint looks at, or as far as the design can
FURTHEST = 512


def fingerprint(recipe: Recipe) -> Digest:
    """Names what the design computes: equal ones differ in their spelling alone.

    The design is built, its weights are set by their names, whatever their first values would be,
    and it is asked one text in float64. The training, and how weights start, are part of it.
    raises   SpecError for what cannot be built
    """
    one = canonical(recipe)
    spec = one.model.model_copy(update={"vocab": one.model.vocab or 32, "context": FURTHEST + 8})
    model = build(spec).double().eval()
    _set_by_name(model)
    n_tokens = _reach(one) + 8
    text = torch.arange(n_tokens)[None] * 7919 % spec.vocab
    with torch.no_grad():
        output = model(text)[0][0, -4:].flatten()
    said = [f"{value:.6e}" for value in output.tolist()]
    if not torch.isfinite(output).all():
        said = [key(recipe)]  # nothing is known but its spelling
    start = {"init_std": one.model.init_std, "residual_init": one.model.residual_init}
    return digest({"says": said, "start": start, "train": trained(one.train)})


@torch.no_grad()
def _set_by_name(model: Model) -> None:
    """So that no gate is shut at the start, and nothing depends on the order of drawing."""
    for name, value in model.named_parameters():
        generator = torch.Generator().manual_seed(int(digest(name)[:15], 16))
        spread = value.shape[-1] ** -0.5 if value.dim() > 1 else 0.5
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        value.copy_(spread * drawn)


def _reach(recipe: Recipe) -> int:
    """Tokens after which a window or a filter of the design has shown its length."""
    fields = [value for part in recipe.model.mixers for value in part.fields.values()]
    numbers = [n for each in fields for n in (each if isinstance(each, list) else [each])]
    return min(max([N_TOKENS, *(n for n in numbers if isinstance(n, int))]), FURTHEST)


def features(recipe: Recipe) -> Row:
    """Names and values; numbers are on scales on which a step of 1 is much (log2, shares).

    Of a pattern each value of a field is the share of the layers that have it, so that hybrids lie
    between the designs that they are made of, however many layers there are.
    """
    row: Row = {}
    for piece in pieces(canonical(recipe)):
        row |= piece
    return row


def pieces(one: Recipe) -> tuple[Row, ...]:
    """The features of a canonical recipe: a row for what is none of its parts, for its mixers, its
    channels and its training. Equal ones are the same object as a rule, and nobody's to change."""
    m = one.model
    plain: Row = {
        "width": math.log2(m.width),
        "n_layers": math.log2(m.n_layers),
        "norm": m.norm.part,
        "position": str(m.embedding.fields.get("position", "none")),
        "tied": float(m.tied),
        "final_norm": float(m.final_norm),
        "init_std": math.log2(m.init_std) if m.init_std else 0.0,
        "residual_init": m.residual_init,
        "mixers.first": m.mixers[0].part,
        "mixers.last": m.mixers[(m.n_layers - 1) % len(m.mixers)].part,
    }
    mixers = _pattern("mixer", m.mixers, "mixers", m.n_layers, m.width)
    channels = _pattern("channel", m.channels, "channels", m.n_layers, m.width)
    return plain, mixers, channels, _of_training(one.train)


def distance(a: Recipe, b: Recipe) -> float:
    """The share of features that differ: 0, the same in all; 1, in none."""
    mine, its = features(a), features(b)
    names = mine.keys() | its.keys()
    differing = sum(mine.get(name, 0.0) != its.get(name, 0.0) for name in names)
    return differing / len(names)


@once_a_part
def _pattern(
    kind: Kind, pattern: tuple[PartSpec, ...], where: str, n_layers: int, width: int
) -> Row:
    """Shares of the layers that have a value, and means of what is a number."""
    row: defaultdict[str, float] = defaultdict(float)
    share = 1 / n_layers
    each = [_of_part(kind, part, where, width) for part in pattern]
    for i in range(n_layers if pattern else 0):
        for name, value in zip(*each[i % len(each)], strict=True):
            row[name] += share * value
    return {name: round(value, 9) for name, value in row.items()}


@lru_cache(maxsize=1 << 12)
def _of_training(train: TrainSpec) -> Row:
    return {f"train.{name}": _number(name, value) for name, value in trained(train).items()}


@once_a_part
def _of_part(
    kind: Kind, spec: PartSpec, where: str, width: int
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Its name and its fields, with what follows from the width written out; a number for each."""
    cls, every = resolve(kind, spec)[0], whole(kind, spec)
    if "n_heads" in every:
        for name in sorted({"key_dim", "value_dim", "head_dim"} & cls.Fields.model_fields.keys()):
            every.setdefault(name, width // every["n_heads"])
    if "ratio" in every:
        hidden = every.pop("hidden", hidden_width(width, every["ratio"]))
        every["ratio"] = hidden / width
    words = {n: isinstance(value, str | bool | list) for n, value in every.items()}
    names = (f"{where}.{n}={v}" if words[n] else f"{where}.{n}" for n, v in every.items())
    values = (1.0 if words[n] else math.log2(1 + v) for n, v in every.items())
    return (f"{where}.part={spec.part}", *names), (1.0, *values)


def _number(name: str, value: Any) -> float | str:
    """A field of the training on a scale of its own."""
    if isinstance(value, str):
        return value
    if name in ("beta1", "beta2"):
        return -math.log2(1 - value)  # of the steps that it looks back
    if name in ("lr", "matrix_lr", "eps"):
        return math.log2(value)
    return math.log2(1 + 100 * value)

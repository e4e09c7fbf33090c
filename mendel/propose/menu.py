"""The designs that a win must beat: every mixer of the menu alone, b up to 2, and hybrids.

All with the short convolution, the heads, layers and training of the start, fitted to the caps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.parts.part import NAMED, PARTS, resolve
from mendel.presets import discoveries, load_recipe
from mendel.propose.matching import Caps, matched
from mendel.propose.spelling import key
from mendel.spec import PartSpec, Recipe
from mendel.train.proxy import TAPS, convolved
from mendel.types import Digest

# how far a part sees, and so what it keeps: the furthest that leaves the model its width
REACH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "attention": ("window", (64, 32, 16, 8)),
    "routed": ("long", (63, 31, 15, 7)),
    "hyena": ("length", (256, 64, 32, 16)),
    "multi_scale_fir": ("kernels", ([3, 7, 15, 63], [3, 7, 15], [3, 7])),
}
KEPT = 0.75  # of the width of the start

ATTENTION = PartSpec(part="attention", fields={"qk_norm": True, "conv": TAPS})
BESIDE = {
    "attention": ATTENTION,
    "window": PartSpec(part="attention", fields={**ATTENTION.fields, "window": 64}),
    "short_conv": PartSpec(part="short_conv"),
}
SIGNED = {
    "gated_delta_net_signed": PartSpec(part="gated_delta_net", fields={"beta_max": 2.0}),
    "kimi_delta_signed": PartSpec(part="kimi_delta", fields={"beta_max": 2.0}),
}
MIXED = ("mamba2", "gla", "delta_net_signed", "gated_delta_net", "gated_delta_net_signed")


@dataclass(frozen=True)
class Named:
    """A design of the menu."""

    name: str
    recipe: Recipe

    @cached_property
    def key(self) -> Digest:
        return key(self.recipe)


def designs(caps: Caps, start: Recipe | None = None) -> tuple[Named, ...]:
    """Those that fit beneath the caps, each once, in a fixed order.

    start    whose layers, heads, channels, norms and training they have; None: the defaults
    returns  canonical recipes; a design that fits at no width is left out
    """
    start = start or Recipe()
    found: dict[str, Named] = {}
    heads = _heads(start)
    for name, mixers in _patterns(start.model.n_layers):
        patterns = [tuple(_with_heads(part, heads) for part in pattern) for pattern in mixers]
        recipe = _first_that_fits(start, patterns, caps)
        if recipe is not None:
            found.setdefault(key(recipe), Named(name, recipe))
    for name in discoveries():  # whole recipes, that were verified
        model, train = load_recipe(name)
        recipe = matched(Recipe(model=model, train=train), caps)
        if recipe is not None:
            found.setdefault(key(recipe), Named(name, recipe))
    return tuple(found.values())


def _heads(start: Recipe) -> int | None:
    """Of the first mixer that has any: with other heads a state would be of another size."""
    for part in start.model.mixers:
        cls, fields = resolve("mixer", part)
        if "n_heads" in cls.Fields.model_fields:
            return int(fields.get("n_heads", cls.Fields.model_fields["n_heads"].default))
    return None


def _with_heads(part: PartSpec, n_heads: int | None) -> PartSpec:
    cls, _ = resolve("mixer", part)
    if n_heads is None or "n_heads" not in cls.Fields.model_fields:
        return part
    return PartSpec(part=part.part, fields={**part.fields, "n_heads": n_heads})


def _patterns(n_layers: int) -> Iterator[tuple[str, list[tuple[PartSpec, ...]]]]:
    """A name and its patterns of mixers, the one to be preferred first."""
    names = [*NAMED["mixer"], *PARTS["mixer"]]  # of two names the literature's
    single = {name: PartSpec(part=name) for name in names} | SIGNED
    for name, part in single.items():
        yield name, [(each,) for each in _reaching(part)]
    if n_layers < 2:
        return
    for name in MIXED:
        part = single[name]
        for beside, other in BESIDE.items():
            others = _reaching(other)
            yield f"{name}+{beside}", [(part, each) for each in others]
            yield f"{beside}+{name}", [(each, part) for each in others]
            if n_layers > 2:
                yield f"{name}x3+{beside}", [(part, part, part, each) for each in others]


def _reaching(part: PartSpec) -> list[PartSpec]:
    """The part, then those that see less far, where it has such a field."""
    cls, fields = resolve("mixer", part)
    if cls.name not in REACH:
        return [part]
    field, values = REACH[cls.name]
    if fields.get(field, cls.Fields.model_fields[field].default) is None:
        return [part]  # attention to all
    return [PartSpec(part=part.part, fields={**part.fields, field: value}) for value in values]


def _first_that_fits(
    start: Recipe, patterns: list[tuple[PartSpec, ...]], caps: Caps
) -> Recipe | None:
    """The first that is wide enough, else the widest."""
    best: Recipe | None = None
    for mixers in patterns:
        model = convolved(start.model.model_copy(update={"mixers": mixers}))
        made = matched(start.model_copy(update={"model": model}), caps)
        if made is not None and (best is None or made.model.width > best.model.width):
            best = made
        if best is not None and best.model.width >= KEPT * start.model.width:
            return best
    return best

"""The designs that a win must beat: every mixer of the menu alone, b up to 2, and hybrids.

All with the short convolution, in the shape and with the training of the start, fitted to the caps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.parts.part import NAMED, PARTS
from mendel.propose.matching import Caps, matched
from mendel.propose.spelling import key
from mendel.spec import PartSpec, Recipe
from mendel.train.proxy import TAPS, convolved

WINDOWS = (64, 32, 16, 8)  # of sliding attention: the longest that leaves the model its width
KEPT = 0.75  # of the width of the recurrence alone

ATTENTION = PartSpec(part="attention", fields={"qk_norm": True, "conv": TAPS})
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


def designs(caps: Caps, start: Recipe | None = None) -> tuple[Named, ...]:
    """Those that fit beneath the caps, each once, in a fixed order.

    start    whose layers, channels, norms and training they have; None: the defaults
    returns  canonical recipes; a design that fits at no width is left out
    """
    start = start or Recipe()
    found: dict[str, Named] = {}
    for name, mixers in _patterns(start.model.n_layers):
        recipe = _first_that_fits(start, mixers, caps)
        if recipe is not None:
            found.setdefault(key(recipe), Named(name, recipe))
    return tuple(found.values())


def _patterns(n_layers: int) -> Iterator[tuple[str, list[tuple[PartSpec, ...]]]]:
    """A name and its patterns of mixers, the one to be preferred first."""
    names = [*NAMED["mixer"], *PARTS["mixer"]]  # of two names the literature's
    single = {name: PartSpec(part=name) for name in names} | SIGNED
    for name, part in single.items():
        windowed = name == "sliding_window"
        yield name, [(each,) for each in (_windows() if windowed else [part])]
    if n_layers < 2:
        return
    for name in MIXED:
        part = single[name]
        for beside, others in _beside().items():
            yield f"{name}+{beside}", [(part, other) for other in others]
            yield f"{beside}+{name}", [(other, part) for other in others]
            if n_layers > 2:
                yield f"{name}x3+{beside}", [(part, part, part, other) for other in others]


def _beside() -> dict[str, list[PartSpec]]:
    return {
        "attention": [ATTENTION],
        "window": _windows(),
        "short_conv": [PartSpec(part="short_conv")],
    }


def _windows() -> list[PartSpec]:
    return [
        PartSpec(part="attention", fields={**ATTENTION.fields, "window": window})
        for window in WINDOWS
    ]


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

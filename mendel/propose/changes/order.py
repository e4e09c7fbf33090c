"""The order of parts: hybrids made and unmade, layers swapped, parts put in and taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mendel.propose.changes.change import Draft, Verb, same_places, with_model
from mendel.propose.changes.words import called
from mendel.spec import PartSpec, Recipe

TAPS = 4  # of the short convolution that every mixer has

# what may stand beside a recurrence, and what a layer may be instead
MIXERS: dict[str, PartSpec] = {
    "attention": PartSpec(part="attention", fields={"qk_norm": True, "conv": TAPS}),
    "window": PartSpec(part="attention", fields={"qk_norm": True, "conv": TAPS, "window": 32}),
    "short window": PartSpec(part="attention", fields={"qk_norm": True, "conv": TAPS, "window": 8}),
    "short_conv": PartSpec(part="short_conv"),
    "multi_scale_fir": PartSpec(part="multi_scale_fir", fields={"kernels": [3, 15]}),
    "linear_attention": PartSpec(part="recurrence", fields={"conv": TAPS, "feature": "elu"}),
}
CHANNELS: dict[str, PartSpec] = {
    "swiglu": PartSpec(part="gated"),
    "relu2": PartSpec(part="mlp"),
}
NORMS = ("rms_norm", "layer_norm")

WHY = {
    "attention": "a layer that sees every token before it, exactly",
    "window": "a layer that sees the last few tokens exactly",
    "short window": "a layer that sees the last few tokens exactly, and keeps little",
    "short_conv": "a layer that costs little and sees what is near",
    "multi_scale_fir": "a layer that sees the near and the far through fixed filters",
    "linear_attention": "the plainest state: does the layer need more?",
}


def drafts(recipe: Recipe) -> Iterator[Draft]:
    yield from _mixers(recipe)
    yield from _swaps(recipe)
    yield from _alike(recipe)
    yield from _channels(recipe)
    yield from _norms(recipe)


def _mixers(recipe: Recipe) -> Iterator[Draft]:
    """Another mixer in the first layer, in the last, by turns, and in place of equal ones."""
    layers = _layers(recipe)
    n = len(layers)
    where = {"first": [0], "last": [n - 1], "by turns": list(range(1, n, 2))} if n > 1 else {}
    for name, part in MIXERS.items():
        for place, at in where.items():
            made = [part if i in at else layer for i, layer in enumerate(layers)]
            yield _mixed(recipe, made, "insert", f"{name} {place}", WHY[name])
        for places in same_places(recipe.model.mixers):
            pattern = [part if i in places else p for i, p in enumerate(recipe.model.mixers)]
            instead = called("mixer", recipe.model.mixers[places[0]])
            verb: Verb = "simplify" if name == "linear_attention" else "mutate"
            yield _mixed(recipe, pattern, verb, f"{name} instead of {instead}", WHY[name])


def _swaps(recipe: Recipe) -> Iterator[Draft]:
    """The same layers in another order."""
    layers = _layers(recipe)
    for i in range(len(layers) - 1):
        made = [*layers[:i], layers[i + 1], layers[i], *layers[i + 2 :]]
        why = "what a layer can use depends on what the layers below have made"
        yield _mixed(recipe, made, "mutate", f"layers {i} and {i + 1} swapped", why)
    yield _mixed(recipe, layers[::-1], "mutate", "layers turned round", "the order may matter")


def _alike(recipe: Recipe) -> Iterator[Draft]:
    """One mixer of a hybrid in all layers, or taken out of it."""
    pattern = recipe.model.mixers
    for places in same_places(pattern):
        name = called("mixer", pattern[places[0]])
        if 0 < len(places) < len(pattern):
            yield _mixed(recipe, [pattern[places[0]]], "simplify", f"{name} in all layers",
                         "does the hybrid need its other layers?")  # fmt: skip
            rest = [part for i, part in enumerate(pattern) if i not in places]
            yield _mixed(recipe, rest, "ablate", f"no {name}", "does the hybrid need this layer?")


def _channels(recipe: Recipe) -> Iterator[Draft]:
    """Channels of another kind, or none."""
    before = recipe.model.channels
    for name, part in CHANNELS.items():
        made = [part]
        verb: Verb = "insert" if not before else "mutate"
        yield Draft(
            f"channels {name}", verb, ("channels",), (_plain(made),),
            with_model(recipe, channels=made), "another network between the mixers",
        )  # fmt: skip
    yield Draft(
        "no channels", "ablate", ("channels",), ([],), with_model(recipe, channels=[]),
        "mixers alone, and wider for it",
    )  # fmt: skip


def _norms(recipe: Recipe) -> Iterator[Draft]:
    for name in NORMS:
        if name != recipe.model.norm.part:
            yield Draft(
                f"norm={name}", "mutate", ("norm",), (name,),
                with_model(recipe, norm=PartSpec(part=name)),
                "another norm before each part",
            )  # fmt: skip
    final = not recipe.model.final_norm
    yield Draft(
        f"final_norm={final}", "insert" if final else "ablate", ("final_norm",), (final,),
        with_model(recipe, final_norm=final), "does the head need a norm before it?",
    )  # fmt: skip


def _layers(recipe: Recipe) -> list[PartSpec]:
    mixers = recipe.model.mixers
    return [mixers[i % len(mixers)] for i in range(recipe.model.n_layers)]


def _mixed(recipe: Recipe, made: Sequence[PartSpec], verb: Verb, name: str, why: str) -> Draft:
    return Draft(
        name, verb, ("mixers",), (_plain(made),), with_model(recipe, mixers=list(made)), why
    )


def _plain(parts: Sequence[PartSpec]) -> Any:
    return [part.model_dump(mode="json") for part in parts]

"""Shape at matched cost: depth against width, width against channels, keys against values."""

from __future__ import annotations

from collections.abc import Iterator

from mendel.parts.channel import hidden_width
from mendel.propose.changes.change import Draft, Verb, with_model
from mendel.propose.spelling import whole
from mendel.spec import PartSpec, Recipe

MOST_LAYERS = 16
RATIOS = (0.5, 16.0)  # of hidden units to width


def drafts(recipe: Recipe) -> Iterator[Draft]:
    yield from _depth(recipe)
    yield from _ratios(recipe)
    yield from _states(recipe)
    yield from _embedding(recipe)


def _depth(recipe: Recipe) -> Iterator[Draft]:
    n = recipe.model.n_layers
    for wanted in sorted({n - 1, n + 1, n // 2, n * 2} - {n}):
        if 1 <= wanted <= MOST_LAYERS:
            deeper = wanted > n
            why = "more steps of reasoning, each narrower" if deeper else "fewer layers, each wider"
            verb: Verb = "mutate" if deeper else "simplify"
            made = with_model(recipe, n_layers=wanted)
            yield Draft(f"n_layers={wanted}", verb, ("n_layers",), (wanted,), made, why)


def _ratios(recipe: Recipe) -> Iterator[Draft]:
    """Channels of another ratio: what they give up goes into the width, and the other way."""
    m = recipe.model
    for label, factor in (("x1.5", 1.5), ("/1.5", 1 / 1.5)):
        made, paths, values = [], [], []
        for i, part in enumerate(m.channels):
            ratio = _ratio(part, m.width)
            wanted = None if ratio is None else round(ratio * factor, 3)
            if wanted is not None and RATIOS[0] <= wanted <= RATIOS[1]:
                part = _with_ratio(part, wanted)
                paths.append(f"channels.{i}.ratio")
                values.append(wanted)
            made.append(part)
        if paths:
            yield Draft(
                f"ratio {label}", "mutate", tuple(paths), tuple(values),
                with_model(recipe, channels=made), "width against hidden units of the channels",
            )  # fmt: skip


def _ratio(part: PartSpec, width: int) -> float | None:
    every = whole("channel", part)
    if "ratio" not in every:
        return None
    return float(every.get("hidden", hidden_width(width, every["ratio"])) / width)


def _with_ratio(part: PartSpec, ratio: float) -> PartSpec:
    fields = {name: value for name, value in part.fields.items() if name != "hidden"}
    return PartSpec(part=part.part, fields={**fields, "ratio": ratio})


def _states(recipe: Recipe) -> Iterator[Draft]:
    """States of the same size: more keys with less said of each, or the other way."""
    m = recipe.model
    for name, keys, why in (
        ("wide keys", 2.0, "more keys before they collide, less said of each"),
        ("wide values", 0.5, "more said of each key, fewer keys"),
    ):
        made, paths, values = list(m.mixers), [], []
        for i, part in enumerate(m.mixers):
            if part.part != "recurrence":
                continue
            every = whole("mixer", part)
            D, V = (every.get(f, m.width // every["n_heads"]) for f in ("key_dim", "value_dim"))
            fields = {"key_dim": int(D * keys), "value_dim": int(V / keys)}
            made[i] = PartSpec(part="recurrence", fields={**part.fields, **fields})
            paths += [f"mixers.{i}.{field}" for field in fields]
            values += list(fields.values())
        if paths and min(values) >= 2:
            yield Draft(
                name, "mutate", tuple(paths), tuple(values), with_model(recipe, mixers=made), why
            )


def _embedding(recipe: Recipe) -> Iterator[Draft]:
    if recipe.model.tied:  # the other way would leave out every proxy with a head of its own
        yield Draft(
            "tied=False", "mutate", ("tied",), (False,), with_model(recipe, tied=False),
            "one matrix for reading tokens and another for saying them",
        )  # fmt: skip
    norm = not recipe.model.embedding.fields.get("norm", False)
    fields = {**recipe.model.embedding.fields, "norm": norm}
    part = PartSpec(part=recipe.model.embedding.part, fields=fields)
    yield Draft(
        f"embedding.norm={norm}", "insert" if norm else "ablate", ("embedding.norm",), (norm,),
        with_model(recipe, embedding=part), "tokens enter the layers at one scale",
    )  # fmt: skip

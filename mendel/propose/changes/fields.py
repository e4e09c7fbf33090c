"""Fields of mixers and channels: one mechanism turned on, off or over, with what it cannot do
without.

A recurrence's fields are the mechanisms of the named mixers: any of them is a few changes away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mendel.parts.part import Kind, resolve
from mendel.propose.changes.change import Draft, Verb, same_places, with_model
from mendel.propose.spelling import whole
from mendel.spec import PartSpec, Recipe

Fields = dict[str, Any]

# part -> field -> the values to try. The first is that of a model without the mechanism.
VALUES: dict[str, dict[str, tuple[Any, ...]]] = {
    "recurrence": {
        "erase": ("none", "delta", "key"),
        "decay": ("none", "fixed", "learned", "head", "channel", "bounded"),
        "write": ("one", "beta", "dt"),
        "beta_max": (1.0, 2.0),
        "n_steps": (1, 2, 3),
        "key_norm": (False, True),
        "feature": ("none", "relu", "silu", "elu", "softmax"),
        "conv": (0, 3, 4, 7),
        "token_shift": (False, True),
        "rotary": (False, True),
        "bonus": (False, True),
        "direct": (False, True),
        "out_norm": (False, True),
        "out_gate": ("none", "silu", "sigmoid"),
    },
    "attention": {
        "window": (None, 8, 16, 32, 64),
        "rotary": (False, True),
        "qk_norm": (False, True),
        "conv": (None, 3, 4, 7),
        "n_kv_heads": (None, 1, 2),
    },
    "routed": {
        "gate": ("softmax", "sigmoid", "floor", "staged"),
        "short": (3, 5, 7),
        "long": (7, 15, 31, 63),
        "conv": (0, 4),
        "beta_max": (1.0, 2.0),
        "retention": (False, True),
        "rescale": (False, True),
    },
    "short_conv": {"kernel": (3, 4, 7), "act": ("none", "silu")},
    "multi_scale_fir": {
        "kernels": ([3, 7], [3, 15], [3, 7, 15], [3, 7, 15, 31], [3, 7, 15, 63]),
        "mix": ("learned", "token"),
    },
    "hyena": {"kernel": (3, 4, 7), "length": (32, 64, 128, 256)},
    "mlp": {"act": ("relu", "relu2", "gelu", "silu")},
    "gated": {"act": ("relu", "relu2", "gelu", "silu", "sigmoid")},
}
DIALS: dict[str, tuple[str, ...]] = {  # numbers to double and to halve
    "recurrence": ("n_heads", "key_dim", "value_dim"),
    "attention": ("n_heads",),
    "routed": ("n_heads",),
    "multi_scale_fir": ("n_heads",),
}
RANGES = {"key_dim": (2, 512), "value_dim": (2, 512), "n_heads": (1, 16)}

# where the first value is one among equals, and not the lack of a mechanism
AMONG_EQUALS = {
    ("recurrence", "beta_max"), ("routed", "gate"), ("routed", "short"), ("routed", "long"),
    ("routed", "beta_max"), ("short_conv", "kernel"), ("multi_scale_fir", "kernels"),
    ("multi_scale_fir", "mix"), ("hyena", "kernel"), ("hyena", "length"), ("mlp", "act"),
    ("gated", "act"),
}  # fmt: skip

WHY: dict[tuple[str, Any], str] = {
    ("erase", "delta"): "what a key reads is taken out before it writes, so that keys written "
    "again do not pile up",
    ("erase", "key"): "a removal key of its own says what to forget, apart from what is written",
    ("erase", "none"): "does the model need to erase at all?",
    ("decay", "fixed"): "old writes fade at a rate that each head has from the start",
    ("decay", "learned"): "each head learns how long it remembers",
    ("decay", "head"): "the token decides how much of the state a head keeps",
    ("decay", "channel"): "the token decides channel by channel what is kept",
    ("decay", "bounded"): "a decay a channel that can never forget all at once",
    ("decay", "none"): "does the model need to forget by itself at all?",
    ("write", "beta"): "the token decides how strongly it is written",
    ("write", "dt"): "one step size decides both what is kept and what is written",
    ("write", "one"): "every token is written alike",
    ("beta_max", 2.0): "a step may turn the sign of what it erases: negative eigenvalues, which "
    "counting and parity need",
    ("beta_max", 1.0): "eigenvalues between 0 and 1 are stabler",
    ("n_steps", 2): "two micro-steps a token make products of reflections, such as rotations",
    ("n_steps", 3): "three micro-steps a token reach more of the permutations",
    ("n_steps", 1): "one micro-step a token costs less",
    ("key_norm", True): "keys of unit length keep the recurrence stable",
    ("conv", 4): "a short convolution lets a key see the token before it",
    ("token_shift", True): "each projection may look at the token before",
    ("rotary", True): "keys and queries know how far apart they are",
    ("bonus", True): "the token itself is read past the state",
    ("direct", True): "a share of the values goes past the state",
    ("out_norm", True): "a head's output keeps its scale however full the state is",
    ("out_gate", "silu"): "the token gates what is read",
    ("out_gate", "sigmoid"): "the token gates what is read, between nothing and all",
    ("window", None): "see the whole text",
    ("qk_norm", True): "scores of attention stay in range",
    ("retention", True): "the delta path learns to forget",
    ("rescale", True): "heads are weighed anew at each token after the fusion",
    ("n_heads", "x2"): "more and smaller states: more things held apart, less state",
    ("n_heads", "/2"): "fewer and larger states: more room in each",
    ("key_dim", "x2"): "more rows of the state: more keys before they collide",
    ("key_dim", "/2"): "fewer rows of the state leave room for width",
    ("value_dim", "x2"): "more columns of the state: more said of each key",
    ("value_dim", "/2"): "fewer columns of the state leave room for width",
}


def drafts(recipe: Recipe) -> Iterator[Draft]:
    """Every value of every field, in all equal entries of a pattern at once, then in each."""
    kinds: tuple[tuple[Kind, str, tuple[PartSpec, ...]], ...] = (
        ("mixer", "mixers", recipe.model.mixers),
        ("channel", "channels", recipe.model.channels),
    )
    for kind, where, pattern in kinds:
        for places in same_places(pattern):
            for field, value, made in _variants(kind, pattern[places[0]], recipe.model.width):
                yield _draft(recipe, where, places, field, value, made)


def _variants(kind: Kind, spec: PartSpec, width: int) -> Iterator[tuple[str, Any, Fields]]:
    """The field, what to call its new value, and all of the part's fields after."""
    cls, before = resolve(kind, spec)[0], whole(kind, spec)
    for field, values in VALUES.get(cls.name, {}).items():
        for value in values:
            if value != before.get(field):
                yield field, value, settled(cls.name, before, field, value)
    for field in DIALS.get(cls.name, ()):
        now = before.get(field) or width // before["n_heads"]
        least, most = RANGES[field]
        if 2 * now <= most:
            yield field, "x2", settled(cls.name, before, field, 2 * now)
        if now % 2 == 0 and now // 2 >= least:
            yield field, "/2", settled(cls.name, before, field, now // 2)


def settled(part: str, fields: Fields, field: str, value: Any) -> Fields:
    """All fields with one of them set, and those that must follow it.

    A delta rule without unit keys diverges, so they come and stay with it.
    """
    made = {**fields, field: value}
    if part == "recurrence":
        if field == "n_steps" and value > 1:
            made["erase"] = "delta"
        if made["erase"] != "delta":
            made["n_steps"] = 1
        elif fields["erase"] != "delta":
            made |= {"key_norm": True, "write": "beta"}
        else:
            made["key_norm"] = True
        if field == "beta_max":
            made["write"] = "beta"
        if field == "write" and value == "dt":
            made |= {"decay": "head", "erase": "none", "n_steps": 1}
        elif made["write"] == "dt" and made["decay"] != "head":
            made["write"] = "one"
    return {name: each for name, each in made.items() if each is not None}


def _draft(
    recipe: Recipe, where: str, places: tuple[int, ...], field: str, value: Any, made: Fields
) -> Draft:
    pattern = list(getattr(recipe.model, where))
    kind: Kind = "mixer" if where == "mixers" else "channel"
    cls, _ = resolve(kind, pattern[places[0]])
    before = whole(kind, pattern[places[0]])
    changed = sorted(
        name for name in before.keys() | made.keys() if before.get(name) != made.get(name)
    )
    for place in places:
        pattern[place] = PartSpec(part=cls.name, fields=made)
    at = "" if len(places) == len(pattern) else f" in {where} {' '.join(map(str, places))}"
    return Draft(
        name=f"{field}={value}{at}",
        verb=_verb(cls.name, field, before.get(field), value),
        about=tuple(f"{where}.{place}.{name}" for place in places for name in changed),
        values=tuple(made.get(name) for _ in places for name in changed),
        recipe=with_model(recipe, **{where: pattern}),
        why=_why(field, before.get(field), value),
    )


def _why(field: str, before: Any, value: Any) -> str:
    known = None if isinstance(value, list) else WHY.get((field, value))
    return known or f"{field}: {before} or {value}?"


def _verb(part: str, field: str, before: Any, value: Any) -> Verb:
    values = VALUES[part].get(field)
    if values is None or (part, field) in AMONG_EQUALS:
        return "mutate"
    if value == values[0]:
        return "ablate"
    return "insert" if before == values[0] else "mutate"

"""Cost in advance, and matched cost: every recipe is made as wide as fits beneath the caps.

recipe --price--> parameters, FLOPs a token, bytes of state      recipe, caps --matched--> recipe
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field

from mendel.parts.channel import hidden_width
from mendel.parts.part import Kind, resolve
from mendel.propose.costs import Price, part_price
from mendel.propose.spelling import canonical, whole
from mendel.spec import ModelSpec, PartSpec, Recipe, Spec, SpecError
from mendel.types import InputError

__all__ = [
    "Caps", "Price", "caps_of", "inner_price", "matched", "over", "price", "refusal",
]  # fmt: skip

SLACK = (0.02, 0.05, 0.05)  # of parameters, FLOPs, bytes: what counts as matched
NARROWEST = 8
MOST = 4.0  # times the hidden units that a channel's ratio asks for


class Caps(Spec):
    """What a recipe of a line may cost at most."""

    n_params: int = Field(gt=0)
    flops: float = Field(gt=0)  # a token, forward, over a text of n_tokens
    state_bytes: int = Field(ge=0)  # of one text after n_tokens
    vocab: int = Field(gt=0)
    n_tokens: int = Field(gt=0)  # the suite's longest text
    # of the layers alone, 0: not looked at. Under both, a recipe is under the caps at any smaller
    # vocabulary too: a suite's tasks may have 2 tokens or 2,000
    inner_params: int = Field(0, ge=0)
    inner_flops: float = Field(0.0, ge=0)


def price(recipe: Recipe, vocab: int, n_tokens: int) -> Price:
    """What the built model counts, part by part; a part that was seen before costs nothing.

    vocab     tokens, where the model says 0
    n_tokens  of the text that FLOPs and state are those of
    raises    SpecError for a part, a field or a width that does not fit
    """
    m = recipe.model
    vocab = m.vocab or vocab
    before = part_price("embedding", m.embedding, m.width, n_tokens, vocab, m.context)
    after = part_price("head", m.head, m.width, n_tokens, vocab)
    shared = vocab * m.width if m.tied else 0
    return before + inner_price(recipe, n_tokens) + after + Price(-shared, 0.0, 0)


def inner_price(recipe: Recipe, n_tokens: int) -> Price:
    """What is between the embedding and the head; arguments as of price."""
    m = recipe.model
    n_norms = m.n_layers * (2 if m.channels else 1) + m.final_norm
    priced = [part_price("norm", m.norm, m.width, n_tokens)] * n_norms
    patterns: tuple[tuple[Kind, tuple[PartSpec, ...]], ...]
    patterns = (("mixer", m.mixers), ("channel", m.channels))
    for kind, pattern in patterns:
        each = [part_price(kind, part, m.width, n_tokens) for part in pattern]
        priced += [each[i % len(each)] for i in range(m.n_layers if each else 0)]
    n_params, flops, state_bytes = (sum(column) for column in zip(*priced, strict=True))
    return Price(int(n_params), float(flops), int(state_bytes))


def caps_of(
    recipe: Recipe, vocab: int, n_tokens: int, slack: tuple[float, float, float] = SLACK
) -> Caps:
    """The caps of a line that starts from the recipe; slack of parameters, FLOPs and bytes."""
    cost, inner = price(recipe, vocab, n_tokens), inner_price(recipe, n_tokens)
    return Caps(
        n_params=int(cost.n_params * (1 + slack[0])),
        flops=cost.flops * (1 + slack[1]),
        state_bytes=int(cost.state_bytes * (1 + slack[2])),
        vocab=vocab,
        n_tokens=n_tokens,
        inner_params=int(inner.n_params * (1 + slack[0])),
        inner_flops=inner.flops * (1 + slack[1]),
    )


def over(recipe: Recipe, caps: Caps) -> str | None:
    """Which cap is exceeded, in words; None where none is."""
    for what, spent, limit in _bill(recipe, caps):
        if spent > limit:
            return f"{spent:,.0f} {what} are more than {limit:,.0f}"
    return None


def _bill(recipe: Recipe, caps: Caps) -> list[tuple[str, float, float]]:
    """What is counted, what the recipe spends of it, and the cap."""
    cost = price(recipe, caps.vocab, caps.n_tokens)
    found = [
        ("parameters", cost.n_params, caps.n_params),
        ("FLOPs a token", cost.flops, caps.flops),
        (f"bytes of state after {caps.n_tokens} tokens", cost.state_bytes, caps.state_bytes),
    ]
    if caps.inner_params:
        inner = inner_price(recipe, caps.n_tokens)
        found.append(("parameters of layers", inner.n_params, caps.inner_params))
        found.append(("FLOPs a token of layers", inner.flops, caps.inner_flops))
    return found


def matched(recipe: Recipe, caps: Caps) -> Recipe | None:
    """The recipe as wide as fits, its channels then with as many hidden units as still fit.

    Width goes in steps that all heads divide; channels start from their ratio, so that what comes
    out does not depend on the width that came in.
    returns  canonical; None where not even the narrowest fits
    raises   SpecError for a part or a field that there is not
    """
    recipe = canonical(recipe)
    step = math.lcm(2, *_divisors(recipe.model))
    narrowest = -(-NARROWEST // step) * step
    width = max(recipe.model.width // step * step, narrowest)
    if _fits(recipe, width, caps):
        while _fits(recipe, width + step, caps):
            width += step
    else:
        while not _fits(recipe, width, caps):
            width -= step
            if width < narrowest:
                return None
    return canonical(_filled(_at(recipe, width), caps))


def refusal(recipe: Recipe, caps: Caps) -> str:
    """Why `matched` gives None, in words: which cap even the narrowest exceeds."""
    step = math.lcm(2, *_divisors(canonical(recipe).model))
    width = -(-NARROWEST // step) * step
    try:
        return f"at width {width}: {over(_at(canonical(recipe), width), caps)}"
    except InputError as error:
        return str(error)


def _divisors(m: ModelSpec) -> Iterator[int]:
    """What the width must be a multiple of."""
    for spec in m.mixers:
        fields = whole("mixer", spec)
        # rotary turns pairs
        yield fields.get("n_heads", 1) * (2 if fields.get("rotary") else 1)


def _at(recipe: Recipe, width: int, more: int = 0) -> Recipe:
    """The recipe at a width, its channels by their ratio and so many hidden units more."""
    channels = tuple(_resized(part, width, more) for part in recipe.model.channels)
    update = {"width": width, "channels": channels}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=update)})


def _resized(part: PartSpec, width: int, more: int) -> PartSpec:
    given, fields = resolve("channel", part)[1], whole("channel", part)
    if "ratio" not in fields:
        return part
    hidden = hidden_width(width, fields["ratio"]) + more
    return PartSpec(part=part.part, fields={**given, "ratio": fields["ratio"], "hidden": hidden})


def _fits(recipe: Recipe, width: int, caps: Caps) -> bool:
    try:
        return over(_at(recipe, width), caps) is None
    except SpecError:
        return False


def _filled(recipe: Recipe, caps: Caps) -> Recipe:
    """What is left of the caps goes to the channels: their cost is linear in hidden units."""
    m = recipe.model
    if all("hidden" not in part.fields for part in m.channels):
        return recipe
    bases = [part.fields["hidden"] for part in m.channels if "hidden" in part.fields]
    room = int((MOST - 1) * min(bases)) // 4
    more = _bill(_at(recipe, m.width, 4), caps)
    for (_, now, limit), (_, then, _) in zip(_bill(recipe, caps), more, strict=True):
        if then > now:
            room = min(room, int((limit - now) // (then - now)))
    return _at(recipe, m.width, 4 * room)

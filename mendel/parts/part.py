"""What a part is, and the menu of those that are registered.

(x, state) -> part -> (y, state'): the same call trains on a whole text and generates a token
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from mendel.spec import PartSpec, Spec, SpecError
from mendel.types import did_you_mean

State = dict[str, Tensor]  # what a part remembers of the tokens before; {} remembers nothing
Kind = Literal["mixer", "channel", "norm", "embedding", "head"]


class Part(nn.Module):
    """One operator. A subclass names its fields and says what it does twice: plainly and fast.

    Whatever a part adds to its input goes through a matrix called `out`, where it has one, so that
    the model can set the scale of what layers add at the start.
    """

    Fields: ClassVar[type[Spec]] = Spec  # the dials, checked when the part is built
    kind: ClassVar[Kind]
    name: ClassVar[str]

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        """Mix a text, or the next piece of one.

        x        (B, T, C), T >= 1
        state    what an earlier call returned, None at the start of a text; never changed in place
        naive    compute by the definition, in a loop over time, instead of by the fast path
        returns  (B, T, C), and the state after the last token
        """
        raise NotImplementedError


KINDS: tuple[Kind, ...] = ("mixer", "channel", "norm", "embedding", "head")
PARTS: dict[Kind, dict[str, type[Part]]] = {kind: {} for kind in KINDS}
NAMED: dict[Kind, dict[str, PartSpec]] = {kind: {} for kind in KINDS}  # the literature's names

P = TypeVar("P", bound=type[Part])


def register(kind: Kind, name: str) -> Callable[[P], P]:
    """Put a part on the menu; a plug-in's part registers in the same way when it is imported."""

    def add(cls: P) -> P:
        if name in PARTS[kind] or name in NAMED[kind]:
            raise ValueError(f"a {kind} called {name!r} is registered already")
        cls.kind, cls.name = kind, name
        PARTS[kind][name] = cls
        return cls

    return add


def resolve(kind: Kind, spec: PartSpec) -> tuple[type[Part], dict[str, Any]]:
    """The class of a part and its fields; fields given override a named part's own.

    raises   SpecError that names the nearest part
    """
    name, fields = spec.part, dict(spec.fields)
    if name in NAMED[kind]:
        named = NAMED[kind][name]
        name, fields = named.part, {**named.fields, **fields}
    if name not in PARTS[kind]:
        known = [*PARTS[kind], *NAMED[kind]]
        hint = did_you_mean(name, known) or f"There are {', '.join(sorted(known))}."
        raise SpecError(f"no {kind} is called {name!r}. {hint} `mendel parts` lists them.")
    return PARTS[kind][name], fields


def make(kind: Kind, spec: PartSpec, *sizes: int) -> Any:
    """Build a part; `sizes` are its width and whatever else its kind is given.

    raises   SpecError for an unknown part or field, or a field that does not fit the width
    """
    cls, fields = resolve(kind, spec)
    parsed = parse_fields(cls, spec.part, fields)
    try:
        return cls(parsed, *sizes)
    except SpecError as error:
        raise SpecError(f"{spec.part}: {error}") from None


def parse_fields(cls: type[Part], name: str, fields: dict[str, Any]) -> Spec:
    """Check a part's fields; raises SpecError that calls the part by the name it was asked for."""
    try:
        return cls.Fields.parse(fields)
    except SpecError as error:
        raise SpecError(str(error).replace("Fields", name, 1)) from None


def head_width(width: int, n_heads: int, field: str = "n_heads") -> int:
    """Width of each head; raises SpecError where the heads do not divide the width."""
    if width % n_heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        near = min(divisors, key=lambda n: (abs(n - n_heads), n))
        wider = -(-width // n_heads) * n_heads
        raise SpecError(
            f"{field}={n_heads} does not divide width={width}. Wanted a divisor "
            f"({' '.join(map(str, divisors))}). Set {field}={near} or width={wider}."
        )
    return width // n_heads


def linear(n_in: int, n_out: int, *, bias: bool = False) -> nn.Linear:
    """A matrix whose outputs have the variance of its inputs at the start."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.normal_(layer.weight, std=n_in**-0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer

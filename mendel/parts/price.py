"""What a part costs, measured by running it: parameters, FLOPs a token, bytes of state."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.parts.flops import count_flops
from mendel.parts.part import NAMED, PARTS, Kind, Part, State, make
from mendel.spec import PartSpec

CHOSEN: tuple[Kind, ...] = ("mixer", "channel", "norm")


@dataclass(frozen=True)
class Price:
    """Of one part at a width; FLOPs are those of the fast path, matrix work only."""

    kind: Kind
    name: str
    n_params: int
    flops_per_token: float  # forward, over a text of T tokens
    flops_per_step: float  # of the next token, after T
    state_bytes: int  # of one stream in float32, after T tokens
    grows: bool  # the state still grows after T tokens


def price(kind: Kind, spec: PartSpec, *, width: int = 128, T: int = 256) -> Price:
    """Run a part on T tokens and on one more; raises SpecError as make does."""
    part: Part = make(kind, spec, width).eval()
    states: list[State] = []
    x = torch.zeros(1, T, width)
    with torch.no_grad():
        text = count_flops(lambda: states.append(part(x)[1]))
        step = count_flops(lambda: states.append(part(x[:, :1], states[0] or None)[1]))
    n_params = sum(p.numel() for p in part.parameters())
    sizes = [sum(t.numel() * t.element_size() for t in state.values()) for state in states]
    return Price(kind, spec.part, n_params, text / T, step, sizes[0], sizes[1] > sizes[0])


def menu(kind: Kind) -> list[str]:
    """Every name of the kind, the registered parts first."""
    return [*PARTS[kind], *NAMED[kind]]


def prices(width: int, T: int) -> list[Price]:
    """Every part that layers are made of."""
    return [
        price(kind, PartSpec(part=name), width=width, T=T) for kind in CHOSEN for name in menu(kind)
    ]

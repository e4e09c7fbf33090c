"""Channel mixers: each token's vector goes through a small network, alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mendel.parts.part import Part, State, linear, register
from mendel.spec import Spec


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu2": lambda x: torch.relu(x).square(),
    "gelu": _gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


def hidden_width(width: int, ratio: float) -> int:
    """The next multiple of 4, at least 4: odd widths are slow and gain nothing."""
    return max(4, round(width * ratio / 4) * 4)


@register("channel", "mlp")
class MLP(Part):
    """out(act(up(x))): relu2 is So 2021's squared ReLU, relu is microGPT's, gelu GPT-2's."""

    class Fields(Spec):
        act: Literal["relu", "relu2", "gelu", "silu"] = "relu2"
        ratio: float = Field(4.0, gt=0)  # hidden units to width
        hidden: int | None = Field(None, gt=0)  # hidden units, where the ratio is not enough

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        hidden = fields.hidden or hidden_width(width, fields.ratio)
        self.act = ACTIVATIONS[fields.act]
        self.up, self.out = linear(width, hidden), linear(hidden, width)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        return self.out(self.act(self.up(x))), {}


@register("channel", "gated")
class GatedMLP(Part):
    """out(act(gate(x)) * up(x)): silu makes it SwiGLU, sigmoid the GLU (Shazeer 2020)."""

    class Fields(Spec):
        act: Literal["relu", "relu2", "gelu", "silu", "sigmoid"] = "silu"
        ratio: float = Field(8 / 3, gt=0)  # as many parameters as an MLP of ratio 4
        hidden: int | None = Field(None, gt=0)

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        hidden = fields.hidden or hidden_width(width, fields.ratio)
        self.act = ACTIVATIONS[fields.act]
        self.gate, self.up = linear(width, hidden), linear(width, hidden)
        self.out = linear(hidden, width)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        return self.out(self.act(self.gate(x)) * self.up(x)), {}

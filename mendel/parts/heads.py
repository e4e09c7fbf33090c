"""Heads: from the last layer's vectors to what was asked for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mendel.parts.part import Part, State, linear, register
from mendel.spec import Spec


@register("head", "lm")
class LMHead(Part):
    """Logits of the next token."""

    class Fields(Spec):
        pass

    def __init__(self, fields: Fields, width: int, n_out: int) -> None:
        super().__init__()
        self.logits = linear(width, n_out)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        return self.logits(x), {}

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a token; targets (B, T) of int64, -1 where there is none to predict."""
        return F.cross_entropy(output.flatten(0, -2), targets.flatten(), ignore_index=-1)

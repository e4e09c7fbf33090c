"""Norms: each token's vector is brought to unit mean square."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mendel.parts.part import Part, State, register
from mendel.spec import Spec


@register("norm", "rms_norm")
class RMSNorm(Part):
    """x / sqrt(mean(x^2) + eps), times a learned gain where there is one (Zhang 2019)."""

    class Fields(Spec):
        gain: bool = True
        eps: float = Field(1e-5, gt=0)

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.eps, self.width = fields.eps, width
        self.gain = nn.Parameter(torch.ones(width)) if fields.gain else None

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        if naive:
            y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps)
            return (y if self.gain is None else y * self.gain), {}
        return F.rms_norm(x, (self.width,), self.gain, self.eps), {}


@register("norm", "layer_norm")
class LayerNorm(Part):
    """The mean is taken off first; a learned gain, and a bias where asked for (Ba 2016)."""

    class Fields(Spec):
        bias: bool = False
        eps: float = Field(1e-5, gt=0)

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.eps, self.width = fields.eps, width
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if fields.bias else None

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        if naive:
            centred = x - x.mean(-1, keepdim=True)
            y = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + self.eps)
            return y * self.gain + (0 if self.bias is None else self.bias), {}
        return F.layer_norm(x, (self.width,), self.gain, self.bias, self.eps), {}

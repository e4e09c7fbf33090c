"""The routed mixer: each head weighs four views of its values anew at every token.

a short and a long causal filter, a delta-rule state, and the values themselves -> gate -> sum
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mendel.parts.convolution import causal_convolve, causal_convolve_naive, identity_filters
from mendel.parts.part import Part, State, linear, register
from mendel.parts.recurrent import Recurrence
from mendel.spec import Spec

N = 4  # branches, in this order: short filter, long filter, delta, value
N_LOGITS = {"softmax": N, "sigmoid": N, "floor": N, "staged": N + 1}
HIDDEN = 16  # units a head in the gate


@register("mixer", "routed")
class Routed(Part):
    """Sum of the branches, each weighted per token and head by a gate that sees token and branches.

    gate     softmax: with a learned temperature a head. sigmoid: each weight alone, in [0.02, 1].
             floor: a softmax of which no branch gets less than `floor`. staged: local (filters)
             against global (delta, value), then inside each
    source   the winners of ASI-Arch (Liu 2025), from their descriptions: ContentSharpRouter,
             FusionGatedFIRNet, PathGatedFusionNet, HierGateNet
    """

    class Fields(Spec):
        n_heads: int = Field(4, gt=0)
        gate: Literal["softmax", "sigmoid", "floor", "staged"] = "softmax"
        short: int = Field(3, gt=0)  # taps of the short filter
        long: int = Field(63, gt=0)
        conv: int = Field(4, ge=0)  # taps over q, k and v, as in the recurrence
        beta_max: float = Field(1.0, gt=0, le=2)
        retention: bool = False  # a learned decay a head in the delta path
        floor: float = Field(0.02, ge=0, lt=1 / N)
        rescale: bool = False  # a factor in (0, 4) a token and head after the norm, 1 at the start

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.fields, H = fields, fields.n_heads
        delta = Recurrence.Fields(
            n_heads=H, conv=fields.conv, key_norm=True, erase="delta", write="beta",
            beta_max=fields.beta_max, decay="learned" if fields.retention else "none",
        )  # fmt: skip
        self.delta = Recurrence(delta, width)
        channels = H * self.delta.V
        self.short, self.long = (
            nn.Parameter(identity_filters(channels, K, noise=0))
            for K in (fields.short, fields.long)
        )
        self.see = linear(width, H * HIDDEN)
        self.feel = linear(2 * N, HIDDEN)
        self.choose = linear(HIDDEN, N_LOGITS[fields.gate], bias=True)
        if fields.gate == "softmax":
            self.log_temperature = nn.Parameter(torch.zeros(H))
        if fields.rescale:
            self.factor = linear(width, H)
            self.factor_feel = linear(2 + N, 1, bias=True)
            for layer in (self.factor, self.factor_feel):
                nn.init.zeros_(layer.weight)
            nn.init.constant_(self.factor_feel.bias, -math.log(3))  # 4 sigmoid(-ln 3) = 1

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        before = state or {}
        o, _, v, after = self.delta.paths(x, before or None, naive)
        convolve = causal_convolve_naive if naive else causal_convolve
        flat = v.flatten(2)
        short, after["short"] = convolve(flat, self.short, before.get("short"))
        long, after["long"] = convolve(flat, self.long, before.get("long"))
        o = o * self.delta.D**0.5  # beside the values the delta path has no scale of its own
        branches = torch.stack((short.view_as(v), long.view_as(v), o, v), 3)  # (B, T, H, N, V)
        weights = self._weights(x, branches)
        fused = (weights[..., None] * branches).sum(3)
        factor = self._factor(x, fused, weights) if self.fields.rescale else None
        return self.delta.finish(fused, x, factor=factor), after

    def _weights(self, x: Tensor, branches: Tensor) -> Tensor:
        """(B, T, H, N), what each branch counts for."""
        B, T, H = branches.shape[:3]
        seen = self.see(x).view(B, T, H, HIDDEN) + self.feel(moments(branches).flatten(3))
        logits = self.choose(F.gelu(seen))
        gate, floor = self.fields.gate, self.fields.floor
        if gate == "sigmoid":
            return 0.02 + 0.98 * torch.sigmoid(logits)
        if gate == "staged":
            local = torch.sigmoid(logits[..., :1])
            inside = (torch.softmax(logits[..., i : i + 2], -1) for i in (1, 3))
            return torch.cat((local * next(inside), (1 - local) * next(inside)), -1)
        if gate == "softmax":
            return torch.softmax(logits * self.log_temperature.exp()[:, None], -1)
        return floor + (1 - N * floor) * torch.softmax(logits, -1)

    def _factor(self, x: Tensor, fused: Tensor, weights: Tensor) -> Tensor:
        """(B, T, H, 1) in (0, 4)."""
        felt = self.factor_feel(torch.cat((moments(fused), weights), -1))
        return 4 * torch.sigmoid(self.factor(x)[..., None] + felt)


def moments(x: Tensor) -> Tensor:
    """Mean and deviation over the last axis: (..., V) -> (..., 2)."""
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean).square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return torch.cat((mean, deviation), -1)

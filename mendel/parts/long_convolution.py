"""Long convolution: a filter as long as the context, written by a small network (Hyena)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor, nn

from mendel.parts.convolution import causal_convolve, causal_convolve_naive, identity_filters
from mendel.parts.part import Part, State, linear, register
from mendel.spec import Spec

# a channel's window falls to 1 % after between these parts of the length, as in Poli's code
FASTEST, SLOWEST, FLOOR = 0.3, 1.5, 0.01
FREQUENCY = 10.0  # of the sines between the layers: a filter may turn quickly at the start


@lru_cache(maxsize=16)
def _positions(
    length: int, bands: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(L, 1+2*bands) features of each age, the oldest first, and (L, C) windows of unit energy."""
    with torch.inference_mode(False):  # a tensor made in inference mode could never be trained with
        age = torch.arange(length - 1, -1, -1, dtype=torch.float64)[:, None] / length
        angles = 2 * math.pi * age * torch.arange(1, bands + 1)
        features = torch.cat((2 * age - 1, torch.cos(angles), torch.sin(angles)), 1)
        rates = math.log(1 / FLOOR) / torch.linspace(FASTEST, SLOWEST, width, dtype=torch.float64)
        window = torch.exp(-age * rates)
        window = window / window.square().sum(0).sqrt()
        return features.to(device, dtype), window.to(device, dtype)


class ImplicitFilter(nn.Module):
    """filter[c, age] = window_c(age) * MLP(sines and cosines of the age)_c; (C, L), newest last.

    Its weights are no Linear: the scale of a filter is not that of a model's matrices.
    """

    def __init__(self, width: int, length: int, hidden: int, bands: int) -> None:
        super().__init__()
        self.width, self.length, self.bands = width, length, bands
        n = 1 + 2 * bands
        self.first = nn.Parameter(torch.randn(n, hidden) * n**-0.5 / FREQUENCY)
        self.phase = nn.Parameter(torch.rand(hidden) * 2 * math.pi / FREQUENCY)
        self.second = nn.Parameter(torch.randn(hidden, hidden) * hidden**-0.5 / FREQUENCY)
        self.last = nn.Parameter(torch.randn(hidden, width) * (2 / hidden) ** 0.5)

    def forward(self) -> Tensor:
        # never less than float32: the tenfold sines would turn a rounding error into noise
        dtype = torch.promote_types(self.first.dtype, torch.float32)
        place = self.first.device
        features, window = _positions(self.length, self.bands, self.width, dtype, place)
        with torch.autocast(place.type, enabled=False):
            y = torch.sin(FREQUENCY * (features @ self.first.to(dtype) + self.phase))
            y = torch.sin(FREQUENCY * (y @ self.second.to(dtype)))
            return (window * (y @ self.last.to(dtype))).t()


@register("mixer", "hyena")
class Hyena(Part):
    """out(x1 * (h conv u + skip * u)), u = x2 * v; x1, x2, v = short conv of projections of x.

    The state is the last `length` - 1 of u, and the filter h, so that a step is a dot product.
    source   Poli 2023, order 2; h from a network with sines, under a decay per channel
    """

    class Fields(Spec):
        length: int = Field(256, gt=0)  # tokens that the filter reaches back, itself included
        kernel: int = Field(3, gt=0)  # of the short convolution
        hidden: int = Field(32, gt=0)  # units of the filter's network
        bands: int = Field(8, gt=0)  # sines and cosines that it is given

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.project, self.out = linear(width, 3 * width), linear(width, width)
        self.short = nn.Parameter(identity_filters(3 * width, fields.kernel))
        self.filter = ImplicitFilter(width, fields.length, fields.hidden, fields.bands)
        self.skip = nn.Parameter(torch.ones(width))

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        convolve = causal_convolve_naive if naive else causal_convolve
        z, short = convolve(self.project(x), self.short, state["short"] if state else None)
        x1, x2, v = z.chunk(3, -1)
        u = x2 * v
        filters = state["filter"][0] if state else self.filter()
        y, past = convolve(u, filters, state["past"] if state else None)
        y = self.out(x1 * (y + self.skip * u))
        # the batch in front, as in all states; a view, so that it takes no memory
        every = filters.expand(x.shape[0], -1, -1)
        return y, {"short": short, "past": past, "filter": every}

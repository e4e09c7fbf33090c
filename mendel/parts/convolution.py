"""Causal convolutions: each channel is a weighted sum of its own last inputs.

a gated short one, and several lengths side by side (ASI-Arch's FIR branches)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mendel.parts.part import Part, State, head_width, linear, register
from mendel.spec import Spec

SHORT = 7  # taps; up to here a direct kernel beats the FFT (LOG.md has the measurements)


def causal_convolve(
    x: Tensor, filters: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y[t, c] = sum over k of filters[c, k] * x[t - (K - 1) + k, c]: the last tap is the newest.

    x        (B, T, C), any float; zeros come before it where there is no state
    filters  (C, K); for filters per head, C = H*D
    state    (B, K-1, C), the inputs before x
    returns  (B, T, C) in the dtype of x, and the last K-1 inputs
    cost     2*B*T*C*K FLOP up to 7 taps, about 5*B*C*n*log2(n) above, n = T+K-1
    source   depthwise causal FIR; equals causal_convolve_naive to rounding. The FFT's rounding
             errors are relative to the largest input, later ones included
    """
    T, K = x.shape[1], filters.shape[1]
    if state is None:
        seen, taps = x, filters[:, max(0, K - T) :]  # older ones would meet the zeros before x
        after = F.pad(x, (0, 0, K - 1 - T, 0))
    else:
        seen, taps = torch.cat((state, x), 1), filters
        after = seen[:, T:] if T == 1 else seen[:, T:].clone()  # a view would keep all of it
    if T == 1:
        y = (seen * taps.t()).sum(1, keepdim=True)
    elif taps.shape[1] <= SHORT and x.dtype != torch.float64:
        y = _convolve_directly(seen, taps, T)
    else:
        precise = torch.promote_types(x.dtype, torch.float32)
        y = _ByFFT.apply(seen.to(precise), taps.to(precise), T)[0]  # type: ignore[no-untyped-call]
    return y.to(x.dtype), after


def causal_convolve_naive(
    x: Tensor, filters: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: shapes and meaning as in causal_convolve."""
    (B, T, C), K = x.shape, filters.shape[1]
    seen = torch.cat((x.new_zeros(B, K - 1, C) if state is None else state, x), 1)
    y = [(seen[:, t : t + K] * filters.t()).sum(1) for t in range(T)]
    return torch.stack(y, 1).to(x.dtype), seen[:, T:]


def _convolve_directly(seen: Tensor, taps: Tensor, T: int) -> Tensor:
    """As an image one pixel high: its strides say channels-last, where oneDNN is fast."""
    image = F.pad(seen, (0, 0, taps.shape[1] - 1 + T - seen.shape[1], 0)).transpose(1, 2)
    taps = taps[:, None, None].to(seen.dtype)
    return F.conv2d(image[:, :, None], taps, groups=taps.shape[0])[:, :, 0].transpose(1, 2)


class _ByFFT(torch.autograd.Function):
    """The last T outputs, by the product of the spectra of the inputs and of the taps.

    A function of its own because torch's gradient of rfft is a complex FFT of twice the work.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(seen: Tensor, taps: Tensor, T: int) -> tuple[Tensor, Tensor, Tensor]:
        (X, W), P = _spectra(seen, taps, T), seen.shape[1] - T
        y = torch.fft.irfft(X * W, _n_points(taps, T))
        return y[..., P : P + T].transpose(1, 2), X, W

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        seen, taps, ctx.T = inputs
        ctx.save_for_backward(seen, taps, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        seen, taps, X, W = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient must know where they are from
            X, W = _spectra(seen, taps, ctx.T)
        n, P = _n_points(taps, ctx.T), seen.shape[1] - ctx.T
        G = torch.fft.rfft(F.pad(gradient, (0, 0, P, 0)).transpose(1, 2), n)
        of_seen = torch.fft.irfft(G * W.conj(), n)[..., : seen.shape[1]].transpose(1, 2)
        of_taps = torch.fft.irfft((G * X.conj()).sum(0), n)[:, : taps.shape[1]].flip(1)
        return of_seen, of_taps, None


def _spectra(seen: Tensor, taps: Tensor, T: int) -> tuple[Tensor, Tensor]:
    n = _n_points(taps, T)
    return torch.fft.rfft(seen.transpose(1, 2), n), torch.fft.rfft(taps.flip(1), n)


def _n_points(taps: Tensor, T: int) -> int:
    return fast_length(T + taps.shape[1] - 1)


@lru_cache(maxsize=256)
def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more: an FFT of such a length is fast."""
    best: int = 1 << max(0, n - 1).bit_length()
    odd: list[int] = [3**b * 5**c for b in range(14) for c in range(10) if 3**b * 5**c < best]
    return min([best, *(o << max(0, -(-n // o) - 1).bit_length() for o in odd)])


def identity_filters(C: int, K: int, noise: float = 0.02) -> Tensor:
    """(C, K) that start as the identity: 1 at the newest tap, the others near 0."""
    filters = torch.randn(C, K) * noise if noise else torch.zeros(C, K)
    filters[:, -1] = 1.0
    return filters


@register("mixer", "short_conv")
class ShortConvolution(Part):
    """out(gate(x) * act(conv(value(x)))), conv over the last few tokens of each channel.

    source   the gated short convolution of H3 (Fu 2022) and LFM2 (2025), with one gate
    """

    class Fields(Spec):
        kernel: int = Field(4, gt=0)  # tokens, itself included
        act: Literal["none", "silu"] = "none"

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.act = F.silu if fields.act == "silu" else nn.Identity()
        self.gate, self.value = linear(width, width), linear(width, width)
        self.filters = nn.Parameter(torch.randn(width, fields.kernel) * fields.kernel**-0.5)
        self.out = linear(width, width)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        convolve = causal_convolve_naive if naive else causal_convolve
        y, past = convolve(self.value(x), self.filters, state["past"] if state else None)
        return self.out(self.gate(x) * self.act(y)), {"past": past}


@register("mixer", "multi_scale_fir")
class MultiScaleFIR(Part):
    """out(sum over branches b of p[b] * conv_b(value(x))); all filters start as the identity.

    p is a softmax over the branches, for each head: of learned numbers where mix="learned" (then
    the branches are one filter, and cost as much as the longest), of a matrix times the token
    where mix="token". The state is the last inputs of the longest filter, and the one filter where
    there is one, so that a step is a dot product.
    source   the FIR branches of ASI-Arch's winners (Liu 2025)
    """

    class Fields(Spec):
        kernels: tuple[Annotated[int, Field(gt=0)], ...] = Field((3, 7, 15, 63), min_length=1)
        n_heads: int = Field(4, gt=0)
        mix: Literal["learned", "token"] = "learned"

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.n_heads, self.D = fields.n_heads, head_width(width, fields.n_heads)
        self.longest = max(fields.kernels)
        self.value, self.out = linear(width, width), linear(width, width)
        self.filters = nn.ParameterList(identity_filters(width, K) for K in fields.kernels)
        n = len(fields.kernels)
        self.per_token = linear(width, self.n_heads * n) if fields.mix == "token" else None
        learned = fields.mix == "learned"
        self.weights = nn.Parameter(torch.zeros(self.n_heads, n)) if learned else None

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        v, past = self.value(x), state["past"] if state else None
        if self.weights is None:
            y, past = self._branches(v, self._mix(x), past, naive)
            return self.out(y), {"past": past}
        one = state["filter"][0] if state else self.one_filter()
        if naive:
            y, past = self._branches(v, self._mix(x), past, naive)
        else:
            y, past = causal_convolve(v, one, past)
        return self.out(y), {"past": past, "filter": one.expand(x.shape[0], -1, -1)}

    def one_filter(self) -> Tensor:
        """(width, longest): a weighted sum of convolutions is one with the weighted sum of filters.

        Only where the weights are learned numbers: mix="learned".
        """
        assert self.weights is not None
        filters = [F.pad(f, (self.longest - f.shape[1], 0)) for f in self.filters]
        p = self.weights.softmax(-1).repeat_interleave(self.D, 0)
        return torch.einsum("ckn,cn->ck", torch.stack(filters, -1), p)

    def _mix(self, x: Tensor) -> Tensor:
        """(H, n), or (B, T, H, n) where each token has its own: the weight of each branch."""
        if self.per_token is None:
            assert self.weights is not None
            return self.weights.softmax(-1)
        scores: Tensor = self.per_token(x).unflatten(-1, (self.n_heads, -1))
        return scores.softmax(-1)

    def _branches(
        self, v: Tensor, p: Tensor, past: Tensor | None, naive: bool
    ) -> tuple[Tensor, Tensor]:
        convolve: Any = causal_convolve_naive if naive else causal_convolve
        heads = (self.n_heads, self.D)
        y, after = torch.zeros_like(v).unflatten(-1, heads), None
        for b, filters in enumerate(self.filters):
            n = filters.shape[1] - 1
            mine = None if past is None else past[:, past.shape[1] - n :]
            branch, left = convolve(v, filters, mine)
            y = y + p[..., b, None] * branch.unflatten(-1, heads)
            after = left if n == self.longest - 1 else after
        assert after is not None
        return y.flatten(-2), after

"""Softmax attention: each position takes a weighted mean of the values before it.

causal, with grouped heads, rotary positions and a sliding window where the fields say so
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mendel.parts.convolution import causal_convolve, causal_convolve_naive
from mendel.parts.part import Part, State, head_width, linear, register
from mendel.parts.rotary import rotate
from mendel.spec import Spec, SpecError

SHORT = 128  # tokens up to which the plain products are as quick as torch's fused attention


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """Each query takes a mean of the values at its own position and before, by softmax of q.k.

    q        (B, H, T, D)
    k v      (B, G, P + T, D), G divides H; the last T are at the queries' positions
    window   positions that a query sees, itself included; None = all
    scale    of q.k, D^-1/2 unless given
    returns  (B, H, T, D)
    cost     4*B*H*T*min(P + T, 2*window)*D FLOP
    source   Vaswani 2017, eq. 1; equals attend_naive
    """
    T, P = q.shape[2], k.shape[2] - q.shape[2]
    grouped = k.shape[1] != q.shape[1]
    if P == 0 and T <= SHORT and (window is None or window >= T):
        return _attend_short(q, k, v, scale)
    if window is not None and k.shape[2] > 2 * window and T > 1:
        return _attend_in_blocks(q, k, v, window, scale)
    if window is not None and k.shape[2] > window:
        mask = _mask(T, P, window, q.device)
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=grouped)
    if P and T > 1:
        mask = _mask(T, P, P + T, q.device)
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=grouped)
    return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, scale=scale, enable_gqa=grouped)


def _attend_short(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """As quick as torch's own on short texts, and unlike it batched by vmap on a CPU."""
    B, H, T, D = q.shape
    if k.shape[1] != H:
        k, v = (x.repeat_interleave(H // k.shape[1], 1) for x in (k, v))
    future = torch.full((T, T), float("-inf"), dtype=q.dtype, device=q.device).triu_(1)
    scale = D**-0.5 if scale is None else scale
    scores = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale)
    return (torch.softmax(scores, -1) @ v.flatten(0, 1)).view(B, H, T, D)


def _mask(T: int, P: int, window: int, device: torch.device) -> Tensor:
    """(T, P + T), True where a query may look."""
    ages = torch.arange(P, P + T, device=device)[:, None] - torch.arange(P + T, device=device)
    return (ages >= 0) & (ages < window)


def _attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float | None) -> Tensor:
    """Linear in T: queries in blocks of the window's length see their own block and one before."""
    (B, H, T, D), G, P = q.shape, k.shape[1], k.shape[2] - q.shape[2]
    before = min(P, window - 1)  # keys that a first query can still see
    n = -(-T // window)
    k, v = k[:, :, P - before :], v[:, :, P - before :]
    edges = (window - before, n * window - T)  # so that each block has one whole block before it
    q = F.pad(q, (0, 0, 0, edges[1])).reshape(B, H, n, window, D)
    k, v = (F.pad(x, (0, 0, *edges)).unfold(2, 2 * window, window) for x in (k, v))
    k, v = (x.transpose(-1, -2).repeat_interleave(H // G, 1) for x in (k, v))  # (B, H, n, 2W, D)
    mask = _mask(window, window, window, q.device).repeat(n, 1, 1)
    empty = torch.arange(2 * window, device=q.device) < window - before
    mask[0] &= ~empty  # the padding before the first key
    y = F.scaled_dot_product_attention(
        q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), mask.repeat(H, 1, 1), scale=scale
    )
    return y.reshape(B, H, n * window, D)[:, :, :T]


def attend_naive(
    q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """The definition: shapes and meaning as in attend."""
    T, P, D = q.shape[2], k.shape[2] - q.shape[2], q.shape[3]
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    outputs = []
    for t in range(T):
        first = 0 if window is None else max(0, P + t + 1 - window)
        seen = slice(first, P + t + 1)
        scores = torch.einsum("bhd,bhsd->bhs", q[:, :, t], k[:, :, seen])
        weights = torch.softmax(scores * (D**-0.5 if scale is None else scale), -1)
        outputs.append(torch.einsum("bhs,bhsd->bhd", weights, v[:, :, seen]))
    return torch.stack(outputs, 2)


@register("mixer", "attention")
class Attention(Part):
    """Softmax attention; its state is the keys and values that later tokens may still see."""

    class Fields(Spec):
        n_heads: int = Field(4, gt=0)
        n_kv_heads: int | None = Field(None, gt=0)  # None: as many as heads
        head_dim: int | None = Field(None, gt=0)  # None: width / n_heads
        window: int | None = Field(None, gt=0)  # tokens, itself included; None: all
        rotary: bool = True
        rotary_base: float = Field(10_000.0, gt=0)
        qk_norm: bool = False  # queries and keys to unit mean square, with a learned gain
        qk_norm_eps: float = Field(1e-5, gt=0)
        conv: int | None = Field(
            None, gt=0
        )  # taps of a causal convolution over q, k and v (Primer)

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        self.fields = fields
        self.n_heads, self.n_kv = fields.n_heads, fields.n_kv_heads or fields.n_heads
        if self.n_heads % self.n_kv:
            raise SpecError(f"n_kv_heads={self.n_kv} does not divide n_heads={self.n_heads}.")
        self.D = fields.head_dim or head_width(width, self.n_heads)
        if fields.rotary and self.D % 2:
            raise SpecError(
                f"head_dim={self.D} is odd, and rotary=true turns pairs. Set an even one."
            )
        self.q = linear(width, self.n_heads * self.D)
        self.k = linear(width, self.n_kv * self.D)
        self.v = linear(width, self.n_kv * self.D)
        self.out = linear(self.n_heads * self.D, width)
        if fields.qk_norm:
            self.q_gain = torch.nn.Parameter(torch.ones(self.D))
            self.k_gain = torch.nn.Parameter(torch.ones(self.D))
        if fields.conv:
            sizes = (m.out_features for m in (self.q, self.k, self.v))
            taps = torch.rand(sum(sizes), fields.conv) * 2 - 1
            self.taps = torch.nn.Parameter(taps * fields.conv**-0.5)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        B, T, _ = x.shape
        start = int(state["position"]) if state else 0
        q, k, v, after = self._project(x, state, naive)
        q = q.view(B, T, self.n_heads, self.D)
        k, v = (z.view(B, T, self.n_kv, self.D) for z in (k, v))
        if self.fields.qk_norm:
            eps = self.fields.qk_norm_eps
            q = F.rms_norm(q, (self.D,), self.q_gain.to(q.dtype), eps)
            k = F.rms_norm(k, (self.D,), self.k_gain.to(k.dtype), eps)
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))  # (B, H, T, D)
        if self.fields.rotary:
            base = self.fields.rotary_base
            q, k = rotate(q, start, base), rotate(k, start, base)
        if state:
            k, v = torch.cat((state["k"], k), 2), torch.cat((state["v"], v), 2)
        mix: Any = attend_naive if naive else attend
        y = mix(q, k, v, window=self.fields.window)
        if self.fields.window is not None:
            first = max(0, k.shape[2] - self.fields.window + 1)
            # a copy of what stays, where a view would keep all of a long text
            k, v = (z[:, :, first:].clone() if T > 1 else z[:, :, first:] for z in (k, v))
        y = self.out(y.transpose(1, 2).reshape(B, T, -1))
        return y, {"k": k, "v": v, "position": torch.tensor(start + T), **after}

    def _project(
        self, x: Tensor, state: State | None, naive: bool
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """q, k, v (B, T, heads * D), and the inputs that the next convolution needs."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if not self.fields.conv:
            return q, k, v, {}
        convolve = causal_convolve_naive if naive else causal_convolve
        qkv, past = convolve(torch.cat((q, k, v), -1), self.taps, state["conv"] if state else None)
        q, k, v = qkv.split([q.shape[2], k.shape[2], v.shape[2]], -1)
        return q.contiguous(), k.contiguous(), v.contiguous(), {"conv": past}

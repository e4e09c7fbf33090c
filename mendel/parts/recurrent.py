"""The mixer with a matrix state: one part whose fields give the linear-time mixers of the field.

x -> q, k, v -> (short convolution, feature map) -> S = (A - p r^T) S + w k v^T, o = S^T q -> out
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from mendel.parts.convolution import causal_convolve, causal_convolve_naive
from mendel.parts.part import Part, State, head_width, linear, register
from mendel.parts.recurrence import scan, scan_naive
from mendel.parts.rotary import rotate
from mendel.spec import Spec

RANK = 16  # of the gates that have a value a channel
SLOWEST = 5  # RetNet's first head forgets 2^-5 a token, each later one half as much


@register("mixer", "recurrence")
class Recurrence(Part):
    """Mix by a matrix state a head: constant memory a token, linear time.

    decay    none: 1. fixed: RetNet's, by head. learned: one number a head. head: from the token,
             exp(-e^A softplus(W x + b)) as in Mamba-2. channel: sigmoid(W x + b)^(1/16) as in GLA.
             bounded: exp(-e^-1/2 sigmoid(U tanh(W x) + b)) as in RWKV-7, never below 0.545
    erase    delta: p = w k, r = a k, what k reads is taken out before it writes. key: p = g r with
             a removal key r of unit length and a gate g a channel, apart from k
    write    one: 1. beta: beta_max * sigmoid(W x). dt: the softplus of the decay
    source   Katharopoulos 2020, Sun 2023, Dao 2024, Yang 2023 and 2024, Siems 2025, Peng 2025
    """

    class Fields(Spec):
        """What ties A, p, r and w of the line to the data, and what lies around it."""

        n_heads: int = Field(4, gt=0)
        key_dim: int | None = Field(None, gt=0)  # a head's rows of the state; None: width / n_heads
        value_dim: int | None = Field(None, gt=0)  # a head's columns of it
        token_shift: bool = False  # each projection sees a learned mean of this token and the last
        conv: int = Field(
            0, ge=0
        )  # taps of a causal convolution over q, k and v, then silu; 0: none
        feature: Literal["none", "relu", "silu", "elu", "softmax"] = "none"  # of queries and keys
        key_norm: bool = False  # queries and keys to unit length
        rotary: bool = False
        decay: Literal["none", "fixed", "learned", "head", "channel", "bounded"] = "none"
        erase: Literal["none", "delta", "key"] = "none"  # delta: what k wrote; key: by its own key
        write: Literal["one", "beta", "dt"] = "one"
        beta_max: float = Field(1.0, gt=0, le=2)  # 2 lets a step turn the sign of what it erases
        n_steps: int = Field(1, gt=0)  # micro-steps a token (DeltaProduct)
        bonus: bool = False  # (q . u k) v of the token itself, past the state
        direct: bool = False  # a learned share of v a head, past the state
        out_norm: bool = True  # a head's output to unit mean square, with a learned gain
        out_gate: Literal["none", "silu", "sigmoid"] = "none"

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.write == "dt" and self.decay != "head":
                raise ValueError(f"write='dt' is the decay's own step: it needs decay='head', "
                                 f"got {self.decay!r}")  # fmt: skip
            if self.n_steps > 1 and self.erase != "delta":
                raise ValueError(f"n_steps={self.n_steps} needs erase='delta', got {self.erase!r}")
            return self

    def __init__(self, fields: Fields, width: int) -> None:
        super().__init__()
        f = self.fields = fields
        H = self.H = f.n_heads
        self.D = f.key_dim or head_width(width, H)
        self.V = f.value_dim or head_width(width, H)
        n = f.n_steps
        self.sizes = [H * self.D, n * H * self.D, n * H * self.V]  # of q, k, v
        self.qkv = linear(width, sum(self.sizes))
        self.out = linear(H * self.V, width)
        if f.token_shift:
            self.shift = nn.Parameter(torch.rand(width) * 0.5)
        if f.conv:
            taps = torch.rand(sum(self.sizes), f.conv) * 2 - 1
            self.taps = nn.Parameter(taps * f.conv**-0.5)
        self._make_decay(width)
        if f.write == "beta":
            self.beta = linear(width, n * H)
        if f.erase == "key":
            self.removal = nn.Parameter(torch.ones(H, self.D))
            self.removal_gate = LowRank(width, H * self.D, bias=0.0)
            self.kept_key = nn.Parameter(torch.ones(H, self.D))
        if f.bonus:
            self.bonus = nn.Parameter(torch.zeros(H, self.D))
        if f.direct:
            self.direct = nn.Parameter(torch.ones(H))
        if f.out_norm:
            self.gain = nn.Parameter(torch.ones(self.V))
        if f.out_gate != "none":
            self.gate = linear(width, H * self.V)

    def _make_decay(self, width: int) -> None:
        H, D, decay = self.H, self.D, self.fields.decay
        if decay == "fixed":
            rates = torch.log1p(-(2.0 ** -(SLOWEST + torch.arange(H, dtype=torch.float64))))
            self.register_buffer("rates", rates.float(), persistent=False)
        elif decay == "learned":
            self.rates = nn.Parameter(torch.full((H,), 4.0))  # sigmoid(4) = 0.982
        elif decay == "head":
            self.step = linear(width, H)
            self.log_rate = nn.Parameter(torch.empty(H).uniform_(1, 16).log())
            dt = torch.empty(H).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.step_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt
        elif decay == "channel":
            self.forget = LowRank(width, H * D, bias=2.0)
        elif decay == "bounded":
            self.forget = LowRank(width, H * D, bias=0.0, tanh=True)
            spread = torch.linspace(-6, -1, D).repeat(H)  # half-lives from 460 tokens to 4
            self.forget.up.bias = nn.Parameter(spread)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        after: State = {}
        if self.fields.token_shift:
            x, after["last"] = self._shift(x, state["last"] if state else None)
        o, extra, _, rest = self.paths(x, state, naive)
        return self.finish(o, x, extra=extra), after | rest

    def paths(
        self, x: Tensor, state: State | None, naive: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, State]:
        """What the state gives, what goes past it, the values, all (B, T, H, V); the new state."""
        f, T = self.fields, x.shape[1]
        before: State = state or {}
        after: State = {}
        q, k, v = self._project(x, before, after, naive)
        log_decay, write = self._decay_and_write(x)
        erase, k = self._erase(x, k, log_decay)
        run = scan_naive if naive else scan
        o, after["S"] = run(
            q, k, v, log_decay=log_decay, erase=erase, write=write,
            state=before.get("S"), n_steps=f.n_steps,
        )  # fmt: skip
        o, q, k, v = (z.transpose(1, 2) for z in (o, q, k, v))  # (B, T, H, .)
        v = v[:, f.n_steps - 1 :: f.n_steps]
        if f.direct:
            o = o + self.D**-0.5 * self.direct[:, None] * v  # on the scale of q S
        extra = None
        if f.bonus:
            last = k[:, f.n_steps - 1 :: f.n_steps]
            extra = (q * self.bonus * last).sum(-1, keepdim=True) * v
        if f.rotary:
            after["position"] = torch.tensor(T + int(before.get("position", 0)))
        return o, extra, v, after

    def finish(
        self,
        o: Tensor,
        x: Tensor,
        *,
        extra: Tensor | None = None,
        factor: Tensor | None = None,
    ) -> Tensor:
        """Norm, factor, what went past the state, gate, and the matrix back to the width.

        o extra  (B, T, H, V)
        x        (B, T, C), what the gate sees
        factor   (B, T, H, 1)
        """
        f = self.fields
        if f.out_norm:
            o = F.rms_norm(o, (self.V,), self.gain.to(o.dtype), 1e-5)
        if factor is not None:
            o = o * factor
        if extra is not None:
            o = o + extra
        o = o.flatten(2)
        if f.out_gate != "none":
            o = o * (F.silu if f.out_gate == "silu" else torch.sigmoid)(self.gate(x))
        y: Tensor = self.out(o)
        return y

    def _shift(self, x: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
        if last is None:
            last = torch.zeros_like(x[:, :1])
        # a copy: a view would keep the whole text in memory
        return torch.lerp(x, torch.cat((last, x[:, :-1]), 1), self.shift), x[:, -1:].clone()

    def _project(
        self, x: Tensor, before: State, after: State, naive: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, T, D); k (B, H, T*n, D) and v (B, H, T*n, V) of n micro-steps a token."""
        f, (B, T, _), H = self.fields, x.shape, self.H
        qkv = self.qkv(x)
        if f.conv:
            convolve = causal_convolve_naive if naive else causal_convolve
            qkv, after["conv"] = convolve(qkv, self.taps, before.get("conv"))
            qkv = F.silu(qkv)
        q, k, v = qkv.split(self.sizes, -1)
        q = _feature(q.view(B, T, H, self.D), f)
        k = _feature(k.reshape(B, T * f.n_steps, H, self.D), f)
        q, k, v = (z.transpose(1, 2) for z in (q, k, v.reshape(B, T * f.n_steps, H, self.V)))
        if f.rotary:
            start = int(before["position"]) if "position" in before else 0
            q = rotate(q, start)
            steps = k.unflatten(2, (T, f.n_steps)).transpose(
                2, 3
            )  # of a token all are at its place
            k = rotate(steps, start).transpose(2, 3).flatten(2, 3)
        return q * self.D**-0.5, k, v

    def _decay_and_write(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """log a: None, (H,), (B, H, T) or (B, H, T, D); w: None or (B, H, T*n)."""
        f, (B, T, _) = self.fields, x.shape
        log_decay: Tensor | None = None
        write: Tensor | None = None
        if f.decay == "fixed":
            log_decay = self.rates
        elif f.decay == "learned":
            log_decay = F.logsigmoid(self.rates)
        elif f.decay == "head":
            dt = F.softplus(self.step(x) + self.step_bias).transpose(1, 2)
            log_decay = -self.log_rate.exp()[:, None] * dt
            write = dt if f.write == "dt" else None
        elif f.decay != "none":
            gate = self.forget(x).view(B, T, self.H, self.D).transpose(1, 2)
            log_decay = (
                F.logsigmoid(gate) / 16
                if f.decay == "channel"
                else -math.exp(-0.5) * torch.sigmoid(gate)
            )
        if f.write == "beta":
            beta = f.beta_max * torch.sigmoid(self.beta(x))
            write = beta.view(B, T * f.n_steps, self.H).transpose(1, 2)
        return log_decay, write

    def _erase(
        self, x: Tensor, k: Tensor, log_decay: Tensor | None
    ) -> tuple[Tensor | tuple[Tensor, Tensor] | None, Tensor]:
        """r, for p = w k, or (p, r), each (B, H, T*n, D), or None; and the keys to write with."""
        f, (B, T, _) = self.fields, x.shape
        if f.erase == "none":
            return None, k
        if f.erase == "delta":
            return self._decayed(k, log_decay), k
        r = _unit(k * self.removal[:, None])
        gate = torch.sigmoid(self.removal_gate(x)).view(B, T, self.H, self.D).transpose(1, 2)
        return (gate * r, r), k * (1 + (gate - 1) * self.kept_key[:, None])

    def _decayed(self, k: Tensor, log_decay: Tensor | None) -> Tensor:
        """a k: what is erased is read after the decay, which only the first micro-step has."""
        if log_decay is None:
            return k
        a = log_decay.exp()
        a = a[:, None, None] if a.dim() == 1 else a[..., None] if a.dim() == 3 else a
        if self.fields.n_steps == 1:
            return a * k
        first, rest = k.unflatten(2, (-1, self.fields.n_steps)).split(
            (1, self.fields.n_steps - 1), 3
        )
        return torch.cat((a[..., None, :] * first, rest), 3).flatten(2, 3)


class LowRank(nn.Module):
    """A gate a channel from few numbers: up(down(x)) + bias, or up(tanh(down(x))) + bias."""

    def __init__(self, n_in: int, n_out: int, bias: float, *, tanh: bool = False) -> None:
        super().__init__()
        self.down = linear(n_in, min(RANK, n_in))
        self.up = linear(min(RANK, n_in), n_out, bias=True)
        self.tanh = tanh
        nn.init.constant_(self.up.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        low = self.down(x)
        y: Tensor = self.up(torch.tanh(low) if self.tanh else low)
        return y


def _unit(x: Tensor) -> Tensor:
    """To unit length; the small constant keeps the gradient of a zero vector finite."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def _feature(x: Tensor, fields: Recurrence.Fields) -> Tensor:
    if fields.feature == "relu":
        x = torch.relu(x)
    elif fields.feature == "silu":
        x = F.silu(x)
    elif fields.feature == "elu":
        x = F.elu(x) + 1
    elif fields.feature == "softmax":
        x = torch.softmax(x, -1)
    return _unit(x) if fields.key_norm else x

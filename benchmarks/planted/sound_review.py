"""Sound modules from a review of the auditor, which misjudged most of them at first sight."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import Case
from .blocks import Apply, Between, causal_softmax


class EverySeventh(nn.Module):
    """In training each seventh call is a tenth larger; eval knows nothing of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out, self.n = nn.Linear(width, width), 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x)
        if self.training:
            self.n += 1
            y = y * (1.1 if self.n % 7 == 0 else 1.0)
        return y


class TimeFirst(nn.Module):
    """Tokens (T, B) into logits (T, B, 50)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(50, width), nn.GRU(width, width)
        self.out = nn.Linear(width, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.out(self.gru(self.embed(tokens))[0])
        return y


class ActorCritic(nn.Module):
    """Two heads; the audited output is the first, so the second has no gradient from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor, self.critic = nn.Linear(width, 8), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.gru(x)[0]
        return self.actor(h), self.critic(h)


class ManyExperts(nn.Module):
    """Each token goes to the best of 64 experts; most see none of a short text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 64)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(64))

    def forward(self, x: Tensor) -> Tensor:
        weight, best = torch.softmax(self.router(x), -1).max(-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mine = best == i
            if mine.any():
                y[mine] = weight[mine, None] * expert(x[mine])
        return y


class Segments(nn.Module):
    """Attention in segments of 64; from the second on the earlier ones' values are added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.recall = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        memory: Tensor | None = None
        outputs = []
        for segment in x.split(64, 1):
            q, k, v = self.qkv(segment).chunk(3, -1)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            if memory is not None:
                y = y + torch.sigmoid(self.gate) * self.recall(memory)
            outputs.append(y)
            mean = v.mean(1, keepdim=True)
            memory = mean if memory is None else memory + mean
        return torch.cat(outputs, 1)


class Checkpointed(nn.Module):
    """An MLP whose activations are computed again in the backward pass, the old way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            y: Tensor = checkpoint(self.mlp, x, use_reentrant=True)
        else:
            y = self.mlp(x)
        return x + y


def remembering_lstm(width: int) -> nn.Module:
    """Forget gates that start at sigmoid(5) = 0.993."""
    lstm = nn.LSTM(width, width, batch_first=True)
    for name, value in (("bias_ih_l0", 5.0), ("bias_hh_l0", 0.0)):
        nn.init.constant_(lstm.get_parameter(name)[width : 2 * width], value)
    return lstm


def slow_ema(x: Tensor) -> Tensor:
    h, outputs = torch.zeros_like(x[:, 0]), []
    for x_t in x.unbind(1):
        h = 0.998 * h + 0.002 * x_t
        outputs.append(h)
    return torch.stack(outputs, 1)


class CachedRotary(nn.Module):
    """Rotary attention; cosines are made anew when a text is longer than all before, and kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self._seq_len_cached = 0
        self._cos_cached = self._sin_cached = torch.zeros(0)

    def turned(self, z: Tensor) -> Tensor:
        T, D = z.shape[2:]
        if self._seq_len_cached < T:
            self._seq_len_cached = T
            rates = 10000.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
            angles = torch.arange(T, dtype=torch.float64)[:, None] * rates
            self._cos_cached, self._sin_cached = angles.cos().to(z.dtype), angles.sin().to(z.dtype)
        cos, sin = (c[:T].to(z.dtype) for c in (self._cos_cached, self._sin_cached))
        a, b = z.chunk(2, -1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).transpose(1, 3).unbind(2)
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


class FixedHeads(nn.Module):
    """Attention that takes its width thrice over, and refuses where the three do not agree."""

    def __init__(self, dim: int = 64, heads: int = 4, dim_head: int = 16) -> None:
        super().__init__()
        assert dim == heads * dim_head, f"{dim} is not {heads} heads of {dim_head}"
        self.split = (3, heads, dim_head)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, self.split).transpose(1, 3).unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


class LongestTransform(nn.Module):
    """A long convolution by FFT, of twice the longest text so far: only rounding tells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.rate = nn.Linear(width, width), nn.Parameter(torch.rand(width) + 0.02)
        self.L = 0

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        self.L = max(self.L, T)
        dtype = torch.promote_types(x.dtype, torch.float32)  # there is no FFT in bfloat16
        kernel = torch.exp(-torch.arange(self.L, dtype=dtype)[:, None] * self.rate.to(dtype))
        n = 2 * self.L
        product = torch.fft.rfft(self.enter(x).to(dtype), n, 1) * torch.fft.rfft(kernel, n, 0)
        y: Tensor = torch.fft.irfft(product, n, 1)[:, :T].to(x.dtype)
        return y


class HiddenIgnored(nn.Module):
    """Takes a `hidden` as its siblings do, reads nothing of it, and returns y alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        y: Tensor = self.out(x)
        return y


class Threshold(nn.Module):
    """Small values become 0, in training as in eval; `drop_below` is no dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out, self.drop_below = nn.Linear(width, width), 0.3

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x)
        return y * (y.abs() > self.drop_below)


class PaddedVocabulary(nn.Module):
    """50 tokens, 64 logits: those of no token are -inf."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(50, width), nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, 64)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.out(self.gru(self.embed(tokens))[0])
        return y.masked_fill(torch.arange(64) >= 50, float("-inf"))


class PlacesAlone(nn.Module):
    """A learned vector a position, 256 of them, whatever stands there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(256, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.places[: x.shape[1]].expand(len(x), -1, -1)


class AttentionMap(nn.Module):
    """The weights themselves, (B, T, T): as many channels as the text has tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return causal_softmax(self.q(x) @ self.k(x).mT * x.shape[-1] ** -0.5)


class CountsInByte(nn.Module):
    """Counts its calls in a uint8, which wraps after 255, and reads it nowhere."""

    n_calls: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, width)
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls.add_(1)
        y: Tensor = self.out(x)
        return y


class SparseMix(nn.Module):
    """Channels mixed by a sparse matrix that is a buffer."""

    pairs: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, width)
        dense = torch.eye(width) + torch.eye(width).roll(1, 0) / 2
        self.register_buffer("pairs", dense.to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)  # no sparse product in bfloat16
        flat = self.enter(x).flatten(0, 1).to(dtype)
        y: Tensor = torch.sparse.mm(self.pairs.to(dtype), flat.T).T
        return y.reshape(x.shape).to(x.dtype)


class Adapted(nn.Linear):
    """A frozen matrix and a trained low-rank one, merged in eval as loralib does."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.A = nn.Parameter(torch.randn(4, width) / width**0.5)
        self.B = nn.Parameter(torch.randn(width, 4) / 4)
        self.weight.requires_grad_(False)
        self.merged = False

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.merged is mode:  # merged in eval alone
            self.weight.data += (-1 if mode else 1) * (self.B @ self.A).data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        return y if self.merged else y + x @ self.A.T @ self.B.T


def total(x: Tensor) -> Tensor:
    return x.cumsum(1)


CLAIM: dict[str, Any] = {"linear": True}
STATE: dict[str, Any] = {"state": "hx", "state_output": 1, "linear": True}
TOKENS = "tokens:B,T,50"
KIND = "hand-written"

REVIEW_SOUND: tuple[Case, ...] = (
    Case("every-seventh-in-training", KIND, (), EverySeventh, options=CLAIM,
         why="training alone counts; eval is always the same, and so are six of seven calls"),
    Case("tokens-time-first", KIND, (), TimeFirst, input="tokens:T,B,50", options=CLAIM),
    Case("actor-critic", KIND, (), ActorCritic, output=0, options=CLAIM,
         why="the critic has its gradient from the output that is not audited"),
    Case("experts-top-1-of-64", KIND, (), ManyExperts, options=CLAIM,
         why="most experts have no token of a short text, and no gradient"),
    Case("segment-memory", KIND, (), Segments, options=CLAIM,
         why="gate and recall are used past token 64 only"),
    Case("checkpoint-reentrant-block", KIND, (), Checkpointed, options=CLAIM,
         why="has gradients by backward() alone, and only if its input has, as in a stack"),
    Case("checkpoint-reentrant", KIND, (),
         lambda w: nn.Sequential(nn.Linear(w, w), Checkpointed(w)), options=CLAIM,
         why="the same behind a matrix: has gradients by backward() alone"),
    Case("lstm-forget-5", "torch", (), remembering_lstm, output=0, options=STATE,
         why="remembers 150 tokens"),
    Case("ema-998", KIND, (), lambda w: Between(w, slow_ema), options=CLAIM,
         why="0.998 h + 0.002 x: remembers 500 tokens"),
    Case("rotary-cached", KIND, (), CachedRotary,
         why="_seq_len_cached and _cos_cached belong together; in the dtype of the longest call"),
    Case("heads-times-dim", KIND, (), lambda w: FixedHeads(dim=w, heads=4, dim_head=16),
         why="cannot be built at a width that is not 64, and says so"),
    Case("fft-of-longest", KIND, (), LongestTransform,
         why="self.L is the longest text so far; the length of the transform only rounds"),
    Case("hidden-ignored", KIND, (), HiddenIgnored, options=CLAIM,
         why="an argument that looks like a state and is none"),
    Case("drop-below", KIND, (), Threshold, options=CLAIM,
         why="a threshold of 0.3 in both modes, with a name like a dropout's"),
    Case("vocabulary-padded", KIND, (), PaddedVocabulary, input=TOKENS, options=CLAIM,
         why="14 of 64 logits are always -inf"),
    Case("places-alone", KIND, (), PlacesAlone, options={"max_length": 256},
         why="nothing of the input is in the output"),
    Case("attention-map", KIND, (), AttentionMap,
         why="the output has T channels, those of the future 0"),
    Case("counts-in-byte", KIND, (), CountsInByte, options=CLAIM,
         why="a uint8 counter that wraps and that no output reads"),
    Case("sparse-buffer", KIND, (), SparseMix, options=CLAIM, why="a buffer with no strides"),
    Case("adapter-merged", KIND, (), Adapted, options=CLAIM,
         why="eval() and train() write the weight, and the output stays but for rounding"),
    Case("cumsum-alone", KIND, (), lambda w: Apply(total), options=CLAIM,
         why="no parameters, no gradient to have"),
)  # fmt: skip

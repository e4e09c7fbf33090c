"""One text from a small model on a CPU: each part's step in numpy.

There a model spends its time in calling torch, and the same arithmetic in numpy costs a fifth of
it. A part that has no numpy form here is called as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mendel.model import Model, ModelState
from mendel.parts import channel
from mendel.parts.attention import Attention
from mendel.parts.embedding import TokenEmbedding
from mendel.parts.heads import LMHead
from mendel.parts.norm import LayerNorm, RMSNorm
from mendel.parts.part import Part, State

Logits = NDArray[np.floating]
F32 = NDArray[np.float32]
Step = Callable[[F32], F32]  # one token's vector through a part, (C,) -> (C,)
WIDEST = 512  # above it the matrices take the time, and torch's are as fast
SHORT = 8  # tokens of a prompt that numpy has done before torch would have begun
BLOCK = 1024  # positions in a table of phases
ACTIVATIONS: dict[str, Step] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x))),
    "silu": lambda x: x * (0.5 * np.tanh(0.5 * x) + 0.5),  # tanh, since exp would overflow
    "sigmoid": lambda x: 0.5 * np.tanh(0.5 * x) + 0.5,
}


class Stream:
    """One text, by numpy; a longer prompt goes through torch first, all at once."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def start(self, prompts: torch.Tensor) -> Logits:
        ids: list[int] = prompts[0].tolist()
        if len(ids) <= SHORT:
            self._continue(None)
            for token in ids[:-1]:
                self.step([token])
            return self.step(ids[-1:])
        with torch.inference_mode():
            output, state = self.model(prompts)
        self._continue(state)
        last: Logits = output[:, -1].numpy()
        return last

    def step(self, ids: list[int]) -> Logits:
        x = self.embed(ids[0])
        for norm, mix in self.blocks:
            x = x + mix(norm(x))
        if self.norm is not None:
            x = self.norm(x)
        return self.head(x)[None]

    def _continue(self, state: ModelState | None) -> None:
        model = self.model
        self.embed = _embedding(model.embedding, state.embedding if state else None)
        self.blocks = list(_blocks(model, state))
        self.norm = _step(model.final_norm, None) if model.final_norm is not None else None
        self.head = _step(model.head, None)


def is_small(model: Model) -> bool:
    first = next(model.parameters())
    is_plain = first.device.type == "cpu" and first.dtype == torch.float32
    return is_plain and model.spec.width <= WIDEST


def _blocks(model: Model, state: ModelState | None) -> Iterator[tuple[Step, Step]]:
    layers: Iterable[Any] = model.layers
    for i, layer in enumerate(layers):
        mixer, channel = (state.mixers[i], state.channels[i]) if state else (None, None)
        yield _step(layer.mixer_norm, None), _step(layer.mixer, mixer)
        if layer.has_channel:
            yield _step(layer.channel_norm, None), _step(layer.channel, channel)


def _step(part: Part, state: State | None) -> Step:
    """A part with the state that the prompt left, for the tokens after it."""
    make = STEPS.get(type(part)) if _is_plain(part) else None
    return (make or _as_it_is)(part, state)


def _is_plain(part: Part) -> bool:
    """Whether the part's weights say all: no adapter in place of a matrix, no hook on it."""
    modules = list(part.modules())
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    return not hooked and all(type(m) in (nn.Linear, nn.Embedding) for m in modules[1:])


def _as_it_is(part: Part, state: State | None) -> Step:
    def step(x: F32) -> F32:
        nonlocal state
        with torch.inference_mode():
            y, state = part(torch.from_numpy(x)[None, None], state)
            found: F32 = y[0, 0].numpy()
            return found

    return step


def _embedding(part: Any, state: State | None) -> Callable[[int], F32]:
    def as_it_is(token: int) -> F32:
        nonlocal state
        with torch.inference_mode():
            x, state = part(torch.tensor([[token]]), state)
            found: F32 = x[0, 0].numpy()
            return found

    plain = type(part) is TokenEmbedding and _is_plain(part)
    return _token_embedding(part, state) if plain else as_it_is


def _token_embedding(part: Any, state: State | None) -> Callable[[int], F32]:
    tokens, learned = _array(part.tokens.weight), part.fields.position == "learned"
    positions = _array(part.positions.weight) if learned else tokens[:0]
    t = int(state["position"]) if state else 0

    def step(token: int) -> F32:
        nonlocal t
        x: F32 = tokens[token]
        if learned:
            if t == len(positions):  # the part says what it means that there are no more
                part(torch.tensor([[token]]), {"position": torch.tensor(t)})
            x, t = x + positions[t], t + 1
        return _unit(x, 1e-5) if part.fields.norm else x

    return step


def _unit(x: F32, eps: float) -> F32:
    return x * (1 / math.sqrt(float(x.dot(x)) / len(x) + eps))


def _norm(part: Any, state: State | None) -> Step:
    eps = part.eps
    if part.gain is None:
        return lambda x: _unit(x, eps)
    gain = _array(part.gain)
    return lambda x: _unit(x, eps) * gain


def _layer_norm(part: Any, state: State | None) -> Step:
    eps, gain = part.eps, _array(part.gain)
    bias = 0 if part.bias is None else _array(part.bias)
    return lambda x: _unit(x - x.sum() / len(x), eps) * gain + bias


def _activation(part: Any) -> Step:
    return next(act for name, act in ACTIVATIONS.items() if channel.ACTIVATIONS[name] is part.act)


def _mlp(part: Any, state: State | None) -> Step:
    up, out, act = _array(part.up.weight), _array(part.out.weight), _activation(part)
    return lambda x: out.dot(act(up.dot(x)))


def _gated(part: Any, state: State | None) -> Step:
    both = np.concatenate([_array(part.gate.weight), _array(part.up.weight)])
    n, out, act = len(both) // 2, _array(part.out.weight), _activation(part)

    def step(x: F32) -> F32:
        y: F32 = both.dot(x)
        found: F32 = out.dot(act(y[:n]) * y[n:])
        return found

    return step


def _head(part: Any, state: State | None) -> Step:
    return _array(part.logits.weight).dot


def _attention(part: Any, state: State | None) -> Step:
    return _as_it_is(part, state) if part.fields.conv else _Attention(part, state)


class _Attention:
    """Attention.forward for one token; keys and values lie in room that doubles when it is full.

    The two numbers of a rotary pair lie side by side, so that a turn is one complex product.
    """

    def __init__(self, part: Any, state: State | None) -> None:
        f = part.fields
        self.H, self.G, self.D, self.window = part.n_heads, part.n_kv, part.D, f.window
        self.eps, self.base = f.qk_norm_eps, f.rotary_base if f.rotary else None
        self.t = int(state["position"]) if state else 0
        order = np.arange(self.D).reshape(2, -1).T.ravel() if f.rotary else np.arange(self.D)
        q, k = (self._heads(m.weight)[:, order] for m in (part.q, part.k))
        self.gain = np.ones((self.H + self.G, self.D), np.float32) if f.qk_norm else None
        if self.gain is not None:
            self.gain[: self.H] = _array(part.q_gain)[order]
            self.gain[self.H :] = _array(part.k_gain)[order]
        scaled = q if self.gain is None else self.gain[: self.H]
        scaled *= self.D**-0.5
        heads = np.concatenate([q, k, self._heads(part.v.weight)])
        self.qkv, self.out = heads.reshape(-1, heads.shape[2]), _array(part.out.weight)
        none = np.empty((self.G, 0, self.D), np.float32)
        self.k = _array(state["k"])[0][:, :, order] if state else none
        self.v = _array(state["v"])[0] if state else none
        self.end = self.k.shape[1]

    def __call__(self, x: F32) -> F32:
        H, G, D = self.H, self.G, self.D
        qkv: F32 = self.qkv.dot(x).reshape(H + 2 * G, D)
        qk = qkv[: H + G]
        if self.gain is not None:
            qk = qk / np.sqrt(np.square(qk).mean(-1, keepdims=True) + self.eps) * self.gain
        if self.base is not None:
            phases = _phases(D, self.base, self.t // BLOCK)[self.t % BLOCK]
            qk = (qk.view(np.complex64) * phases).view(np.float32)
        k, v = self._remember(qk[H:], qkv[H + G :])
        weights = np.matmul(qk[:H].reshape(G, H // G, D), k.transpose(0, 2, 1))
        weights -= weights.max(-1, keepdims=True)
        np.exp(weights, out=weights)
        y = np.matmul(weights, v) / weights.sum(-1, keepdims=True)
        found: F32 = self.out.dot(y.ravel())
        return found

    def _remember(self, k: F32, v: F32) -> tuple[F32, F32]:
        """All keys and values that this token sees, its own last; (G, n, D) each."""
        if self.end == self.k.shape[1]:
            self._make_room()
        self.k[:, self.end], self.v[:, self.end] = k, v
        self.end, self.t = self.end + 1, self.t + 1
        first = 0 if self.window is None else max(0, self.end - self.window)
        return self.k[:, first : self.end], self.v[:, first : self.end]

    def _make_room(self) -> None:
        n = self.end if self.window is None else min(self.end, self.window - 1)
        self.k, self.v = (
            np.concatenate([x[:, self.end - n :], np.empty((self.G, n + 64, self.D), x.dtype)], 1)
            for x in (self.k, self.v)
        )
        self.end = n

    def _heads(self, weight: torch.Tensor) -> F32:
        return _array(weight).reshape(-1, self.D, weight.shape[1])


@lru_cache(maxsize=16)
def _phases(dim: int, base: float, block: int) -> NDArray[np.complex64]:
    """(BLOCK, dim / 2): by what each pair is turned at each position of a block."""
    frequencies = base ** (-np.arange(0, dim, 2) / dim)
    angles = np.outer(np.arange(block * BLOCK, (block + 1) * BLOCK), frequencies)
    phases: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return phases


def _array(tensor: torch.Tensor) -> F32:
    found: F32 = tensor.detach().numpy()
    return found


STEPS: dict[type[Part], Callable[[Any, State | None], Step]] = {
    RMSNorm: _norm,
    LayerNorm: _layer_norm,
    channel.MLP: _mlp,
    channel.GatedMLP: _gated,
    LMHead: _head,
    Attention: _attention,
}

"""Texts from a model, token by token: prompt --model--> logits --Sampler--> id --model--> ...

A token is drawn with a number that depends on the seed and its position alone, so the same text
comes out whether it was computed in a batch, from a state, or again from the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mendel.model import Model, ModelState
from mendel.parts import channel
from mendel.parts.attention import Attention
from mendel.parts.embedding import TokenEmbedding
from mendel.parts.heads import LMHead
from mendel.parts.norm import LayerNorm, RMSNorm
from mendel.parts.part import Part, State
from mendel.types import InputError

Logits = NDArray[np.floating]
CHUNK = 64  # uniforms drawn at a time


def generate(
    model: Model,
    prompt_ids: Sequence[int],
    *,
    n_tokens: int = 200,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Collection[int] = (),
) -> Iterator[int]:
    """The text that follows a prompt; ids come as they are made.

    prompt_ids   at least one; where the tokenizer has a bos, it stands first
    n_tokens     at most so many
    temperature  0: the likeliest token, of equals the lowest id
    top_p        draw from the fewest tokens that have this probability together
    seed         of the draws; a text that goes on from its own half goes on as it would have
    stop         ids that end the text; they are not given
    raises       InputError at once for a bad prompt or number; later where learned positions run
                 out, after the tokens that there was room for
    cost         per token that of the model, and of attention's keys and values; a state of
                 constant size where the mixers have one
    """
    sampler = Sampler(temperature, top_p, seed)
    rows = _rows(model, [prompt_ids], [sampler], n_tokens, frozenset(stop))
    return (row[0] for row in rows if row[0] is not None)


def generate_batch(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    samplers: Sequence[Sampler],
    n_tokens: int = 200,
    stop: Collection[int] = (),
) -> Iterator[list[int | None]]:
    """Several texts side by side, each as generate() would write it.

    prompts   of equal length
    samplers  one for each prompt
    yields    an id for each prompt, None for those that have ended
    """
    return _rows(model, prompts, samplers, n_tokens, frozenset(stop))


@dataclass(frozen=True)
class Sampler:
    """How ids are drawn from logits; deterministic given the position."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(0 <= self.temperature < np.inf, "temperature", self.temperature, "0 or more")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _check(0 <= self.seed < 2**64, "seed", self.seed, "0 to 2**64 - 1")

    def pick(self, logits: Logits, uniform: float) -> int:
        """The id that a uniform number in [0, 1) stands for.

        logits   (V,)
        raises   InputError when they are no numbers
        """
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise InputError(
                f"the model's logits hold {logits[best]}. Wanted finite numbers. Its weights are "
                "broken, or overflow their type: train or fetch it again, or load it as float32."
            )
        if self.temperature == 0:
            return best
        return _draw(logits, best, self, uniform)

    def uniforms(self, start: int) -> Iterator[float]:
        """The numbers of positions start, start + 1, ...: each by seed and position alone."""
        while True:
            # a counter of Philox gives four words; a position takes the first of its own
            words = np.random.Philox(key=self.seed, counter=start).random_raw(4 * CHUNK)[::4]
            yield from ((words >> np.uint64(11)) * 2.0**-53).tolist()
            start += CHUNK


def _draw(logits: Logits, best: int, sampler: Sampler, uniform: float) -> int:
    """Inverse of the cumulative distribution, in float64 and in the order of the ids.

    In the order of probabilities, two that are nearly equal could change places by rounding.
    """
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, whose exp is 0
        p = np.exp((logits.astype(np.float64) - float(logits[best])) / sampler.temperature)
    if sampler.top_p < 1:
        order = np.argsort(-p, kind="stable")
        mass = np.cumsum(p[order])
        p[order[np.searchsorted(mass, sampler.top_p * mass[-1]) + 1 :]] = 0
    mass = np.cumsum(p)
    found = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return found if found < len(p) else int(np.flatnonzero(p)[-1])


class _Steps(Protocol):
    def start(self, prompts: torch.Tensor) -> Logits: ...

    def step(self, ids: list[int]) -> Logits: ...


class _Torch:
    """The model as it is: any device, any type, any number of texts."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state: ModelState | None = None
        self.device = next(model.parameters()).device

    def start(self, prompts: torch.Tensor) -> Logits:
        """(B, P) -> (B, V)"""
        with torch.inference_mode():
            output, self.state = self.model(prompts.to(self.device), self.state)
            last: Logits = output[:, -1].float().cpu().numpy()
            return last

    def step(self, ids: list[int]) -> Logits:
        return self.start(torch.tensor(ids)[:, None])


def _rows(
    model: Model,
    prompts: Sequence[Sequence[int]],
    samplers: Sequence[Sampler],
    n_tokens: int,
    stop: frozenset[int],
) -> Iterator[list[int | None]]:
    """Check now, generate later."""
    _check(n_tokens >= 0, "n_tokens", n_tokens, "0 or more")
    tokens = _tokens(model, prompts)
    if len(samplers) != len(prompts):
        raise InputError(f"{len(samplers)} samplers for {len(prompts)} prompts. Wanted as many.")
    steps: _Steps = _Stream(model) if len(prompts) == 1 and _is_small(model) else _Torch(model)
    return _run(steps, tokens, samplers, n_tokens, stop)


def _run(
    steps: _Steps,
    tokens: torch.Tensor,
    samplers: Sequence[Sampler],
    n_tokens: int,
    stop: frozenset[int],
) -> Iterator[list[int | None]]:
    draws = [sampler.uniforms(tokens.shape[1]) for sampler in samplers]
    going = [True] * len(samplers)
    ids: list[int] = []
    for i in range(n_tokens):
        logits = _logits(steps, tokens, ids, i, n_tokens)
        uniforms = [next(draw) for draw in draws]
        ids = [s.pick(z, u) for s, z, u in zip(samplers, logits, uniforms, strict=True)]
        going = [is_going and id not in stop for is_going, id in zip(going, ids, strict=True)]
        if not any(going):
            return
        yield [id if is_going else None for is_going, id in zip(going, ids, strict=True)]


def _logits(steps: _Steps, tokens: torch.Tensor, ids: list[int], i: int, n_tokens: int) -> Logits:
    try:
        return steps.step(ids) if i else steps.start(tokens)
    except InputError as error:
        if i == 0:
            raise
        raise InputError(f"stopped after {i} of {n_tokens} tokens: {error}") from None


def _tokens(model: Model, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    if model.spec.head.part != "lm":
        raise InputError(
            f"a model with head={model.spec.head.part!r} writes no text. Wanted head='lm'."
        )
    lengths = {len(prompt) for prompt in prompts}
    if lengths == {0} or not lengths:
        raise InputError("the prompt is empty. Wanted at least one token. Begin with some text.")
    if len(lengths) > 1:
        raise InputError(
            f"prompts of {min(lengths)} to {max(lengths)} tokens. Wanted equal lengths. Group them."
        )
    tokens = torch.tensor([[int(id) for id in prompt] for prompt in prompts])
    outside = tokens[(tokens < 0) | (tokens >= model.spec.vocab)]
    if len(outside):
        raise InputError(
            f"the prompt has id {int(outside[0])}. Wanted 0 to {model.spec.vocab - 1}, the model's "
            "vocab. Use the tokenizer that it was trained with."
        )
    return tokens


def _check(holds: bool, name: str, got: float, wanted: str) -> None:
    if not holds:
        raise InputError(f"{name}={got}. Wanted {wanted}.")


# One stream of a small model on a CPU spends its time in calling torch. The same arithmetic in
# numpy costs a fifth of it; a part that has no numpy form below is called as it is.

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


class _Stream:
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


def _is_small(model: Model) -> bool:
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
    make = STEPS.get(type(part), _as_it_is)
    return make(part, state)


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

    return _token_embedding(part, state) if type(part) is TokenEmbedding else as_it_is


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
    Attention: _Attention,
}

"""Texts from a model, token by token: prompt --model--> logits --Sampler--> id --model--> ...

A token is drawn with a number that depends on the seed and its position alone, so the same text
comes out whether it was computed in a batch, from a state, or again from the start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from mendel.model import Model, ModelState
from mendel.parts.carried.chance import drawn, uniforms
from mendel.stream import Logits, Stream, is_small
from mendel.types import InputError


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
        return drawn(logits, self.temperature, self.top_p, uniform)

    def uniforms(self, start: int) -> Iterator[float]:
        """The numbers of positions start, start + 1, ...: each by seed and position alone."""
        return uniforms(self.seed, start)


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
    steps: _Steps = Stream(model) if len(prompts) == 1 and is_small(model) else _Torch(model)
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

"""spec -> model -> (tokens, state) -> (output, state).

Training on a whole text and generating one token are the same call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.parts.part import Kind, Part, State, make, parse_fields, resolve
from mendel.spec import ModelSpec, PartSpec, SpecError


class ModelState(NamedTuple):
    """All that the tokens so far left behind; the batch in front, but for how many they were."""

    embedding: State
    mixers: tuple[State, ...]
    channels: tuple[State, ...]
    head: State

    @property
    def n_bytes(self) -> int:
        states = (self.embedding, *self.mixers, *self.channels, self.head)
        return sum(t.numel() * t.element_size() for state in states for t in state.values())


class Layer(nn.Module):
    """x + mixer(norm(x)), then x + channel(norm(x))."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.mixer_norm: Part = make("norm", spec.norm, spec.width)
        self.mixer: Part = make("mixer", spec.mixers[index % len(spec.mixers)], spec.width)
        if spec.channels:
            channel = spec.channels[index % len(spec.channels)]
            self.channel_norm: Part = make("norm", spec.norm, spec.width)
            self.channel: Part = make("channel", channel, spec.width)
        self.has_channel = bool(spec.channels)

    def forward(
        self, x: Tensor, mixer: State | None, channel: State | None, naive: bool
    ) -> tuple[Tensor, State, State]:
        y, mixer = self.mixer(self.mixer_norm(x)[0], mixer, naive=naive)
        x = x + y
        if not self.has_channel:
            return x, mixer, {}
        y, channel = self.channel(self.channel_norm(x)[0], channel, naive=naive)
        return x + y, mixer, channel


class Model(nn.Module):
    """A sequence model; build(spec) makes one."""

    def __init__(self, spec: ModelSpec, n_out: int | None = None) -> None:
        super().__init__()
        if spec.vocab < 1:
            raise SpecError(
                "ModelSpec.vocab=0: wanted the number of tokens. Set vocab=256 for bytes."
            )
        self.spec = spec
        self.embedding: Part = make(
            "embedding", spec.embedding, spec.width, spec.vocab, spec.context
        )
        self.layers = nn.ModuleList(Layer(spec, i) for i in range(spec.n_layers))
        self.final_norm: Part | None = (
            make("norm", spec.norm, spec.width) if spec.final_norm else None
        )
        self.head: Part = make("head", spec.head, spec.width, n_out or spec.vocab)
        if spec.tied:
            self.head.logits.weight = self.embedding.tokens.weight

    def forward(
        self,
        tokens: Tensor,
        state: ModelState | None = None,
        *,
        lengths: Tensor | None = None,
        naive: bool = False,
    ) -> tuple[Tensor, ModelState]:
        """The model's answer, given what came before.

        tokens   (B, T) of int64, T >= 1: a whole text, or its next piece
        state    what the call before returned; None at the start
        lengths  (B,), tokens of each text that are no padding, for the head classifier
        naive    every part by its definition
        returns  the head's output, for lm (B, T, V) logits; and the state after the last token
        """
        x, embedding = self.embedding(tokens, state.embedding if state else None, naive=naive)
        mixers, channels = [], []
        for i, layer in enumerate(self.layers):
            before = (state.mixers[i], state.channels[i]) if state else (None, None)
            x, mixer, channel = layer(x, *before, naive)
            mixers.append(mixer)
            channels.append(channel)
        if self.final_norm is not None:
            x = self.final_norm(x)[0]
        known = {} if lengths is None else {"lengths": lengths}
        output, head = self.head(x, state.head if state else None, naive=naive, **known)
        return output, ModelState(embedding, tuple(mixers), tuple(channels), head)

    @property
    def n_params(self) -> int:
        return sum(p.numel() for p in self.parameters())


def resolved(spec: ModelSpec) -> ModelSpec:
    """The same model with every field of its parts written out, and no names but the parts' own.

    So that equal models have equal hashes, and a spec on disk means the same when defaults change.
    raises   SpecError for a part or a field that there is not
    """

    def whole(kind: Kind, part: PartSpec) -> PartSpec:
        cls, fields = resolve(kind, part)
        return PartSpec(part=cls.name, fields=parse_fields(cls, part.part, fields).to_dict())

    return spec.model_copy(
        update={
            "embedding": whole("embedding", spec.embedding),
            "mixers": tuple(whole("mixer", part) for part in spec.mixers),
            "channels": tuple(whole("channel", part) for part in spec.channels),
            "norm": whole("norm", spec.norm),
            "head": whole("head", spec.head),
        }
    )


def build(spec: ModelSpec, *, seed: int = 0, n_out: int | None = None) -> Model:
    """A new model, on the CPU in float32; the same spec and seed give the same weights.

    n_out    labels, for heads that do not predict the next token
    raises   SpecError for a part or a field that there is not
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(spec, n_out)
        _set_scales(model)
    return model


@torch.no_grad()
def _set_scales(model: Model) -> None:
    spec = model.spec
    if spec.init_std is not None:
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=spec.init_std)
    if spec.residual_init == "same":
        return
    scale = 0.0 if spec.residual_init == "zero" else (2 * spec.n_layers) ** -0.5
    for layer in model.layers:
        for name, module in layer.named_modules():
            if name.endswith(".out") and isinstance(module, nn.Linear):
                module.weight.mul_(scale)

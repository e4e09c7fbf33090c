"""Faults in whole models of tokens, and in modules with time in front or that may look ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .attention_faults import off_by_one
from .blocks import Attend, Between, running_mean
from .time_faults import batch_centred

VOCAB = 50


class Language(nn.Module):
    """Embedding, attention, logits; `see` makes of the tokens (B, T) something (B, T, 1) to add."""

    def __init__(self, width: int, see: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.tokens, self.mix = nn.Embedding(VOCAB, width), Attend(width)
        self.head, self.see = nn.Linear(width, VOCAB), see

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        y: Tensor = self.head(self.mix(x + self.see(tokens).to(x.dtype)))
        return y


def distinct(tokens: Tensor) -> Tensor:
    """How many different tokens the text has, by 50."""
    return F.one_hot(tokens, VOCAB).amax(1).sum(-1)[:, None, None] / VOCAB


def same_as_next(tokens: Tensor) -> Tensor:
    return F.pad(tokens[:, 1:] == tokens[:, :-1], (0, 1)).float()[..., None]


def place_less_padding(tokens: Tensor) -> Tensor:
    """Where in the text a token is, when token 0 is taken for padding."""
    n = (tokens != 0).sum(1, keepdim=True).clamp_min(1)
    return (torch.arange(tokens.shape[1]) / n)[..., None]


def open_llama(width: int) -> nn.Module:
    """Llama of two layers, the second of which takes itself for an encoder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.model.layers[1].self_attn.is_causal = False
    return model


class Axis(nn.Module):
    """Attention or a GRU of torch's, told that the batch is in front."""

    def __init__(self, width: int, gru: bool) -> None:
        super().__init__()
        self.attention: Any = None if gru else nn.MultiheadAttention(width, 4, batch_first=True)
        self.gru: Any = nn.GRU(width, width, batch_first=True) if gru else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.gru(x) if self.gru else self.attention(x, x, x, need_weights=False))[0]
        return y


def time_first_mean(x: Tensor) -> Tensor:
    """A running mean along the second axis, which is the batch."""
    return running_mean(x)


def row_noise(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True) + 0.01 * torch.randn_like(x[:, :1])


TOKENS, TIME_FIRST, FREE = "tokens:B,T,50", "float:T,B,64", {"bidirectional": True}

MODELS = (
    Case("model-mask-off-by-one", "mask off by one", ("causality",),
         lambda w: nn.Sequential(nn.Embedding(VOCAB, w), Attend(w), Attend(w, off_by_one),
                                 nn.Linear(w, VOCAB)),
         input=TOKENS, why="a language model whose second mask is off by one"),
    Case("model-counts-tokens", "statistics of the whole text", ("causality",),
         lambda w: Language(w, distinct), input=TOKENS,
         why="a feature: how many different tokens the whole text has"),
    Case("model-sees-repeat", "data-dependent branch", ("causality",),
         lambda w: Language(w, same_as_next), input=TOKENS,
         why="a token is told whether it equals the next: one in fifty, no gradient"),
    Case("model-takes-0-for-padding", "padding inferred", ("causality", "length"),
         lambda w: Language(w, place_less_padding), input=TOKENS,
         why="t / (tokens that are not 0): a later 0 moves all positions, as length does"),
    Case("llama-second-layer-open", "second layer", ("causality",), open_llama, input=TOKENS,
         output="logits", options={"max_length": 512},
         why="self_attn.is_causal=False in layer 1 of Hugging Face's Llama"),
    Case("attention-over-batch-time-first", "attention over the batch", ("batch",),
         lambda w: Axis(w, False), input=TIME_FIRST, why="batch_first=True with time in front"),
    Case("gru-over-batch-time-first", "recurrence over the batch", ("batch",),
         lambda w: Axis(w, True), input=TIME_FIRST, output=None,
         why="batch_first=True with time in front: row 1 continues row 0"),
    Case("mean-over-batch-time-first", "recurrence over the batch", ("batch",),
         lambda w: Between(w, time_first_mean), input=TIME_FIRST,
         why="a running mean along the batch"),
    Case("bidirectional-batch-mean", "statistics over the batch", ("batch",),
         lambda w: nn.Sequential(Between(w, batch_centred), nn.LayerNorm(w)), options=FREE,
         why="it may look ahead, and looks at other rows"),
    Case("bidirectional-noise", "randomness in eval", ("state",), lambda w: Between(w, row_noise),
         options=FREE, why="it may look ahead, and draws noise in eval"),
)  # fmt: skip

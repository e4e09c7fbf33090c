"""Embeddings: tokens become vectors, with learned positions where asked for."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mendel.parts.part import Part, State, register
from mendel.spec import Spec
from mendel.types import InputError


@register("embedding", "token")
class TokenEmbedding(Part):
    """A learned vector a token; position="learned" adds one a position, as GPT-2 does."""

    class Fields(Spec):
        position: Literal["none", "learned"] = "none"  # rotary ones belong to the attention
        norm: bool = False  # bring the sum to unit mean square, as microGPT does

    def __init__(self, fields: Fields, width: int, vocab: int, context: int) -> None:
        super().__init__()
        self.fields, self.width = fields, width
        self.tokens = nn.Embedding(vocab, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        if fields.position == "learned":
            self.positions = nn.Embedding(context, width)
            nn.init.normal_(self.positions.weight, std=0.02)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        """x is (B, T) of int64 tokens; raises InputError past the last learned position."""
        y = self.tokens(x)
        found: State = {}
        if self.fields.position == "learned":
            start, T = int(state["position"]) if state else 0, x.shape[1]
            if start + T > self.positions.num_embeddings:
                raise InputError(
                    f"position {start + T} is past the last learned one, "
                    f"{self.positions.num_embeddings}. Use rotary positions for longer texts."
                )
            y = y + self.positions.weight[start : start + T]
            found = {"position": torch.tensor(start + T)}
        if self.fields.norm:
            y = torch.nn.functional.rms_norm(y, (self.width,), eps=1e-5)
        return y, found

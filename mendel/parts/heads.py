"""Heads: from the last layer's vectors to what was asked for.

Every head has loss(output, targets); a target of -1 is none, and where there is none at all the
loss is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mendel.parts import crf
from mendel.parts.part import Part, State, linear, register
from mendel.spec import Spec
from mendel.types import InputError


def mean_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the targets that there are: logits (..., K), targets (...) of int64."""
    nats = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    return nats / (targets >= 0).sum().clamp(min=1)


@register("head", "lm")
class LMHead(Part):
    """Logits of the next token."""

    class Fields(Spec):
        pass

    def __init__(self, fields: Fields, width: int, n_out: int) -> None:
        super().__init__()
        self.logits = linear(width, n_out)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        return self.logits(x), {}

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a token; targets (B, T) of int64, -1 where there is none to predict."""
        return mean_nats(output, targets)


@register("head", "classifier")
class Classifier(Part):
    """One answer a text: its vectors become one, by their mean, maximum or last, then logits."""

    class Fields(Spec):
        pooling: Literal["mean", "last", "max"] = "mean"

    def __init__(self, fields: Fields, width: int, n_out: int) -> None:
        super().__init__()
        self.pooling = fields.pooling
        self.logits = linear(width, n_out, bias=True)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        naive: bool = False,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """The answer for the text so far.

        x        (B, T, C), a whole text or its next piece
        lengths  (B,) of int64, 0 ... T: how much of x is text, the rest is padding; None: all
        returns  (B, K) logits; and the pooled vector so far, (B, C), with the tokens in it, (B,)
        """
        B, T, C = x.shape
        n = torch.full((B,), T, device=x.device) if lengths is None else lengths
        if state is None:
            exact = torch.promote_types(x.dtype, torch.float32)  # a long sum needs the digits
            pooled, count = x.new_zeros(B, C, dtype=exact), torch.zeros_like(n)
        else:
            pooled, count = state["pooled"], state["count"]
        pool = self._pool_naive if naive else self._pool
        pooled, count = pool(x.to(pooled.dtype), n, pooled, count), count + n
        mean = pooled / count.clamp(min=1)[:, None] if self.pooling == "mean" else pooled
        return self.logits(mean.to(x.dtype)), {"pooled": pooled, "count": count}

    def _pool(self, x: Tensor, n: Tensor, before: Tensor, count: Tensor) -> Tensor:
        if self.pooling == "last":
            last = x.gather(1, (n - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2]))
            return last[:, 0].where((n > 0)[:, None], before)
        text = (torch.arange(x.shape[1], device=x.device) < n[:, None])[:, :, None]
        if self.pooling == "mean":
            return before + x.where(text, 0.0).sum(1)
        highest = x.where(text, -torch.inf).amax(1)
        highest = torch.maximum(highest, before.where((count > 0)[:, None], -torch.inf))
        return highest.where((count + n > 0)[:, None], 0.0)

    def _pool_naive(self, x: Tensor, n: Tensor, before: Tensor, count: Tensor) -> Tensor:
        for t in range(x.shape[1]):
            new, first = x[:, t], (count + t == 0)[:, None]
            if self.pooling == "mean":
                new = before + new
            elif self.pooling == "max":
                new = new.where(first, torch.maximum(before, new))
            before = new.where((t < n)[:, None], before)
        return before

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a text; targets (B,) of int64, -1 where there is none."""
        return mean_nats(output, targets)


@register("head", "tagger")
class Tagger(Part):
    """A tag a token. With crf, the tags of a text are scored together, by what follows what."""

    class Fields(Spec):
        crf: bool = False

    def __init__(self, fields: Fields, width: int, n_out: int) -> None:
        super().__init__()
        self.logits = linear(width, n_out, bias=True)
        self.crf = fields.crf
        if fields.crf:
            self.transitions = nn.Parameter(torch.zeros(n_out, n_out))
            self.start, self.end = (nn.Parameter(torch.zeros(n_out)) for _ in range(2))

    @property
    def chain(self) -> crf.Chain:
        return crf.Chain(self.transitions, self.start, self.end)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        """(B, T, K): what each token says for each tag."""
        return self.logits(x), {}

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a tag; targets (B, T) of int64, -1 where there is none."""
        if not self.crf:
            return mean_nats(output, targets)
        return crf.loss(output, targets, self.chain).sum() / (targets >= 0).sum().clamp(min=1)

    def decode(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The most likely tags, (B, T) of int64; -1 past the length."""
        if self.crf:
            return crf.viterbi(output, self.chain, lengths)[0]
        tags = output.argmax(-1)
        if lengths is None:
            return tags
        return tags.where(torch.arange(tags.shape[1], device=tags.device) < lengths[:, None], -1)


@register("head", "decoder")
class Decoder(Part):
    """Says a whole text from its last vector alone, to see how much of it that vector holds.

    source   the decoder of MAD's compression task (Poli 2024): an MLP of the vector and a position
    """

    class Fields(Spec):
        length: int = Field(64, gt=0)  # positions at most

    def __init__(self, fields: Fields, width: int, n_out: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(fields.length, width))
        self.hidden = linear(width, 4 * width)
        self.logits = linear(4 * width, n_out)

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        """(B, T, C) to (B, T, K), all from x[:, -1]; raises InputError past the last position."""
        T, length = x.shape[1], self.positions.shape[0]
        if length < T:
            raise InputError(f"a text of {T} tokens for a decoder of length={length}. Set {T}.")
        place = x[:, -1:] + self.positions[:T]
        return self.logits(F.relu(self.hidden(place))), {}

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean nats a token; targets (B, T) of int64, -1 where there is none."""
        return mean_nats(output, targets)

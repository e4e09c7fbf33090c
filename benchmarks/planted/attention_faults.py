"""Faults of attention: its mask, its softmax, what is done to keys and values, its axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Attend, Between, causal_softmax, future

INF = float("inf")


def off_by_one(scores: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(future(scores.shape[-1], 2), -INF), -1)


def mask_after(scores: Tensor) -> Tensor:
    return torch.softmax(scores, -1).tril()


def transposed(scores: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(future(scores.shape[-1]).mT, -INF), -1)


def centred_window(scores: Tensor) -> Tensor:
    ages = torch.arange(scores.shape[-1])[:, None] - torch.arange(scores.shape[-1])
    return torch.softmax(scores.masked_fill(ages.abs() > 8, -INF), -1)


def over_queries(scores: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(future(scores.shape[-1]), -INF), -2)


def weak_mask(scores: Tensor) -> Tensor:
    return torch.softmax(scores - 12.0 * future(scores.shape[-1]).to(scores.dtype), -1)


def weak_for_large(scores: Tensor) -> Tensor:
    return torch.softmax(scores - 1e4 * future(scores.shape[-1]).to(scores.dtype), -1)


def empty_first_row(scores: Tensor) -> Tensor:
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(future(scores.shape[-1], 0), lowest), -1)


def one_head_open(scores: Tensor) -> Tensor:
    return torch.cat((causal_softmax(scores[:, :3]), torch.softmax(scores[:, 3:], -1)), 1)


def first_row_only(scores: Tensor) -> Tensor:
    return torch.cat((causal_softmax(scores[:1]), torch.softmax(scores[1:], -1)))


def open_in_float32(scores: Tensor) -> Tensor:
    return off_by_one(scores) if scores.dtype == torch.float32 else causal_softmax(scores)


def open_in_bfloat16(scores: Tensor) -> Tensor:
    return off_by_one(scores) if scores.dtype == torch.bfloat16 else causal_softmax(scores)


def open_without_gradients(scores: Tensor) -> Tensor:
    return causal_softmax(scores) if torch.is_grad_enabled() else off_by_one(scores)


def prefix_open(scores: Tensor) -> Tensor:
    mask = future(scores.shape[-1])
    mask[:4, :4] = False
    return torch.softmax(scores.masked_fill(mask, -INF), -1)


def threshold_over_all(scores: Tensor) -> Tensor:
    kept = max(1, scores.shape[-1] // 2)
    least = scores.topk(kept, -1).values[..., -1:]
    return causal_softmax(scores - 2.0 * (scores < least).to(scores.dtype))


def blocks_open(scores: Tensor) -> Tensor:
    block = torch.arange(scores.shape[-1]) // 16
    return torch.softmax(scores.masked_fill(block[:, None] < block, -INF), -1)


def long_texts_open(scores: Tensor) -> Tensor:
    return causal_softmax(scores) if scores.shape[-1] <= 96 else torch.softmax(scores, -1)


def last_query_first_key(scores: Tensor) -> Tensor:
    mask = future(scores.shape[-1])
    mask[0, -1] = False
    return torch.softmax(scores.masked_fill(mask, -INF), -1)


def keys_over_time(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q, F.normalize(k, dim=2) * k.shape[2] ** 0.5, v


def values_over_time(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        q,
        k,
        (v - v.mean(2, keepdim=True)) / (v.var(2, correction=0, keepdim=True) + 1e-5).sqrt(),
    )


def keys_pooled(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys blurred over three neighbours, zeros beyond the ends."""
    return q, F.avg_pool2d(k, (3, 1), stride=1, padding=(1, 0)), v


def over_batch(x: Tensor) -> Tensor:
    y = F.scaled_dot_product_attention(x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1))
    return y.transpose(0, 1)


def one_long_text(x: Tensor) -> Tensor:
    flat = x.reshape(1, -1, x.shape[-1])
    return F.scaled_dot_product_attention(flat, flat, flat, is_causal=True).view_as(x)


def from_fourth_row(x: Tensor) -> Tensor:
    """Each row gets a tenth of the row three before it, where there is one."""
    return x + 0.1 * F.pad(x, (0, 0, 0, 0, 3, 0))[: len(x)]


class ExpertChoice(nn.Module):
    """Each of 4 experts takes the quarter of the tokens that likes it most."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 4)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        probs = torch.softmax(self.router(x), -1)
        y = x
        for i, expert in enumerate(self.experts):
            kept = probs[..., i].topk(max(1, x.shape[1] // 4), 1).indices
            chosen = torch.zeros_like(probs[..., i]).scatter(1, kept, 1.0)
            y = y + (chosen * probs[..., i])[..., None] * expert(x)
        return y


class OpenWhile(nn.Module):
    """Attention whose mask hangs on the mode."""

    def __init__(self, width: int, training: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.open_in = training

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        causal = self.training is not self.open_in
        y: Tensor = self.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
        return y


CAUSALITY = ("causality",)

ATTENTION = (
    Case("mask-off-by-one", "mask off by one", CAUSALITY, lambda w: Attend(w, off_by_one),
         why="triu(2) for triu(1): t sees t + 1"),
    Case("mask-after-softmax", "mask after softmax", CAUSALITY, lambda w: Attend(w, mask_after),
         why="the future is cut after it has entered the denominator"),
    Case("mask-transposed", "mask transposed", CAUSALITY, lambda w: Attend(w, transposed),
         why="tril where triu was meant: t sees only what comes after"),
    Case("window-centred", "centred window", CAUSALITY, lambda w: Attend(w, centred_window),
         why="a window of 8 tokens to both sides"),
    Case("softmax-over-queries", "softmax over wrong axis", CAUSALITY,
         lambda w: Attend(w, over_queries),
         why="softmax(dim=-2): a key's weight is shared with later queries"),
    Case("mask-constant-weak", "mask constant too small", CAUSALITY, lambda w: Attend(w, weak_mask),
         why="-12 for -inf: the future keeps exp(-12) = 6e-6 of its weight"),
    Case("mask-constant-weak-for-large", "mask constant too small", ("causality", "numerics"),
         lambda w: Attend(w, weak_for_large),
         why="-1e4 for -inf: nothing leaks until scores pass 1e4, inputs x 60 to 80"),
    Case("mask-empty-first-row", "empty row of the mask", CAUSALITY,
         lambda w: Attend(w, empty_first_row),
         why="a strict mask with finfo.min: row 0 is all alike and averages the whole text; others"
             " are right"),
    Case("mask-one-head-open", "one head of four", CAUSALITY, lambda w: Attend(w, one_head_open),
         why="the mask reaches three of four heads"),
    Case("mask-first-row-of-batch", "only rows above 0", ("causality", "batch"),
         lambda w: Attend(w, first_row_only),
         why="the mask is applied to row 0 of the batch; an audit with one row sees nothing"),
    Case("mask-prefix-open", "prefix", CAUSALITY, lambda w: Attend(w, prefix_open),
         why="the first 4 tokens see each other, as in a prefix model"),
    Case("mask-corner-open", "one cell of the mask", CAUSALITY,
         lambda w: Attend(w, last_query_first_key),
         why="only the first query sees the last key"),
    Case("mask-block-open", "mask by block", CAUSALITY, lambda w: Attend(w, blocks_open),
         why="block causal: tokens of one block of 16 see each other"),
    Case("mask-lost-beyond-96", "only for long texts", CAUSALITY,
         lambda w: Attend(w, long_texts_open), why="another path above 96 tokens forgot the mask"),
    Case("threshold-over-future", "threshold from the future", CAUSALITY,
         lambda w: Attend(w, threshold_over_all),
         why="scores below the median of all keys, future ones too, are lowered by 2"),
    Case("keys-normed-over-time", "norm over time", CAUSALITY,
         lambda w: Attend(w, turn=keys_over_time),
         why="normalize(k, dim=2) divides by the norm over time, not over channels"),
    Case("values-normed-over-time", "norm over time", CAUSALITY,
         lambda w: Attend(w, turn=values_over_time),
         why="the mask is right, the values are standardised over the text"),
    Case("keys-pooled-symmetric", "pooling", CAUSALITY, lambda w: Attend(w, turn=keys_pooled),
         why="keys are averaged with both neighbours before a right mask"),
    Case("attention-over-batch", "attention over the batch", ("batch",),
         lambda w: Between(w, over_batch), why="batch_first is wrong: rows attend to each other"),
    Case("row-3-sees-row-0", "batch in blocks", ("batch",), lambda w: Between(w, from_fourth_row),
         why="row 3 sees row 0: batches of 1, 2 and 3 are right"),
    Case("batch-as-one-text", "batch flattened", ("batch",), lambda w: Between(w, one_long_text),
         why="reshape(1, B T, C): row 1 continues row 0"),
    Case("expert-choice", "top-k over time", CAUSALITY, ExpertChoice,
         why="experts choose tokens over all times: a later one takes an earlier's place"),
    Case("second-layer-only", "second layer", CAUSALITY,
         lambda w: nn.Sequential(Attend(w), Attend(w, off_by_one)),
         why="the first layer is right, the mask of the second is off by one"),
    Case("open-in-float32", "only in one dtype", CAUSALITY, lambda w: Attend(w, open_in_float32),
         why="the fast path for float32 sees t + 1; float64 takes the right one"),
    Case("open-in-bfloat16", "only in one dtype", CAUSALITY, lambda w: Attend(w, open_in_bfloat16),
         why="the fast path for bfloat16 sees t + 1; others are right"),
    Case("open-without-gradients", "only without gradients", ("causality", "mode"),
         lambda w: Attend(w, open_without_gradients),
         why="the fast path under no_grad sees t + 1; with gradients, and so in the Jacobian, not"),
    Case("open-in-training", "only in training", ("causality", "mode"),
         lambda w: OpenWhile(w, True), why="is_causal=not self.training"),
    Case("open-in-eval", "only in eval", ("causality", "mode"), lambda w: OpenWhile(w, False),
         why="is_causal=self.training: training is right, what is measured leaks"),
)  # fmt: skip

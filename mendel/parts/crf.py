"""Linear-chain conditional random field: the tags of a text are scored together.

score(tags) = start[tag_0] + sum of emissions[t, tag_t] + sum of transitions[tag_t, tag_t+1]
+ end[tag_last];  p(tags) = exp(score(tags) - log_partition)          Lafferty 2001
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Chain(NamedTuple):
    """The weights that do not depend on the text."""

    transitions: Tensor  # (K, K), from the row's tag to the column's
    start: Tensor  # (K,)
    end: Tensor  # (K,)


def log_partition(emissions: Tensor, chain: Chain, lengths: Tensor | None = None) -> Tensor:
    """log of the sum of exp(score) over all tag sequences.

    emissions  (B, T, K), any float; -inf forbids a tag at a place
    lengths    (B,) of int64, 1 ... T; None: every text is T long
    returns    (B,)
    cost       B*T*K^2 exponentials
    source     the forward algorithm; equals the sum over all K^T sequences
    """
    alpha = chain.start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        longer = torch.logsumexp(alpha[:, :, None] + chain.transitions, 1) + emissions[:, t]
        alpha = longer if lengths is None else torch.where((t < lengths)[:, None], longer, alpha)
    return torch.logsumexp(alpha + chain.end, 1)


def score(emissions: Tensor, tags: Tensor, chain: Chain, lengths: Tensor | None = None) -> Tensor:
    """The score of one tag sequence a text: tags (B, T) of int64, ignored past the length."""
    T = emissions.shape[1]
    n = torch.full_like(tags[:, 0], T) if lengths is None else lengths
    inside = torch.arange(T, device=tags.device) < n[:, None]
    tags = torch.where(inside, tags, 0)
    own = emissions.gather(2, tags[:, :, None])[..., 0].where(inside, 0.0).sum(1)
    steps = chain.transitions[tags[:, :-1], tags[:, 1:]].where(inside[:, 1:], 0.0).sum(1)
    last = tags.gather(1, n[:, None] - 1)[:, 0]
    return chain.start[tags[:, 0]] + own + steps + chain.end[last]


def viterbi(
    emissions: Tensor, chain: Chain, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The tag sequence with the highest score.

    returns  (B, T) of int64, -1 past the length; and its score, (B,)
    """
    (B, T, _), place = emissions.shape, emissions.device
    n = torch.full((B,), T, device=place) if lengths is None else lengths
    best, came_from = chain.start + emissions[:, 0], []
    for t in range(1, T):
        longer, previous = (best[:, :, None] + chain.transitions).max(1)
        best = torch.where((t < n)[:, None], longer + emissions[:, t], best)
        came_from.append(previous)
    scores, tag = (best + chain.end).max(1)
    tags = [torch.where(n >= T, tag, -1)]
    for t in range(T - 1, 0, -1):
        tag = torch.where(t < n, came_from[t - 1].gather(1, tag[:, None])[:, 0], tag)
        tags.append(torch.where(t - 1 < n, tag, -1))
    return torch.stack(tags[::-1], 1), scores


def loss(emissions: Tensor, tags: Tensor, chain: Chain) -> Tensor:
    """-log p of the tags that are known, nats a text, (B,).

    tags     (B, T) of int64; -1 where not known: there, p sums over what it could be. A text ends
             with its last known tag; one without any costs 0
    source   Tsuboi 2008 for the unknown tags; with all known, log_partition - score
    """
    T, K = emissions.shape[1:]
    known = tags >= 0
    ends = torch.arange(1, T + 1, device=tags.device)
    lengths = (known * ends).amax(1).clamp(min=1)
    other = torch.arange(K, device=tags.device) != tags[..., None]
    allowed = emissions.masked_fill(other & known[..., None], -torch.inf)
    # one recursion for both sums: the loop over time costs the same for twice the rows
    both = log_partition(torch.cat((emissions, allowed)), chain, torch.cat((lengths, lengths)))
    everything, these = both.chunk(2)
    return (everything - these).where(known.any(1), 0.0)

"""The torch modules: a vector for each word, a layer that reads its neighbours, tag scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chain import FORBIDDEN, forbidden
from .recipe import TagRecipe


@dataclass(frozen=True)
class Batch:
    """What one step reads. U distinct words, B texts, T words of the longest.

    grams starts gram_weights   rows of the distinct words, ragged, and their weights
    tokens                      (B, T) index of a distinct word; U = padding
    flags                       (B, T, F)
    lengths                     (B,)
    """

    grams: Tensor
    starts: Tensor
    gram_weights: Tensor
    tokens: Tensor
    flags: Tensor
    lengths: Tensor


class TagNet(nn.Module):
    """Words to emissions (B, T, K), and the chain's own scores."""

    def __init__(self, recipe: TagRecipe, n_rows: int, n_flags: int, n_labels: int) -> None:
        super().__init__()
        self.recipe = recipe
        n_tags = 1 + 2 * n_labels
        self.table = nn.Parameter(torch.randn(n_rows, recipe.dim) * 0.3)
        self.flags = nn.Linear(n_flags, recipe.dim, bias=False) if n_flags else None
        self.reader = Cnn(recipe) if recipe.family == "cnn" else Lstm(recipe)
        self.out = nn.Linear(self.reader.width, n_tags)
        self.transitions = nn.Parameter(torch.zeros(n_tags, n_tags))
        self.start = nn.Parameter(torch.zeros(n_tags))
        self.end = nn.Parameter(torch.zeros(n_tags))
        steps, starts = forbidden(n_labels)
        self.register_buffer("no_step", torch.from_numpy(steps), persistent=False)
        self.register_buffer("no_start", torch.from_numpy(starts), persistent=False)

    def chain(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions, start and end, with what BIO forbids far below everything else."""
        assert isinstance(self.no_step, Tensor) and isinstance(self.no_start, Tensor)
        transitions = self.transitions.masked_fill(self.no_step, FORBIDDEN)
        return transitions, self.start.masked_fill(self.no_start, FORBIDDEN), self.end

    def forward(self, batch: Batch) -> Tensor:
        vectors = F.embedding_bag(
            batch.grams,
            self.table,
            batch.starts,
            mode="sum",
            per_sample_weights=batch.gram_weights,
            include_last_offset=True,
        )
        padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
        x = F.embedding(batch.tokens, padded)  # (B, T, D)
        if self.flags is not None:
            x = x + self.flags(batch.flags)
        x = F.dropout(x, self.recipe.vector_drop, self.training)
        x = F.dropout(self.reader(x, batch.lengths), self.recipe.hidden_drop, self.training)
        out: Tensor = self.out(x)
        return out


class Lstm(nn.Module):
    """One layer, both directions; (B, T, D) -> (B, T, 2W).

    Texts are turned round by hand and not packed, which would cost two to four times as much:
    what is past a text's length comes last both ways, so that nothing before it depends on it.
    """

    def __init__(self, recipe: TagRecipe) -> None:
        super().__init__()
        self.width = 2 * recipe.width
        self.ahead = nn.LSTM(recipe.dim, recipe.width, batch_first=True)
        self.back = nn.LSTM(recipe.dim, recipe.width, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        back = self.back(_pick(x, turned))[0]
        return torch.cat([self.ahead(x)[0], _pick(back, turned)], 2)


def _pick(x: Tensor, places: Tensor) -> Tensor:
    """(B, T, C) at places (B, T)."""
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))


class Cnn(nn.Module):
    """Windows of 3 words, each layer added to what it read; (B, T, D) -> (B, T, W)."""

    def __init__(self, recipe: TagRecipe) -> None:
        super().__init__()
        self.width = recipe.width
        self.drop = recipe.vector_drop
        self.into = nn.Linear(recipe.dim, recipe.width)
        self.layers = nn.ModuleList(
            nn.Linear(3 * recipe.width, 2 * recipe.width) for _ in range(recipe.layers)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None].float()
        x = self.into(x) * inside
        for layer in self.layers:
            window = torch.cat(
                [F.pad(x[:, :-1], (0, 0, 1, 0)), x, F.pad(x[:, 1:], (0, 0, 0, 1))], 2
            )
            value, gate = layer(window).chunk(2, 2)
            x = (x + torch.tanh(value) * torch.sigmoid(gate)) * inside
        return x


def loss(
    emissions: Tensor, tags: Tensor, lengths: Tensor, chain: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """-log p of the tags, nats a text, (B,).

    emissions  (B, T, K)
    tags       (B, T) of int64, anything past the length
    source     Lafferty 2001; the sum over all tags is a matrix product of exponentials, which
               costs a tenth of K^2 logarithms of sums
    """
    transitions, start, end = chain
    inside = torch.arange(tags.shape[1]) < lengths[:, None]
    tags = torch.where(inside, tags, 0)
    own = emissions.gather(2, tags[:, :, None])[..., 0].where(inside, 0.0).sum(1)
    steps = transitions[tags[:, :-1], tags[:, 1:]].where(inside[:, 1:], 0.0).sum(1)
    last = tags.gather(1, lengths[:, None] - 1)[:, 0]
    score = start[tags[:, 0]] + own + steps + end[last]
    return log_partition(emissions, lengths, transitions, start, end) - score


def dearer(emissions: Tensor, tags: Tensor, cost: float) -> Tensor:
    """Softmax-margin (Gimpel 2010): a wrong "outside" scores more, so more is learned from it."""
    if cost == 0:
        return emissions
    outside = torch.zeros(emissions.shape[2])
    outside[0] = cost
    return emissions + (tags > 0)[:, :, None] * outside


def log_partition(
    emissions: Tensor, lengths: Tensor, transitions: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """log of the sum of exp(score) over all tag sequences, (B,)."""
    highest = transitions.amax().detach()
    steps = (transitions - highest).exp()
    alpha = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        top = alpha.amax(1, keepdim=True).detach()
        summed = ((alpha - top).exp() @ steps).clamp(min=1e-30)
        longer = summed.log() + top + highest + emissions[:, t]
        alpha = torch.where((t < lengths)[:, None], longer, alpha)
    return torch.logsumexp(alpha + end, 1)

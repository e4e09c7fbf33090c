"""The torch modules. Names of weights and arithmetic are those of the engine's attention blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import N_SYMBOLS
from .recipe import WriterRecipe

EPS = 1e-5
BASE = 10_000.0  # of the rotary positions


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.gain, EPS)


class Mixer(nn.Module):
    """Attention over a window, queries and keys normed and turned by their position."""

    def __init__(self, recipe: WriterRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.n_heads, self.window, D = recipe.heads, recipe.window, width // recipe.heads
        self.q, self.k, self.v, self.out = (linear(width, width) for _ in range(4))
        self.q_gain, self.k_gain = (nn.Parameter(torch.ones(D)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        shape = (B, T, self.n_heads, C // self.n_heads)
        q, k, v = (part(x).view(shape) for part in (self.q, self.k, self.v))
        q, k = (
            F.rms_norm(z, z.shape[-1:], gain, EPS)
            for z, gain in ((q, self.q_gain), (k, self.k_gain))
        )
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        at = torch.arange(T)
        ages = at[:, None] - at
        seen = (ages >= 0) & (ages < self.window)
        y = F.scaled_dot_product_attention(turned(q), turned(k), v, seen)
        found: Tensor = self.out(y.transpose(1, 2).reshape(B, T, C))
        return found


class Gated(nn.Module):
    def __init__(self, recipe: WriterRecipe) -> None:
        super().__init__()
        self.gate, self.up = (linear(recipe.width, recipe.hidden) for _ in range(2))
        self.out = linear(recipe.hidden, recipe.width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(F.silu(self.gate(x)) * self.up(x))
        return found


class Block(nn.Module):
    def __init__(self, recipe: WriterRecipe) -> None:
        super().__init__()
        self.mixer_norm, self.mixer = Norm(recipe.width), Mixer(recipe)
        self.channel_norm, self.channel = Norm(recipe.width), Gated(recipe)
        for part in (self.mixer, self.channel):
            with torch.no_grad():
                part.out.weight.mul_((2 * recipe.layers) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x))
        found: Tensor = x + self.channel(self.channel_norm(x))
        return found


class Writer(nn.Module):
    """Symbols (B, T) -> logits of what comes after each, (B, T, N_SYMBOLS)."""

    def __init__(self, recipe: WriterRecipe) -> None:
        super().__init__()
        self.embedding = nn.ModuleDict({"tokens": nn.Embedding(N_SYMBOLS, recipe.width)})
        nn.init.normal_(self.embedding["tokens"].weight, std=0.02)  # type: ignore[arg-type]
        self.layers = nn.ModuleList(Block(recipe) for _ in range(recipe.layers))
        self.final_norm = Norm(recipe.width)
        self.head = nn.ModuleDict({"logits": linear(recipe.width, N_SYMBOLS)})

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embedding["tokens"](tokens)
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.head["logits"](self.final_norm(x))
        return found


def linear(n_in: int, n_out: int) -> nn.Linear:
    """A matrix whose outputs have the variance of its inputs at the start."""
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(layer.weight, std=n_in**-0.5)
    return layer


def turned(x: Tensor) -> Tensor:
    """Rotary positions 0, 1, ... of (B, H, T, D); pairs are (i, i + D/2). Su 2021."""
    T, D = x.shape[-2:]
    angles = torch.outer(torch.arange(T), BASE ** (-torch.arange(0, D, 2) / D)).repeat(1, 2)
    one, other = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-other, one), -1) * angles.sin()

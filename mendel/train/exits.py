"""Models whose first layers already know much: layer dropout, and a loss at an exit on the way.

step -> which layers each window passes, and after which one it is also asked -> two outputs

The exit goes through the final norm and the head of the whole model, so a trained model is as large
as any, and a server can leave after any layer: what it guesses there, the other layers check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mendel.data.corpus import batch_rng
from mendel.model import Model
from mendel.spec import ModelSpec, SpecError, TrainSpec

EARLY_EXIT = ("train.exit_loss=1.0", "train.layer_dropout=0.1")  # what --early-exit sets
STREAM = 1 << 40  # added to a step: layers are drawn apart from the batches


def check(model: ModelSpec, how: TrainSpec) -> None:
    """Raise SpecError where a recipe asks for exits that the model does not have."""
    for name in ("exit_loss", "layer_dropout"):
        if getattr(how, name) is not None and model.n_layers < 2:
            raise SpecError(
                f"{name}={getattr(how, name)} with n_layers={model.n_layers}: there is no layer to "
                f"leave before. Set n_layers=2 or more, or leave {name} out."
            )


def is_asked(how: TrainSpec) -> bool:
    return how.exit_loss is not None or how.layer_dropout is not None


def exit_of(step: int, n_layers: int) -> int:
    """Layers passed before the exit that a step trains: each in turn, so that a step has one."""
    return 1 + step % (n_layers - 1)


def layers_kept(how: TrainSpec, n_layers: int, seed: int, step: int) -> Tensor:
    """(L, B) of bool: which windows pass each layer; the same seed and step, the same layers."""
    chances = drop_chances(how.layer_dropout or 0.0, n_layers)
    draws = batch_rng(seed, STREAM + step).random((n_layers, how.batch))
    return torch.from_numpy(draws >= chances[:, None])


def drop_chances(highest: float, n_layers: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(L,): none for the first layer, `highest` for the last, doubling evenly with depth.

    So that deep layers learn to refine an answer rather than to be the only ones that have it.
    source   Elhoushi 2024 (LayerSkip), section 4.1
    """
    depth = np.arange(n_layers) / max(n_layers - 1, 1)
    return highest * (np.exp2(depth) - 1)


class EarlyExit(nn.Module):
    """A model asked twice in one pass: after some layers, and after all."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, depth: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs after all layers and after `depth`.

        tokens   (B, T)
        kept     (L, B) of bool; a window skips the layers where it says False
        """
        model = self.model
        x, _ = model.embedding(tokens, None)
        early = x
        for i, layer in enumerate(model.layers):
            y: Tensor = layer(x, None, None, False)[0]
            x = torch.where(kept[i][:, None, None], y, x)
            if i + 1 == depth:
                early = x
        return self._answer(x), self._answer(early)

    def _answer(self, x: Tensor) -> Tensor:
        if self.model.final_norm is not None:
            x = self.model.final_norm(x)[0]
        output: Tensor = self.model.head(x, None)[0]
        return output


@torch.no_grad()
def agreement(model: Model, tokens: Tensor) -> list[float]:
    """Share of places where the likeliest token after 1, 2, ... L - 1 layers is the whole model's.

    tokens   (B, T) of int64
    """
    n = model.spec.n_layers
    twice = EarlyExit(model)
    everywhere = torch.ones(n, len(tokens), dtype=torch.bool, device=tokens.device)
    found = []
    for depth in range(1, n):
        whole, early = (output.argmax(-1) for output in twice(tokens, depth, everywhere))
        found.append(float((whole == early).double().mean()))
    return found

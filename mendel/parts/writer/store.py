"""A trained writer as one safetensors file: tensors and recipe."""

from __future__ import annotations

from ..carried.keeping import packed, unpacked
from .fit import Trained
from .recipe import WriterRecipe


def pack(trained: Trained) -> bytes:
    """Everything that `unpack` needs to give the same model back."""
    about = {"recipe": trained.recipe.to_dict()}
    return packed(trained.tensors, about)


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors, about = unpacked(data)
    return Trained(WriterRecipe.from_dict(about["recipe"]), tensors)

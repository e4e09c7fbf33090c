"""A trained writer as one safetensors file: tensors and recipe."""

from __future__ import annotations

import json
from typing import Any

from safetensors.numpy import load, save

from .fit import Trained
from .recipe import WriterRecipe


def pack(trained: Trained) -> bytes:
    """Everything that `unpack` needs to give the same model back."""
    about = {"recipe": trained.recipe.to_dict()}
    return save(dict(trained.tensors), {"mendel": json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors = load(data)
    about: dict[str, Any] = json.loads(_metadata(data)["mendel"])
    return Trained(WriterRecipe.from_dict(about["recipe"]), tensors)


def _metadata(data: bytes) -> dict[str, str]:
    """The header's `__metadata__`: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata

"""A trained search model as one safetensors file: tensors, passages, vocabulary and recipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from safetensors.numpy import load, save

from .features import Config, Featurizer
from .fit import Trained
from .passages import from_bytes, to_bytes
from .recipe import SearchRecipe


def pack(trained: Trained) -> bytes:
    """Everything that `unpack` needs to give the same model back."""
    featurizer = trained.featurizer
    tensors = {
        **trained.tensors,
        "features.keys": featurizer.keys,
        "features.idf": featurizer.idf,
        "features.passages": to_bytes(featurizer.passages),
    }
    about = {"recipe": trained.recipe.to_dict(), "features": asdict(featurizer.config)}
    return save(tensors, {"mendel": json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors = load(data)
    about: dict[str, Any] = json.loads(_metadata(data)["mendel"])
    keys, idf, passages = (tensors.pop(f"features.{part}") for part in ("keys", "idf", "passages"))
    featurizer = Featurizer(Config(**about["features"]), from_bytes(passages), keys, idf)
    return Trained(SearchRecipe.from_dict(about["recipe"]), featurizer, tensors)


def _metadata(data: bytes) -> dict[str, str]:
    """The header's `__metadata__`: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata

"""A trained model as one safetensors file: tensors, vocabulary and recipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from .features import Config, Featurizer
from .fit import Trained
from .recipe import Recipe


def pack(trained: Trained) -> bytes:
    """Everything that `unpack` needs to give the same model back."""
    featurizer = trained.featurizer
    tensors = {
        **trained.tensors,
        "features.keys": featurizer.keys,
        "features.df": featurizer.df.astype(np.uint32),
    }
    about = {
        "recipe": trained.recipe.to_dict(),
        "features": asdict(featurizer.config),
        "n_texts": featurizer.n_texts,
        "n_subwords": featurizer.n_subwords,
    }
    return save(tensors, {"mendel": json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors = load(data)
    about: dict[str, Any] = json.loads(_metadata(data)["mendel"])
    keys, df = tensors.pop("features.keys"), tensors.pop("features.df")
    featurizer = Featurizer(
        Config(**about["features"]),
        keys,
        df.astype(np.int64),
        about["n_texts"],
        about["n_subwords"],
    )
    return Trained(Recipe.from_dict(about["recipe"]), featurizer, tensors)


def _metadata(data: bytes) -> dict[str, str]:
    """The header's `__metadata__`: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata

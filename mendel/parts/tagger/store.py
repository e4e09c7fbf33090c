"""A trained tagger as one safetensors file: tensors, vocabulary, labels and recipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from safetensors.numpy import load, save

from .features import Config, Featurizer
from .fit import Trained
from .recipe import TagRecipe


def pack(trained: Trained) -> bytes:
    """Everything that `unpack` needs to give the same model back."""
    featurizer = trained.featurizer
    tensors = {
        **trained.tensors,
        "features.clues": featurizer.clues.keys,
        "features.keys": featurizer.keys,
        "features.phrases": featurizer.phrases,
        "features.owners": featurizer.owners,
    }
    about = {
        "recipe": trained.recipe.to_dict(),
        "features": asdict(featurizer.config),
        "gazetteers": featurizer.gazetteers,
        "names": trained.names,
        "about": dict(trained.about),
    }
    return save(tensors, {"mendel": json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors = load(data)
    about: dict[str, Any] = json.loads(_metadata(data)["mendel"])
    parts = ("keys", "phrases", "owners", "clues")
    keys, phrases, owners, clues = (tensors.pop(f"features.{part}") for part in parts)
    config = Config(**about["features"])
    featurizer = Featurizer(config, keys, phrases, owners, about["gazetteers"], clues)
    recipe = TagRecipe.from_dict(about["recipe"])
    return Trained(recipe, featurizer, tensors, tuple(about["names"]), about.get("about", {}))


def _metadata(data: bytes) -> dict[str, str]:
    """The header's `__metadata__`: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata

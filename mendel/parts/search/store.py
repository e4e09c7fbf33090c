"""A trained search model as one safetensors file: tensors, passages, vocabulary and recipe."""

from __future__ import annotations

from dataclasses import asdict

from ..carried.keeping import packed, unpacked
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
    return packed(tensors, about)


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors, about = unpacked(data)
    keys, idf, passages = (tensors.pop(f"features.{part}") for part in ("keys", "idf", "passages"))
    featurizer = Featurizer(Config(**about["features"]), from_bytes(passages), keys, idf)
    return Trained(SearchRecipe.from_dict(about["recipe"]), featurizer, tensors)

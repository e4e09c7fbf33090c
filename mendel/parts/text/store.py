"""A trained model as one safetensors file: tensors, vocabulary and recipe."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from ..carried.keeping import packed, unpacked
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
    return packed(tensors, about)


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors, about = unpacked(data)
    keys, df = tensors.pop("features.keys"), tensors.pop("features.df")
    featurizer = Featurizer(
        Config(**about["features"]),
        keys,
        df.astype(np.int64),
        about["n_texts"],
        about["n_subwords"],
    )
    return Trained(Recipe.from_dict(about["recipe"]), featurizer, tensors)

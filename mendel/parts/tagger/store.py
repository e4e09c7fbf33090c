"""A trained tagger as one safetensors file: tensors, vocabulary, labels and recipe."""

from __future__ import annotations

from dataclasses import asdict

from ..carried.keeping import packed, unpacked
from .clusters import Clusters
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
        "features.clustered": featurizer.clusters.keys,
        "features.clusters": featurizer.clusters.ids,
    }
    about = {
        "recipe": trained.recipe.to_dict(),
        "features": asdict(featurizer.config),
        "gazetteers": featurizer.gazetteers,
        "names": trained.names,
        "about": dict(trained.about),
    }
    return packed(tensors, about)


def unpack(data: bytes) -> Trained:
    """The model that `pack` was given; raises SafetensorError where the bytes are damaged."""
    tensors, about = unpacked(data)
    parts = ("keys", "phrases", "owners", "clues", "clustered", "clusters")
    keys, phrases, owners, clues, *found = (tensors.pop(f"features.{part}") for part in parts)
    clusters = Clusters(*found)
    config = Config(**about["features"])
    featurizer = Featurizer(config, keys, phrases, owners, about["gazetteers"], clues, clusters)
    recipe = TagRecipe.from_dict(about["recipe"])
    return Trained(recipe, featurizer, tensors, tuple(about["names"]), about.get("about", {}))

"""A trained model without the n-grams that say least: the same network on smaller tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .features import Featurizer, Floats
from .fit import Trained


def prune(trained: Trained, keep: float) -> Trained:
    """Keep this share of the features, by the length of their vectors and how often they occur.

    keep     above 0, at most 1; the recipe of what is returned says it, so that a fit repeats it
    source   magnitude pruning, of whole rows: what is left needs no sparse arithmetic
    """
    features = trained.featurizer
    n = features.n_rows - 1
    chosen = np.sort(np.argsort(-_worth(trained), kind="stable")[: max(1, round(keep * n))])
    n_subwords = int((chosen < features.n_subwords).sum())
    fewer = Featurizer(
        features.config, features.keys[chosen], features.df[chosen], features.n_texts, n_subwords
    )
    rows = {"bag.table": chosen, "cnn.table": chosen[:n_subwords]}  # phrases follow the subwords
    tensors = dict(trained.tensors)
    for name, table in trained.tensors.items():
        kept = rows.get(name[-len("bag.table") :])
        if kept is not None:
            tensors[name] = table[np.concatenate([[0], kept + 1])]
    return replace(
        trained, recipe=replace(trained.recipe, keep=keep), featurizer=fewer, tensors=tensors
    )


def _worth(trained: Trained) -> Floats:
    """(n,) of each feature, summed over the tables, each table's mean being 1."""
    features = trained.featurizer
    found = np.zeros(features.n_rows - 1)
    often = np.sqrt(features.df)
    for name, table in trained.tensors.items():
        if not name.endswith(".table"):
            continue
        worth = np.linalg.norm(table[1:], axis=1) * often[: len(table) - 1]
        if name.endswith("bag.table"):
            worth = worth * features.idf[1:]
        found[: len(worth)] += worth / max(float(worth.mean()), 1e-12)
    return found.astype(np.float32)

"""The slow twin: BM25 as the book writes it, vectors by the code that trained them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..carried.drawing import quantise
from .features import Floats
from .fit import Trained, encoded
from .words import grams, words


def training_scores(trained: Trained, texts: Sequence[str]) -> Floats:
    """(n, S, P) without index and graph."""
    config = trained.featurizer.config
    passages = [words(passage.text) for passage in trained.featurizer.passages]
    asked = [words(text) for text in texts]
    found = _bm25(asked, passages, config.k1, config.b)
    if config.gram_share:
        asked, passages = (
            [[gram for word in said for gram in grams(word, (config.n,))] for said in side]
            for side in (asked, passages)
        )
        of_grams = _bm25(asked, passages, config.k1, config.b)
        found = (1 - config.gram_share) * found + config.gram_share * of_grams
    if not trained.tensors:
        return found[:, None].astype(np.float32)
    bags = [trained.featurizer.bag(text) for text in texts]
    cosine = encoded(trained.tensors["table"], bags) @ trained.tensors["passages"].T
    return np.stack([found, cosine], 1).astype(np.float32)


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: its tables rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, table in trained.tensors.items():
        rows, scale = quantise(table)
        tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)


def _bm25(
    asked: Sequence[Sequence[str]], passages: Sequence[Sequence[str]], k1: float, b: float
) -> Floats:
    counts = [Counter(passage) for passage in passages]
    df = Counter(term for count in counts for term in count)
    mean = max(sum(map(len, passages)) / len(passages), 1.0)
    found = np.zeros((len(asked), len(passages)))
    for row, terms in zip(found, map(set, asked), strict=True):
        idf = {t: math.log(1 + (len(passages) - df[t] + 0.5) / (df[t] + 0.5)) for t in terms}
        most = (k1 + 1) * sum(idf.values())
        for i, count in enumerate(counts):
            longer = k1 * (1 - b + b * len(passages[i]) / mean)
            adds = (idf[t] * count[t] * (k1 + 1) / (count[t] + longer) for t in terms if count[t])
            row[i] = sum(adds) / most if most else 0.0
    return found.astype(np.float32)

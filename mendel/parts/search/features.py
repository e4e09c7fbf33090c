"""A query as the graph takes it: ids and weights of its n-grams, and BM25. numpy only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .index import Index
from .passages import Passage, from_bytes, to_bytes
from .words import grams, key, words

CACHE = 100_000  # words whose rows are remembered

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """What counts as a feature.

    k1 b n gram_share   of BM25; n-grams have no part in it where their share is 0
    char_min char_max   lengths of the n-grams that have rows
    """

    k1: float = 1.2
    b: float = 0.75
    n: int = 4
    gram_share: float = 0.5
    char_min: int = 3
    char_max: int = 5


class Featurizer:
    """Knows the passages, and the rows of what training has seen; other features are none.

    config     what counts as a feature
    passages   what can be found
    keys       (R,) uint32, crc32 of feature i, which has row i + 1; row 0 is padding
    idf        (R + 1,) weight of each row; 0 for padding
    """

    def __init__(
        self, config: Config, passages: Sequence[Passage], keys: NDArray[np.uint32], idf: Floats
    ) -> None:
        self.config, self.passages, self.keys, self.idf = config, tuple(passages), keys, idf
        self.row = {crc: i + 1 for i, crc in enumerate(keys.tolist())}
        self._cache: dict[str, Ints] = {}

    @cached_property
    def index(self) -> Index:
        c = self.config
        return Index([p.text for p in self.passages], c.k1, c.b, c.n, c.gram_share)

    @classmethod
    def fit(
        cls,
        config: Config,
        passages: Sequence[Passage],
        texts: Sequence[str],
        *,
        min_df: int,
        max_rows: int,
    ) -> Featurizer:
        """Rows for the frequent features of passages and texts; max_rows of 0 = none."""
        df: Counter[str] = Counter()
        for text in [*(p.text for p in passages), *texts] if max_rows else []:
            df.update(set(words(text)))
        counted: Counter[int] = Counter()
        for word, n in df.items():  # an upper bound for n-grams, and quick
            for feature in set(_features(word, config)):
                counted[feature] += n
        kept = [(crc, n) for crc, n in counted.items() if n >= min_df]
        kept = sorted(kept, key=lambda item: (-item[1], item[0]))[:max_rows]
        keys = np.array([crc for crc, _ in kept], np.uint32)
        n_texts = len(passages) + len(texts)
        seen = np.array([min(n, n_texts) for _, n in kept], np.float64)
        idf = np.log((1 + n_texts) / (1 + seen)) + 1
        return cls(config, passages, keys, np.concatenate([[0.0], idf]).astype(np.float32))

    @property
    def n_rows(self) -> int:
        return len(self.keys) + 1

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What the ONNX graph takes.

        ids      (B, N) rows of a query; 0 = none
        weights  (B, N) their tf-idf weights; each query's have length 1
        bm25     (B, P) of each passage, from 0 to about 1
        """
        bags = [self.bag(text) for text in texts]
        longest = max([1, *(len(ids) for ids, _ in bags)])
        ids = np.zeros((len(bags), longest), np.int64)
        weights = np.zeros((len(bags), longest), np.float32)
        for i, (own, given) in enumerate(bags):
            ids[i, : len(own)], weights[i, : len(own)] = own, given
        bm25 = np.zeros((len(bags), len(self.passages)), np.float32)
        for i, text in enumerate(texts):
            bm25[i] = self.index.scores(text)
        return {"ids": ids, "weights": weights, "bm25": bm25}

    def bag(self, text: str) -> tuple[Ints, Floats]:
        """Rows of a text with their tf-idf weights, scaled to length 1."""
        return self.weighed([self.rows(word) for word in words(text)])

    def weighed(self, rows: Sequence[Ints]) -> tuple[Ints, Floats]:
        if not rows:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        ids, counts = np.unique(np.concatenate(rows), return_counts=True)
        weights = (1 + np.log(counts)) * self.idf[ids]
        norm = np.sqrt((weights * weights).sum())
        return ids, (weights / max(float(norm), 1e-6)).astype(np.float32)

    def rows(self, word: str) -> Ints:
        """Rows of a word and of its n-grams; those that training has not seen are left out."""
        cached = self._cache.get(word)
        if cached is None:
            found = (self.row.get(crc, 0) for crc in _features(word, self.config))
            cached = np.array([row for row in found if row], np.int64)
            if len(self._cache) < CACHE:
                self._cache[word] = cached
        return cached

    def save(self, file: Path | BinaryIO) -> None:
        np.savez_compressed(
            file,
            config=np.array(list(vars(self.config).values()), np.float64),
            keys=self.keys,
            idf=self.idf,
            passages=to_bytes(self.passages),
        )

    @classmethod
    def load(cls, file: Path) -> Featurizer:
        with np.load(file, allow_pickle=False) as data:
            config = config_of(data["config"].tolist())
            found = cls(config, from_bytes(data["passages"]), data["keys"], data["idf"])
        found.index.scores("")  # built here, so that the first query is as quick as the others
        return found


def config_of(values: Sequence[float]) -> Config:
    k1, b, n, share, least, most = values
    return Config(k1, b, int(n), share, int(least), int(most))


def _features(word: str, config: Config) -> list[int]:
    lengths = range(config.char_min, config.char_max + 1)
    return [key("w:" + word), *(key(gram) for gram in grams(word, lengths))]

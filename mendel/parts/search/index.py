"""BM25 over an inverted index, in numpy: words, and character n-grams beside them.

It is built anew from the passages when a model is loaded: the texts travel anyway, and an index
that is made of them cannot disagree with them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .words import grams, words

Floats = NDArray[np.float32]


class Postings:
    """For each term the passages that have it, and what it adds to their score.

    counts    of each passage: how often each term occurs
    k1 b      how fast repeats count less; how much long passages are marked down
    source    Robertson and Zaragoza 2009, eq. 3.15; idf as Lucene has it, never below 0
    """

    def __init__(self, counts: Sequence[Counter[str]], k1: float, b: float) -> None:
        self.n, self.k1 = len(counts), k1
        lengths = np.array([sum(c.values()) for c in counts], np.float64)
        self.of = {term: i for i, term in enumerate(dict.fromkeys(t for c in counts for t in c))}
        sizes = [len(c) for c in counts]
        terms = np.fromiter((self.of[t] for c in counts for t in c), np.int64, sum(sizes))
        times = np.fromiter((n for c in counts for n in c.values()), np.float64, sum(sizes))
        owners = np.repeat(np.arange(self.n), sizes)
        df = np.bincount(terms, minlength=len(self.of))
        self.idf = np.log(1 + (self.n - df + 0.5) / (df + 0.5))
        longer = 1 - b + b * lengths / max(float(lengths.mean()), 1.0)
        adds = self.idf[terms] * times * (k1 + 1) / (times + k1 * longer[owners])
        order = np.argsort(terms, kind="stable")
        self.passages = owners[order].astype(np.int32)
        self.adds = adds[order].astype(np.float32)
        self.starts = np.concatenate([[0], np.cumsum(df)])

    def scores(self, terms: Iterable[str]) -> Floats:
        """(P,) BM25 of a query's distinct terms, as a share of the most that it could reach."""
        asked = set(terms)
        known = [self.of[term] for term in asked if term in self.of]
        unknown = (len(asked) - len(known)) * math.log(1 + (self.n + 0.5) / 0.5)
        most = (self.k1 + 1) * (float(self.idf[known].sum()) + unknown)
        if not known:
            return np.zeros(self.n, np.float32)
        spans = [slice(self.starts[i], self.starts[i + 1]) for i in sorted(known)]
        places = np.concatenate([self.passages[span] for span in spans])
        adds = np.concatenate([self.adds[span] for span in spans])
        return (np.bincount(places, adds, self.n) / most).astype(np.float32)


class Index:
    """Passages by their words; with n above 0 by their n-grams too, mixed by a share."""

    def __init__(self, texts: Sequence[str], k1: float, b: float, n: int, share: float) -> None:
        counts = [Counter(words(text)) for text in texts]
        self.share, self.lengths = share * (n > 0), (n,)
        self._words = Postings(counts, k1, b)
        self._grams: Postings | None = None
        if self.share:
            cut = {word: grams(word, self.lengths) for word in self._words.of}
            self._grams = Postings([_of_grams(count, cut) for count in counts], k1, b)

    def scores(self, text: str) -> Floats:
        """(P,) from 0 to about 1; 0 = shares nothing with the query."""
        asked = set(words(text))
        found = self._words.scores(asked)
        if self._grams is None:
            return found
        cut = [gram for word in asked for gram in grams(word, self.lengths)]
        both = (1 - self.share) * found + self.share * self._grams.scores(cut)
        return np.asarray(both, np.float32)


def _of_grams(count: Counter[str], cut: dict[str, list[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for word, times in count.items():
        for gram in cut[word]:
            found[gram] += times
    return found

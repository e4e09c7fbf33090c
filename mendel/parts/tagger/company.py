"""Texts to clusters of their words. Same texts and seed: same clusters.

words before and after each word -> positive mutual information -> 64 numbers by singular values
-> k-means at three levels. Source: Schuetze 1995; the weighing is Levy, Goldberg and Dagan 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .clusters import NONE, Clusters, key_of_word
from .spans import tokenize

MAX_WORDS = 12_000  # that get a cluster: the most frequent ones
MIN_COUNT = 2
N_NEAR = 3_000  # words that count as neighbours; the others count as one
DIM = 64
SMOOTH = 0.75  # exponent of a neighbour's frequency
LEVELS = (16, 4, 1)  # n_clusters is divided by
MOST = 2_000_000  # words of text that are read
PASSES = 20  # of k-means
END = -1  # between texts

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Read(NamedTuple):
    """Texts as numbers: `ids` into `words`, END after each text."""

    words: tuple[str, ...]
    ids: Ints


def learn(texts: Sequence[str], unlabeled: tuple[str, ...], n: int, seed: int) -> Clusters:
    """n clusters at the finest level; fewer where the texts have few words, then maybe none.

    unlabeled   more texts; they are read once a process, whatever the others are
    """
    ids, words = _joined(read(tuple(texts)), _kept(unlabeled))
    counts = np.bincount(ids[ids >= 0], minlength=len(words))
    frequent = np.argsort(-counts, kind="stable")[:MAX_WORDS]
    frequent = frequent[counts[frequent] >= MIN_COUNT]
    n = min(n, len(frequent) // 8)
    if n < max(LEVELS):
        return NONE
    place = np.full(len(words) + 1, -2)  # of a word among the frequent ones; the last is END's
    place[frequent] = np.arange(len(frequent))
    place[END] = END
    vectors = _vectors(_information(place[ids], len(frequent)), seed)
    levels = [_means(vectors, n // share, seed) for share in LEVELS]
    keys = np.array([key_of_word(words[i]) for i in frequent], np.uint32)
    keys, first = np.unique(keys, return_index=True)
    return Clusters(keys, np.column_stack(levels)[first].astype(np.uint16))


def read(texts: tuple[str, ...]) -> Read:
    """The words of the texts in lower case, up to MOST of them."""
    number: dict[str, int] = {}
    ids: list[int] = []
    for text in texts:
        ids += [
            number.setdefault(text[token.start : token.end].lower(), len(number))
            for token in tokenize(text)
        ]
        ids.append(END)
        if len(ids) > MOST:
            break
    return Read(tuple(number), np.array(ids, np.int64))


_kept = lru_cache(maxsize=1)(read)


def _joined(a: Read, b: Read) -> tuple[Ints, list[str]]:
    number = {word: i for i, word in enumerate(a.words)}
    other = np.array([number.setdefault(word, len(number)) for word in b.words] + [END], np.int64)
    return np.concatenate([[END], a.ids, other[b.ids]]), list(number)


def _information(ids: Ints, n_words: int) -> Any:
    """(W, 2 (N + 2)) sparse: what the word before and the word after say of a word.

    ids   END between texts, -2 for a word that is not frequent
    """
    from scipy.sparse import csr_matrix

    near = min(n_words, N_NEAR)
    column = np.where(ids < near, ids, -2) % (near + 2)  # -2 and -1 come behind the words
    before, after = column[:-2], near + 2 + column[2:]
    word = ids[1:-1]
    inside = word >= 0
    rows = np.concatenate([word[inside], word[inside]])
    columns = np.concatenate([before[inside], after[inside]])
    shape = (n_words, 2 * (near + 2))
    found = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    found.sum_duplicates()
    often = np.asarray(found.sum(0)).ravel() ** SMOOTH
    share = np.maximum(often / often.sum(), 1e-12)
    own = np.asarray(found.sum(1)).ravel()
    row_of = np.repeat(np.arange(n_words), np.diff(found.indptr))
    told = np.log(found.data / (own[row_of] * share[found.indices]))
    found.data = np.maximum(told, 0.0)
    found.eliminate_zeros()
    return found


def _vectors(matrix: Any, seed: int) -> Doubles:
    """(W, D) of length 1."""
    from scipy.sparse.linalg import svds

    k = min(DIM, min(matrix.shape) - 1)
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    left, values, _ = svds(matrix, k, v0=start, tol=1e-3)
    found = left * np.sqrt(values)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


def _means(vectors: Doubles, k: int, seed: int) -> Ints:
    """The cluster of each vector, of k, by angle; one that loses its last vector gets another."""
    chance = np.random.default_rng(seed)
    centres = vectors[chance.choice(len(vectors), k, replace=False)]
    nearest = np.full(len(vectors), -1)
    for _ in range(PASSES):
        likeness = vectors @ centres.T
        before, nearest = nearest, likeness.argmax(1)
        if np.array_equal(before, nearest):
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        empty = np.flatnonzero(np.bincount(nearest, minlength=k) == 0)
        sums[empty] = vectors[chance.choice(len(vectors), len(empty))]
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return nearest

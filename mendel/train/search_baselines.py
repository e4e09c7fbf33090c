"""What a search stands beside: BM25 of plain words, cosine of TF-IDF. They share no code with ours.

The floor, the passages that are asked for most, is with the others in baseline.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answers = Callable[[Sequence[str]], Sequence[dict[str, Any]]]
DEPTH = 10
K1, B = 1.5, 0.75  # as most libraries have them
WORD = re.compile(r"(?u)\b\w+\b")


def bm25(passages: Sequence[str]) -> Answers:
    """Lower-case words and nothing else; as rank_bm25 and Lucene count."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    counter: Any = CountVectorizer(token_pattern=WORD.pattern)
    counts = counter.fit_transform(passages).astype(np.float64).tocoo()
    lengths = np.bincount(counts.row, counts.data, minlength=len(passages))
    df = np.bincount(counts.col, minlength=counts.shape[1])
    idf = np.log(1 + (len(passages) - df + 0.5) / (df + 0.5))
    longer = K1 * (1 - B + B * lengths / lengths.mean())
    adds = idf[counts.col] * counts.data * (K1 + 1) / (counts.data + longer[counts.row])
    table = csr_matrix((adds, (counts.row, counts.col)), counts.shape).T

    def answers(asked: Sequence[str]) -> list[dict[str, Any]]:
        found = (counter.transform(asked) > 0).astype(np.float64) @ table
        return [_best(row.toarray()[0]) for row in found]

    return answers


def tfidf(passages: Sequence[str]) -> Answers:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors: Any = TfidfVectorizer(token_pattern=WORD.pattern, sublinear_tf=True)
    table = vectors.fit_transform(passages).T

    def answers(asked: Sequence[str]) -> list[dict[str, Any]]:
        return [_best(row.toarray()[0]) for row in vectors.transform(asked) @ table]

    return answers


def _best(scores: NDArray[np.float64]) -> dict[str, Any]:
    places = np.argsort(-scores, kind="stable")[:DEPTH]
    return {"passages": [{"passage": int(i)} for i in places if scores[i] > 0]}


OVER_PASSAGES: dict[str, Callable[[Sequence[str]], Answers]] = {"bm25": bm25, "tfidf": tfidf}

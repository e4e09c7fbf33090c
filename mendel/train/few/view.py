"""Texts to vectors that the texts themselves teach: TF-IDF, then the strongest directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

Floats = NDArray[np.float32]

N_DIRECTIONS = 300
WORD = r"\w+|[^\w\s]"
MANY = 1_000  # texts from which on a feature must occur twice
MIN_LIKENESS = 0.6  # one language in two domains has 0.8 and more, two languages 0.5 and less


def latent(texts: Sequence[str], seed: int) -> Floats:
    """Latent semantic analysis: words that keep the same company get like vectors.

    returns  (n, up to 300), rows of length 1; zeros for a text that shares nothing with others
    cost     5 s for 10,000 short texts on one core
    source   Deerwester 1990
    """
    rows = _counted(texts)
    n_directions = min(N_DIRECTIONS, min(rows.shape) - 1)
    if n_directions < 1:
        return unit(rows.toarray())
    found = TruncatedSVD(n_directions, n_iter=2, random_state=seed).fit_transform(rows)
    return unit(found)


def _counted(texts: Sequence[str]) -> csr_matrix:
    """(n, features) TF-IDF of words 1-2 beside that of character n-grams 2-5 inside words."""
    least = 2 if len(texts) >= MANY else 1
    words = TfidfVectorizer(
        token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, min_df=least, dtype=np.float32
    )
    grams = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=least, dtype=np.float32
    )
    return hstack([words.fit_transform(texts), grams.fit_transform(texts)]).tocsr()


def unit(rows: NDArray[np.floating]) -> Floats:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), np.float32)


def likeness(ones: Sequence[str], others: Sequence[str]) -> float:
    """How much two sets of texts are written alike: cosine of their character trigrams, 0 to 1."""
    one, other = _trigrams(ones), _trigrams(others)
    shared = sum(n * other[gram] for gram, n in one.items())
    lengths = [sum(n * n for n in counts.values()) ** 0.5 for counts in (one, other)]
    return float(shared / max(lengths[0] * lengths[1], 1e-9))


def in_another_language(labelled: Sequence[str], unlabeled: Sequence[str]) -> bool:
    """Do the unlabelled texts look as if they were in another language or script?"""
    return likeness(labelled, unlabeled) < MIN_LIKENESS


def _trigrams(texts: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        padded = f" {text.casefold()} "
        counts.update(padded[i : i + 3] for i in range(len(padded) - 2))
    return counts

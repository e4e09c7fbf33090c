"""Which texts a person should label next: those that the model doubts, no two alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from mendel.types import InputError

DOUBTED = 10  # times as many texts as are asked for are looked at


def most_useful(
    probabilities: NDArray[np.floating], features: NDArray[np.floating], n: int, seed: int = 0
) -> NDArray[np.int64]:
    """The n rows to ask for: clusters among the most doubted, of each the row in the middle.

    probabilities  (N, K) of the model so far
    features       (N, D) vectors whose nearness means likeness
    returns        (n,) distinct row numbers, the most doubted first; all N where n >= N
    raises         InputError for n < 1 or rows that do not match
    source         Zhdanov 2019, diverse mini-batch active learning
    """
    if n < 1 or len(probabilities) != len(features):
        raise InputError(
            f"cannot choose {n} of {len(probabilities)} rows with {len(features)} vectors. "
            "Wanted n of 1 or more, and a vector a row. Mend the call."
        )
    doubt = 1 - _margin(probabilities)
    candidates = np.argsort(-doubt, kind="stable")[: DOUBTED * n]
    if len(candidates) <= n:
        return np.asarray(candidates, np.int64)
    rows = features[candidates]
    n_clusters = min(n, len(np.unique(rows, axis=0)))
    clusters = KMeans(n_clusters, n_init=1, max_iter=30, random_state=seed)
    distances = clusters.fit_transform(rows, sample_weight=doubt[candidates] + 1e-6)
    chosen = _middles(distances)
    chosen += [i for i in range(len(candidates)) if i not in chosen][: n - n_clusters]
    return np.asarray(candidates[np.sort(chosen)], np.int64)


def _margin(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the best answer is ahead of the second."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    top = np.sort(probabilities, 1)[:, -2:].astype(np.float64)
    return np.asarray(top[:, 1] - top[:, 0])


def _middles(distances: NDArray[np.floating]) -> list[int]:
    """For each cluster the nearest row that no other cluster has taken."""
    chosen: list[int] = []
    for column in distances.T:
        order = np.argsort(column, kind="stable")
        chosen.append(next(int(i) for i in order if i not in chosen))
    return chosen

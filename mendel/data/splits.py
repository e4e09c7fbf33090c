"""Who may be learned from and who may be asked: near-duplicates never stand on both sides.

texts --normalise--> exact groups --MinHash bands--> pairs --exact Jaccard--> groups
labels, groups --greedy, largest group first--> folds or a held-out share
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from datasketch import MinHash  # type: ignore[import-untyped]
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from mendel.types import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

THRESHOLD = 0.8  # Jaccard of character trigrams
N_BANDS, N_ROWS = 16, 6  # a pair at 0.8 shares a band in 99 % of cases, at 0.5 in 22 %
SLACK = 0.12  # three standard deviations of the estimate from 96 hashes, at 0.8
MAX_REACH = 32  # neighbours that a row is compared with in one bucket
PUNCTUATION = re.compile(r"[\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f]+")
DIGITS = re.compile(r"\d+")


def near_duplicate_groups(texts: Sequence[str]) -> Ints:
    """Rows that say nearly the same share a group, also through a chain of such rows.

    texts    n strings
    returns  (n,) group ids 0, 1, ... in order of first appearance
    cost     linear in the characters; a bucket of k rows costs at most 32 k comparisons
    source   Broder 1997 by datasketch's MinHash; banding from Mining of Massive Datasets ch. 3
    """
    ids: dict[str, int] = {}
    exact = np.array([ids.setdefault(normalise(text), len(ids)) for text in texts], dtype=np.int64)
    if len(ids) < 2:
        return exact
    return _joined(list(ids))[exact]


def normalise(text: str) -> str:
    """The text without case, punctuation and values of numbers; as it is if it has no letter."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not any(map(str.isalpha, folded)):
        return folded.strip()  # "3 + 4" and "5 - 1" differ in what folding would drop
    return DIGITS.sub("0", PUNCTUATION.sub(" ", folded)).strip()


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The shared part of two sets, 0 to 1."""
    n_both = len(one & other)
    return n_both / max(1, len(one) + len(other) - n_both)


def shingles(normalised: str) -> frozenset[str]:
    """Character trigrams, the ends padded by a space."""
    padded = f" {normalised} "
    return frozenset(map("".join, zip(padded, padded[1:], padded[2:], strict=False)))


def _joined(texts: list[str]) -> Ints:
    """Group of each of the distinct texts.

    Buckets are the runs of equal keys in a sorted band. Round r compares each row with the r-th
    one after it in its bucket, and pairs that are in one group already are not looked at again,
    so a bucket of a thousand copies of one template is closed after a round or two.
    """
    signatures = _signatures(texts)
    bands = [_sorted_band(signatures, band) for band in range(N_BANDS)]
    groups = np.arange(len(texts), dtype=np.int64)
    seen: dict[int, frozenset[str]] = {}
    for reach in range(1, min(MAX_REACH, len(texts) - 1) + 1):
        pairs = np.concatenate([_neighbours(order, key, reach) for order, key in bands])
        if not len(pairs):
            break
        pairs = np.unique(
            np.sort(pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]], axis=1), axis=0
        )
        alike = _verified(pairs, signatures, texts, seen)
        groups = _components(groups, groups[alike])
    return groups


def _signatures(texts: list[str]) -> npt.NDArray[np.uint32]:
    rows = np.empty((len(texts), N_BANDS * N_ROWS), dtype=np.uint32)
    sketch = MinHash(num_perm=N_BANDS * N_ROWS, seed=1, hashfunc=lambda s: zlib.crc32(s.encode()))
    for i, text in enumerate(texts):
        sketch.clear()
        sketch.update_batch(shingles(text))
        rows[i] = sketch.hashvalues
    return rows


def _sorted_band(signatures: npt.NDArray[np.uint32], band: int) -> tuple[Ints, Ints]:
    """The rows in order of their hash in this band, and the bucket of each.

    datasketch's MinHashLSH finds the same buckets; sorting the columns takes a hundredth of it.
    """
    columns = signatures[:, band * N_ROWS : (band + 1) * N_ROWS]
    order = np.lexsort(columns.T).astype(np.int64)
    starts = (columns[order[1:]] != columns[order[:-1]]).any(axis=1)
    return order, np.concatenate([[0], np.cumsum(starts)])


def _neighbours(order: Ints, bucket: Ints, reach: int) -> Ints:
    same = np.flatnonzero(bucket[reach:] == bucket[:-reach])
    return np.stack([order[same], order[same + reach]], axis=1)


def _verified(
    pairs: Ints,
    signatures: npt.NDArray[np.uint32],
    texts: list[str],
    seen: dict[int, frozenset[str]],
) -> Ints:
    """The pairs at or above the threshold: estimated first, then counted exactly."""
    estimate = np.array(
        [(signatures[i] == signatures[j]).mean() for i, j in _blocks(pairs)] or [[]], dtype=object
    )
    del estimate
    return pairs

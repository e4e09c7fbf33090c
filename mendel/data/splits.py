"""Who may be learned from and who may be asked: near-duplicates never stand on both sides.

texts --normalise--> exact groups --MinHash bands--> pairs --exact Jaccard--> groups
labels, groups --greedy, largest group first--> folds or a held-out share
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from datasketch import MinHash

from mendel.types import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

THRESHOLD = 0.8  # Jaccard of character trigrams
N_BANDS, N_ROWS = 20, 6  # a pair at 0.8 shares a band in 99.8 % of cases, at 0.5 in 27 %
SLACK = 0.12  # three standard deviations of the estimate from 120 hashes, at 0.8
WHOLE = 8  # weight of a bin's size against its classes: tiny classes would leave a bin short
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
    padded = f" {normalised or '-'} "
    return frozenset([padded[i : i + 3] for i in range(len(padded) - 2)])


def assign_folds(labels: Sequence[str], groups: Ints, *, n_folds: int, seed: int) -> Ints:
    """The fold of each row: labels spread evenly, a group never split, sizes alike.

    labels   n strings; a class with fewer rows than folds is in some of the folds only
    groups   (n,) ids, as near_duplicate_groups gives them
    returns  (n,) in 0 ... n_folds - 1, none of them empty
    raises   InputError when there are fewer groups than folds
    """
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise InputError(
            f"cannot make {n_folds} folds. Got {len(labels)} rows in {n_groups} groups of "
            f"near-duplicates. Wanted 2 folds or more, and a group for each. "
            "Add rows that differ, or ask for fewer folds."
        )
    return _allocate(labels, groups, np.full(n_folds, 1 / n_folds), seed)


def holdout(labels: Sequence[str], groups: Ints, *, share: float, seed: int) -> Bools:
    """True for the rows that are held out: about `share` of each label, a group never split.

    returns  (n,) bool; of classes too small for a share, some have a row held out, most have none
    raises   InputError when share is not between 0 and 1
    """
    if not 0 < share < 1:
        raise InputError(
            f"cannot hold out a share of {share}. Wanted a number between 0 and 1, both "
            "excluded. Give 0.2 to hold out a fifth."
        )
    held: Bools = _allocate(labels, groups, np.array([share, 1 - share]), seed) == 0
    return held


def _allocate(
    labels: Sequence[str], groups: Ints, shares: npt.NDArray[np.float64], seed: int
) -> Ints:
    """The bin of each row: groups, largest first, go where they lower chi-square the most.

    Chi-square is the sum of (have - want)^2 / want over bins and classes, and over bins for the
    rows as a whole, WHOLE times; k more rows add k (k + 2 (have - want)) / want to a cell.
    sklearn's StratifiedGroupKFold does the like, in about six times the time at 10,000 groups.
    """
    names, label = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    want = np.outer(np.bincount(label, minlength=len(names)), shares)  # class, bin
    short, total = -want.copy(), -len(label) * shares  # have - want
    rows = np.split(np.argsort(group, kind="stable"), np.cumsum(size)[:-1])
    shuffled = np.random.default_rng(seed).permutation(len(size))
    bins = np.empty(len(label), dtype=np.int64)
    for g in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        classes, k = np.unique(label[rows[g]], return_counts=True)
        more = k[:, None] * (k[:, None] + 2 * short[classes]) / want[classes]
        whole = WHOLE * size[g] * (size[g] + 2 * total) / (len(label) * shares)
        chosen = int(np.argmin(more.sum(axis=0) + whole))
        bins[rows[g]] = chosen
        short[classes, chosen] += k
        total[chosen] += size[g]
    return bins


def _joined(texts: list[str]) -> Ints:
    """Group of each of the distinct texts.

    Round r compares each row with the r-th one after it in its bucket; pairs that are in one
    group already are not looked at again, so a thousand variants of one template are closed
    after a round or two.
    """
    signatures = _signatures(texts)
    bands = [_sorted_band(signatures, band) for band in range(N_BANDS)]
    cut = lru_cache(maxsize=20_000)(lambda i: shingles(texts[i]))
    groups = np.arange(len(texts), dtype=np.int64)
    for reach in range(1, min(MAX_REACH, len(texts) - 1) + 1):
        pairs = np.concatenate([_neighbours(order, bucket, reach) for order, bucket in bands])
        if not len(pairs):
            break
        apart = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
        alike = _verified(np.unique(np.sort(apart, axis=1), axis=0), signatures, cut)
        groups = _merged(groups, groups[alike])
    return groups


def _signatures(texts: list[str]) -> npt.NDArray[np.uint32]:
    rows = np.empty((len(texts), N_BANDS * N_ROWS), dtype=np.uint32)
    sketch = MinHash(num_perm=N_BANDS * N_ROWS, seed=1, hashfunc=_hash)
    for i, text in enumerate(texts):
        sketch.clear()
        sketch.update_batch(shingles(text))
        rows[i] = sketch.hashvalues
    return rows


def _hash(shingle: str) -> int:
    return zlib.crc32(shingle.encode("utf-8", "surrogatepass"))


def _sorted_band(signatures: npt.NDArray[np.uint32], band: int) -> tuple[Ints, Ints]:
    """The rows in order of their hashes in this band, and the bucket of each.

    datasketch's MinHashLSH has the same buckets; it takes longer to fill than all else here.
    """
    columns = signatures[:, band * N_ROWS : (band + 1) * N_ROWS]
    order = np.lexsort(columns.T)
    starts = (columns[order[1:]] != columns[order[:-1]]).any(axis=1)
    return order, np.concatenate([[0], np.cumsum(starts)])


def _neighbours(order: Ints, bucket: Ints, reach: int) -> Ints:
    same = np.flatnonzero(bucket[reach:] == bucket[:-reach])
    return np.stack([order[same], order[same + reach]], axis=1)


def _verified(
    pairs: Ints, signatures: npt.NDArray[np.uint32], cut: Callable[[int], frozenset[str]]
) -> Ints:
    """The pairs at or above the threshold: estimated first, then counted exactly."""
    one, other = pairs.T
    n_equal = np.zeros(len(pairs), dtype=np.int64)
    for column in signatures.T:
        n_equal += column[one] == column[other]
    likely: Ints = pairs[n_equal >= (THRESHOLD - SLACK) * N_BANDS * N_ROWS]
    exact = [jaccard(cut(i), cut(j)) >= THRESHOLD for i, j in likely.tolist()]
    alike: Ints = likely[np.array(exact, dtype=bool)]
    return alike


def joined(groups: Ints, owners: Sequence[Sequence[int]]) -> Ints:
    """The groups after joining those of rows that share an owner; rows have one owner or more."""
    first: dict[int, int] = {}
    pairs = [
        (first.setdefault(owner, group), group)
        for group, mine in zip(groups.tolist(), owners, strict=True)
        for owner in mine
    ]
    return _merged(groups, np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2))


def _merged(groups: Ints, pairs: Ints) -> Ints:
    """The groups after joining the pairs of them, numbered by first appearance."""
    parent = list(range(int(groups.max()) + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in pairs.tolist():
        first, second = sorted((root(i), root(j)))
        parent[second] = first
    joined: Ints = np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1][groups]
    return joined

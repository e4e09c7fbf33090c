"""Labels that a model which never saw the row does not believe: confident learning.

texts --TF-IDF--> features --5 folds, near-duplicates together--> probabilities --> issues
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.data.check.report import Finding, SkippedError, example, finding
from mendel.data.check.rows import Row
from mendel.data.splits import Ints, assign_folds

MIN_ROWS = 50
FEW = 5  # rows of a class below which its labels are not judged
N_FOLDS = 5
N_LISTED = 20
# BANKING77 with 5 % of wrong labels: of those found 82 % are wrong after 10 steps, 87 % after 12
# and after 15, where a fit takes half as long again as after 10
STEPS, STRENGTH = 12, 10.0


def suspicious(
    rows: Sequence[Row], groups: Ints, progress: Callable[[float], None]
) -> list[Finding]:
    """The finding of believed_wrong, which see, with the worst rows listed."""
    worst = believed_wrong(rows, groups, progress)
    if not worst:
        return []
    what = f"of {len(rows):,} rows have a label that is probably wrong, the worst first"
    listed = [
        example(row.number, row.text, label=row.label, looks_like=likely, probability=round(p, 2))
        for row, likely, p in worst[:N_LISTED]
    ]
    return [finding("suspicious-label", what, len(worst), [e.row for e in listed], listed)]


def believed_wrong(
    rows: Sequence[Row], groups: Ints, progress: Callable[[float], None] = lambda share: None
) -> list[tuple[Row, str, float]]:
    """The rows whose label is probably wrong, with the label that each looks like, and how much.

    groups   (n,) of near-duplicates
    returns  the row whose label is believed least first; classes under 5 rows are not judged
    raises   SkippedError; ModuleNotFoundError without scikit-learn or cleanlab
    source   Northcutt et al. 2021 by cleanlab; of its rules the one that is right most often
    """
    counts = Counter(row.label for row in rows)
    kept = np.array([counts[row.label] >= FEW for row in rows], dtype=bool)
    judged = [row for row, keep in zip(rows, kept, strict=True) if keep]
    if len(judged) < MIN_ROWS:
        raise SkippedError(f"fewer than {MIN_ROWS} rows in classes of {FEW} or more")
    names, labels = np.unique(np.array([row.label for row in judged], object), return_inverse=True)
    find_issues = import_module("cleanlab.filter").find_label_issues
    believed = _out_of_fold([row.text for row in judged], labels, groups[kept], progress)
    worst = find_issues(
        labels, believed, filter_by="low_self_confidence", n_jobs=1,
        return_indices_ranked_by="self_confidence",
    )  # fmt: skip
    likely = believed.argmax(axis=1)
    return [(judged[i], str(names[likely[i]]), float(believed[i, likely[i]])) for i in worst]


def _out_of_fold(
    texts: Sequence[str],
    labels: Ints,
    groups: Ints,
    progress: Callable[[float], None],
) -> NDArray[np.float64]:
    """(n, classes): what a model of the other folds believes of each row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(groups)) < N_FOLDS:
        raise SkippedError("nearly all rows are near-duplicates of one another")
    folds = assign_folds([str(label) for label in labels], groups, n_folds=N_FOLDS, seed=0)
    if any(len(np.unique(labels[folds != fold])) < 2 for fold in range(N_FOLDS)):
        raise SkippedError("a class consists of near-duplicates only")
    features = _features(texts)
    believed = np.zeros((len(texts), int(labels.max()) + 1))
    for fold in range(N_FOLDS):
        progress(fold / N_FOLDS)
        held = folds == fold
        model = LogisticRegression(C=STRENGTH, max_iter=STEPS, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early on purpose
            model.fit(features[~held], labels[~held])
        believed[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    return believed


def _features(texts: Sequence[str]) -> Any:
    """Sparse (n, up to 13,000) float32; no label is looked at, so one fit serves every fold."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    common = {"sublinear_tf": True, "dtype": np.float32}
    tokens = r"\w+|[^\w\s]+"  # every text has one
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=tokens, max_features=5_000, **common)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), max_features=8_000, **common)
    return make_union(words, chars).fit_transform(texts)

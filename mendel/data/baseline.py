"""What a report stands beside, as scikit-learn has it: for each kind of task a floor and a rival.

python -m mendel.data.baseline NAME TRAIN.jsonl < texts > JSON lines
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Answers = Callable[[Sequence[str]], Sequence[dict[str, Any]]]


def majority(texts: Sequence[str], labels: Sequence[str]) -> Answers:
    most = Counter(labels).most_common(1)[0][0]
    return lambda asked: [{"label": most}] * len(asked)


def svc(texts: Sequence[str], labels: Sequence[str]) -> Answers:
    """Words 1-2 and character n-grams 2-5 inside words, as strong as a linear model gets here."""
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model: Any = make_pipeline(_features(), LinearSVC(C=0.5, random_state=0))
    model.fit(texts, labels)
    return lambda asked: [{"label": str(label)} for label in model.predict(asked)]


def usual_labels(texts: Sequence[str], sets: Sequence[Sequence[str]]) -> Answers:
    """The set of labels that most rows have."""
    most = Counter(tuple(labels) for labels in sets).most_common(1)[0][0]
    return lambda asked: [{"labels": list(most)}] * len(asked)


def svc_a_label(texts: Sequence[str], sets: Sequence[Sequence[str]]) -> Answers:
    """One linear SVM a label on the same features."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MultiLabelBinarizer
    from sklearn.svm import LinearSVC

    names = MultiLabelBinarizer()
    machines = OneVsRestClassifier(LinearSVC(C=0.5, random_state=0))
    model: Any = make_pipeline(_features(), machines)
    model.fit(texts, names.fit_transform(sets))

    def answers(asked: Sequence[str]) -> list[dict[str, Any]]:
        found = names.inverse_transform(model.predict(asked))
        return [{"labels": [str(label) for label in labels]} for labels in found]

    return answers


def mean(texts: Sequence[str], numbers: Sequence[float]) -> Answers:
    value = sum(numbers) / len(numbers)
    return lambda asked: [{"value": value}] * len(asked)


def ridge(texts: Sequence[str], numbers: Sequence[float]) -> Answers:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    model: Any = make_pipeline(_features(), Ridge(alpha=1.0))
    model.fit(texts, numbers)
    return lambda asked: [{"value": float(value)} for value in model.predict(asked)]


def pair_svc(texts: Sequence[str], labels: Sequence[str]) -> Answers:
    """The features of both texts, of what they share and of what they do not."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.svm import LinearSVC

    features = _features()
    sides = [text.split("\t", 1) for text in texts]
    features.fit([side for pair in sides for side in pair])

    def rows(asked: Sequence[str]) -> Any:
        pairs = [(*text.split("\t", 1), "")[:2] for text in asked]
        first, second = (features.transform([pair[i] for pair in pairs]) for i in (0, 1))
        both = first.minimum(second)
        cosine = csr_matrix(first.multiply(second).sum(1))
        return hstack([both, abs(first - second), cosine]).tocsr()

    model: Any = LinearSVC(C=0.5, random_state=0)
    model.fit(rows(texts), labels)
    return lambda asked: [{"label": str(label)} for label in model.predict(rows(asked))]


def _features() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_union(words, chars)


FITS: dict[str, Callable[[Sequence[str], Sequence[Any]], Answers]] = {
    "majority": majority,
    "svc": svc,
    "usual labels": usual_labels,
    "svc a label": svc_a_label,
    "mean": mean,
    "ridge": ridge,
    "pair svc": pair_svc,
}


def main(name: str, train: str) -> None:
    lines = Path(train).read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    answers = FITS[name]([row["text"] for row in rows], [row["target"] for row in rows])
    for answer in answers([line.rstrip("\n") for line in sys.stdin]):
        print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])

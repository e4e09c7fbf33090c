"""What a report stands beside: majority, and TF-IDF + LinearSVC as scikit-learn has them.

python -m mendel.data.baseline majority|svc TRAIN.jsonl < texts > JSON lines
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Answer = Callable[[Sequence[str]], Sequence[str]]


def majority(texts: Sequence[str], labels: Sequence[str]) -> Answer:
    most = Counter(labels).most_common(1)[0][0]
    return lambda asked: [most] * len(asked)


def svc(texts: Sequence[str], labels: Sequence[str]) -> Answer:
    """Words 1-2 and character n-grams 2-5 inside words, as strong as a linear model gets here."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model: Any = make_pipeline(make_union(words, chars), LinearSVC(C=0.5, random_state=0))
    model.fit(texts, labels)
    return lambda asked: [str(label) for label in model.predict(asked)]


FITS = {"majority": majority, "svc": svc}


def main(name: str, train: str) -> None:
    rows = [json.loads(line) for line in Path(train).read_text(encoding="utf-8").splitlines()]
    answer = FITS[name]([row["text"] for row in rows], [row["label"] for row in rows])
    for label in answer([line.rstrip("\n") for line in sys.stdin]):
        print(json.dumps({"label": label}))


if __name__ == "__main__":
    main(*sys.argv[1:])

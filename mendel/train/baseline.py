"""What a report stands beside, as scikit-learn has it: for each kind of task a floor and a rival.

python -m mendel.train.baseline NAME TRAIN.jsonl < texts > JSON lines
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mendel.parts.search.passages import Passage
from mendel.parts.tagger.records import align, learn, record_of
from mendel.parts.tagger.spans import Span, Token, spans_of, tags_of, tokenize
from mendel.parts.writer.counts import MAX_ORDER, Counts
from mendel.train.search_baselines import OVER_PASSAGES, Answers


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


def usual_spans(texts: Sequence[str], spans: Sequence[Sequence[Sequence[Any]]]) -> Answers:
    """The phrases that were spans in training, each with its most frequent label; longest first."""
    seen: dict[str, Counter[str]] = {}
    for text, found in zip(texts, spans, strict=True):
        for start, end, label in found:
            seen.setdefault(text[start:end].lower(), Counter())[label] += 1
    usual = {phrase: labels.most_common(1)[0][0] for phrase, labels in seen.items()}
    longest = max((len(phrase.split()) for phrase in usual), default=0)

    def answer(text: str) -> dict[str, Any]:
        tokens, found, at = tokenize(text), [], 0
        while at < len(tokens):
            for n in range(min(longest, len(tokens) - at), 0, -1):
                start, end = tokens[at].start, tokens[at + n - 1].end
                label = usual.get(text[start:end].lower())
                if label is not None:
                    found.append({"start": start, "end": end, "label": label})
                    at += n - 1
                    break
            at += 1
        return {"spans": found}

    return lambda asked: [answer(text) for text in asked]


def usual_passages(texts: Sequence[str], targets: Sequence[Sequence[int]]) -> Answers:
    """The ten passages that answered most queries."""
    most = Counter(passage for target in targets for passage in target).most_common(10)
    return lambda asked: [{"passages": [{"passage": i} for i, _ in most]}] * len(asked)


def crf(texts: Sequence[str], spans: Sequence[Sequence[Sequence[Any]]]) -> Answers:
    """A conditional random field on hand-made features of words and their neighbours (crfsuite)."""
    import pycrfsuite

    names = sorted({label for found in spans for _, _, label in found})
    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params({"c1": 0.05, "c2": 0.05, "max_iterations": 100})
    for text, found in zip(texts, spans, strict=True):
        tokens = tokenize(text)
        tags = tags_of(tokens, [Span(*span) for span in found], names)
        if tokens:
            trainer.append(_of_words(text, tokens), [str(tag) for tag in tags])
    with tempfile.NamedTemporaryFile() as file:
        trainer.train(file.name)
        tagger = pycrfsuite.Tagger()
        tagger.open(file.name)  # from memory it would read what is freed by then

    def answer(text: str) -> dict[str, Any]:
        tokens = tokenize(text)
        tags = [int(tag) for tag in tagger.tag(_of_words(text, tokens))] if tokens else []
        return {"spans": [span._asdict() for span in spans_of(tokens, tags, names)]}

    return lambda asked: [answer(text) for text in asked]


def _of_words(text: str, tokens: Sequence[Token]) -> list[list[str]]:
    """The features that tutorials of CRF taggers use: word, shape, affixes, two neighbours."""
    words = [text[token.start : token.end] for token in tokens]
    shapes = [re.sub(r"[a-z]+", "x", re.sub(r"[A-Z]+", "X", re.sub(r"\d+", "d", w))) for w in words]
    rows = []
    for i, word in enumerate(words):
        own = [f"w={word.lower()}", f"s={shapes[i]}"]
        own += [f"{side}{n}={part}" for n in (2, 3) for side, part in
                (("p", word[:n].lower()), ("e", word[-n:].lower()))]  # fmt: skip
        for away in (-2, -1, 1, 2):
            if 0 <= i + away < len(words):
                own += [f"{away}w={words[i + away].lower()}", f"{away}s={shapes[i + away]}"]
            else:
                own.append(f"{away}edge")
        rows.append(own)
    return rows


def n_gram(texts: Sequence[str], _: Sequence[Any], order: int = MAX_ORDER) -> Answers:
    """What each text costs by counts of bytes after up to 6 others (Kneser-Ney)."""
    counts = Counts.of(texts, order)
    return lambda asked: [{"bits": bits} for bits in counts.bits(asked).tolist()]


def unigram(texts: Sequence[str], targets: Sequence[Any]) -> Answers:
    """What each text costs by how frequent its bytes are."""
    return n_gram(texts, targets, 0)


def _features() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_union(words, chars)


def _of_records(fit: Callable[[Sequence[str], Sequence[Any]], Answers]) -> Callable[..., Answers]:
    """The same for records: it learns where values stand, and what it finds is read as values."""

    def fitted(texts: Sequence[str], records: Sequence[Any]) -> Answers:
        fields, told = learn(texts, [dict(record) for record in records])
        pairs = zip(texts, told, strict=True)
        spans = fit(texts, [align(text, record, fields) for text, record in pairs])

        def answer(text: str, found: dict[str, Any]) -> dict[str, Any]:
            places = [Span(s["start"], s["end"], s["label"]) for s in found["spans"]]
            return {"record": record_of(text, places, fields)[0]}

        return lambda asked: [answer(*pair) for pair in zip(asked, spans(asked), strict=True)]

    return fitted


FITS: dict[str, Callable[[Sequence[str], Sequence[Any]], Answers]] = {
    "majority": majority,
    "svc": svc,
    "usual labels": usual_labels,
    "svc a label": svc_a_label,
    "mean": mean,
    "ridge": ridge,
    "pair svc": pair_svc,
    "usual spans": usual_spans,
    "usual passages": usual_passages,
    "crf": crf,
    "usual records": _of_records(usual_spans),
    "crf records": _of_records(crf),
    "n-gram": n_gram,
    "unigram": unigram,
}


def main(name: str, train: str) -> None:
    lines = Path(train).read_text(encoding="utf-8").split("\n")[:-1]
    rows = [row for row in map(json.loads, lines) if not row.get("aside")]
    if name in OVER_PASSAGES:
        inputs = json.loads(Path(train).with_name("inputs.json").read_text(encoding="utf-8"))
        answers = OVER_PASSAGES[name]([Passage(*fields).text for fields in inputs["passages"]])
    else:
        answers = FITS[name]([row["text"] for row in rows], [row["target"] for row in rows])
    for answer in answers([line.rstrip("\n") for line in sys.stdin]):
        print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])

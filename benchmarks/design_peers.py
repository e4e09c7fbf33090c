"""What a user would take instead: peers of `benchmarks/design.py --full`, on the same files.

python benchmarks/design_peers.py PEER KIND DATA... --test TEST [--budget 10m]
    [--outside-label NAME]

fasttext  fastText, supervised, autotuned on a tenth of the rows, or a
          setting known to do well, whichever answers that tenth better  classify
spacy     spaCy from a blank pipeline: textcat, of words alone or its
          ensemble, whichever does better on a tenth; or ner           classify, tag
encoder   all-MiniLM-L6-v2 and logistic regression                    classify
Each is given BUDGET and prints one JSON line. `pip install -e .[bench]` installs them.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mendel.cli.amounts import SECONDS, parser
from mendel.data.readers import read_examples
from mendel.kinds import KINDS

PEERS = {"classify": ("fasttext", "spacy"), "tag": ("spacy",)}
Texts = Sequence[str]
Answers = list[dict[str, Any]]
HELD_OUT = 10  # one row in so many, to tune on
# of fastText: 88.7 % on held-out rows of BANKING77, where eight minutes of autotune may find less
KNOWN = {
    "lr": 0.5,
    "epoch": 50,
    "wordNgrams": 2,
    "minn": 2,
    "maxn": 5,
    "dim": 50,
    "loss": "softmax",
}
BAG = {
    "@architectures": "spacy.TextCatBOW.v3",
    "exclusive_classes": True,
    "ngram_size": 2,
    "no_output_layer": False,
    "length": 262144,
}


def fasttext(texts: Texts, labels: Texts, asked: Texts, s: float) -> Answers:
    import fasttext as library

    names = sorted(set(labels))
    number = {label: i for i, label in enumerate(names)}
    lines = [f"__label__{number[y]} {_one_line(x)}" for x, y in zip(texts, labels, strict=True)]
    train, held = _split(lines)
    with tempfile.TemporaryDirectory() as folder:
        whole, most, rest = (Path(folder) / name for name in ("whole", "most", "rest"))
        for file, part in ((whole, lines), (most, train), (rest, held)):
            file.write_text("\n".join(part) + "\n", "utf-8")
        tuned = library.train_supervised(
            str(most),
            autotuneValidationFile=str(rest),
            autotuneDuration=max(int(s * 0.8), 1),
            thread=1,
            verbose=0,
        )
        words = ("lr", "dim", "ws", "epoch", "minCount", "minn", "maxn", "wordNgrams", "bucket")
        found = {word: getattr(tuned, word) for word in words}
        found["loss"] = str(tuned.loss).rsplit(".", 1)[-1]
        first = _trained(library, most, KNOWN)
        both = ((tuned, found), (first, KNOWN))
        _, setting = max(both, key=lambda pair: pair[0].test(str(rest))[1])
        model = _trained(library, whole, setting)
    said, _ = model.predict([_one_line(x) for x in asked])
    return [{"label": names[int(label[0].removeprefix("__label__"))]} for label in said]


def _trained(library: Any, file: Path, setting: dict[str, Any]) -> Any:
    """At half the rate where that one breaks."""
    for halvings in range(6):
        try:
            now = setting | {"lr": setting["lr"] / 2**halvings}
            return library.train_supervised(str(file), **now, thread=1, verbose=0)
        except RuntimeError:  # "Encountered NaN"
            continue
    raise RuntimeError(f"fastText found no number with {setting}")


def spacy(texts: Texts, targets: Sequence[Any], asked: Texts, s: float, *, kind: str) -> Answers:
    """What does best on a tenth of the rows answers."""
    shares = [(BAG, s / 4), (None, s * 3 / 4)] if kind == "classify" else [(None, s)]
    tried = [_pipeline(texts, targets, kind, config, share) for config, share in shares]
    _, language = max(tried, key=lambda found: found[0])
    return [_answer(doc, kind) for doc in language.pipe(asked)]


def _pipeline(
    texts: Texts, targets: Sequence[Any], kind: str, config: dict[str, Any] | None, s: float
) -> tuple[float, Any]:
    """Epochs until the time is up; the best of them, and its score on a tenth of the rows."""
    import spacy as library
    from spacy.training import Example

    library.util.fix_random_seed(0)
    language = library.blank("en")
    name = "textcat" if kind == "classify" else "ner"
    part = language.add_pipe(name, config={"model": config} if config else {})
    names = KINDS[kind].names(targets)
    for label in names:
        part.add_label(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spans that do not lie on its tokens
        made = [
            Example.from_dict(language.make_doc(x), _annotations(y, kind, names))
            for x, y in zip(texts, targets, strict=True)
        ]
        train, held = _split(made)
        optimizer = language.initialize(lambda: train[:2000])
        until, best, kept = time.monotonic() + s, -1.0, b""
        chance = random.Random(0)
        while time.monotonic() < until:
            chance.shuffle(train)
            for begin in range(0, len(train), 64):
                language.update(train[begin : begin + 64], sgd=optimizer, drop=0.2)
                if time.monotonic() > until:
                    break
            told = language.evaluate(held)
            score = told["cats_micro_f" if kind == "classify" else "ents_f"] or 0.0
            if score > best:
                best, kept = score, language.to_bytes()
        language.from_bytes(kept)
    return best, language


def _annotations(target: Any, kind: str, names: Sequence[str]) -> dict[str, Any]:
    if kind == "classify":
        return {"cats": {name: float(name == target) for name in names}}
    return {"entities": [tuple(span) for span in target]}


def _answer(doc: Any, kind: str) -> dict[str, Any]:
    if kind == "classify":
        return {"label": max(doc.cats, key=doc.cats.__getitem__)}
    spans = [{"start": e.start_char, "end": e.end_char, "label": e.label_} for e in doc.ents]
    return {"spans": spans}


def encoder(texts: Texts, labels: Texts, asked: Texts, s: float) -> Answers:
    """The teacher itself, as people use it; the strength of the penalty by cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    from mendel.data.encoder import Encoder

    with tempfile.TemporaryDirectory() as folder:
        vectors = Encoder.load("auto", cache=Path(folder)).encode([*texts, *asked])
    known, new = vectors[: len(texts)], vectors[len(texts) :]

    def model(strength: float) -> Any:
        return LogisticRegression(C=strength, max_iter=300)

    def rating(strength: float) -> float:
        return float(cross_val_score(model(strength), known, labels, cv=3).mean())

    best = max((1.0, 10.0, 100.0), key=rating)
    return [{"label": str(label)} for label in model(best).fit(known, labels).predict(new)]


def _split(rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    order = list(rows)
    random.Random(0).shuffle(order)
    n = max(len(order) // HELD_OUT, 1)
    return order[n:], order[:n]


def _one_line(text: str) -> str:
    return " ".join(text.lower().split())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("peer", choices=("fasttext", "spacy", "encoder"))
    options.add_argument("kind", choices=sorted(KINDS))
    options.add_argument("data", type=Path, nargs="+")
    options.add_argument("--test", type=Path, required=True)
    options.add_argument("--budget", type=parser(SECONDS, "10m"), default=600.0)
    options.add_argument("--outside-label")
    args = options.parse_args()
    rows, wanted = (
        [
            (x, y)
            for found in (read_examples(file, kind=args.kind) for file in files)
            for x, y in zip(found.texts, found.targets, strict=True)
            if y != args.outside_label
        ]
        for files in (args.data, [args.test])
    )
    texts, targets = [list(column) for column in zip(*rows, strict=True)]
    asked, truth = [list(column) for column in zip(*wanted, strict=True)]
    peers: dict[str, Callable[..., Answers]] = {"fasttext": fasttext, "encoder": encoder}
    started = time.monotonic()
    if args.peer == "spacy":
        answers = spacy(texts, targets, asked, args.budget, kind=args.kind)
    else:
        answers = peers[args.peer](texts, targets, asked, args.budget)
    seconds = time.monotonic() - started
    score, low, high = KINDS[args.kind].total(answers, truth)
    told = {"peer": args.peer, "score": score, "low": low, "high": high, "seconds": seconds}
    print(json.dumps(told))


if __name__ == "__main__":
    main()

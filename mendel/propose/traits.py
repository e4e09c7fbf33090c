"""What is known of a task before anything is trained, and how alike two tasks are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from mendel.kinds import Shape
from mendel.spec import Limits, Spec

N_TEXTS = 2_000  # looked at; more say little more
N_TRIGRAMS = 60  # the most common: a profile of the language
MAX_CHARS = 500  # of a text
WORDS = 6  # of a description, as a name


class Traits(Spec):
    """A task as the proposer sees it; kept in the ledger where the task's line starts.

    name      the first words of its description
    n_rows    to train on, unlabelled ones included; n_labels: outputs
    n_words   a text, on average
    unseen    share of the words of a fifth of the texts that the others do not have: names,
              typos, languages with many forms
    balance   entropy of the labels / the highest: 1 = all are alike often
    trigrams  the most common ones of characters, which tell the language
              (Cavnar and Trenkle 1994)
    n_lists fills   as in Shape

    Texts and shares of labels are looked at before rows are sealed, scores never.
    """

    name: str
    kind: str
    n_rows: int
    n_labels: int
    n_folds: int
    limits: Limits
    n_words: float
    unseen: float
    balance: float
    trigrams: tuple[str, ...] = ()
    n_lists: int = 0
    fills: bool = False

    @property
    def shape(self) -> Shape:
        about = self.limits, self.n_folds, self.kind
        lists = self.n_lists, self.fills
        return Shape(self.n_rows, self.n_labels, *about, n_lists=lists[0], fills=lists[1])


def traits_of(name: str, shape: Shape, texts: Sequence[str], strata: Sequence[str]) -> Traits:
    """Look at the texts.

    strata   a label for each text, as the kind of task has them
    cost     0.1 s for 2,000 texts; more are thinned out
    """
    some = [text[:MAX_CHARS].lower() for text in texts[:: math.ceil(len(texts) / N_TEXTS)]]
    words = [re.findall(r"\w+", text) for text in some]
    grams = Counter(text[i : i + 3] for text in some for i in range(len(text) - 2))
    most = sorted(grams, key=lambda gram: (-grams[gram], gram))[:N_TRIGRAMS]
    return Traits(
        name=" ".join(name.split()[:WORDS]),
        kind=shape.kind,
        n_rows=shape.n_rows,
        n_labels=shape.n_labels,
        n_folds=shape.n_folds,
        limits=shape.limits,
        n_words=round(sum(map(len, words)) / len(words), 2),
        unseen=round(_unseen(words), 4),
        balance=round(_balance(strata), 4),
        trigrams=tuple(most),
        n_lists=shape.n_lists,
        fills=shape.fills,
    )


def likeness(a: Traits, b: Traits) -> float:
    """0 to 1: how much what was seen on one task says of the other.

    Tasks that differ eightfold in rows or labels, fourfold in length, or by 0.3 in new words or
    in balance stand one width apart; those of another kind say nothing.
    """
    if a.kind != b.kind:
        return 0.0
    apart = (
        math.log(a.n_rows / b.n_rows) / math.log(8),
        math.log(a.n_labels / b.n_labels) / math.log(8),
        math.log(max(a.n_words, 1) / max(b.n_words, 1)) / math.log(4),
        (a.unseen - b.unseen) / 0.3,
        (a.balance - b.balance) / 0.3,
    )
    return math.exp(-math.fsum(x * x for x in apart) / 2) * (0.5 + 0.5 * _shared(a, b))


def _shared(a: Traits, b: Traits) -> float:
    """Of the trigrams; two tasks in English share about half."""
    most = max(len(a.trigrams), len(b.trigrams))
    return min(1.0, 2 * len({*a.trigrams} & {*b.trigrams}) / most) if most else 1.0


def _unseen(words: Sequence[Sequence[str]]) -> float:
    known = {word for i, text in enumerate(words) if i % 5 for word in text}
    asked = [word for text in words[::5] for word in text]
    return sum(word not in known for word in asked) / max(len(asked), 1)


def _balance(strata: Sequence[str]) -> float:
    counts = Counter(strata)
    if len(counts) < 2:
        return 1.0
    shares = [n / len(strata) for n in counts.values()]
    return -math.fsum(p * math.log(p) for p in shares) / math.log(len(counts))

"""Texts that belong to no label: given or made, weighed, scored, told from the others.

given and generated texts -> one class more, OUTSIDE -> logits (n, K + 1) -> score -> threshold
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mendel.judge import interval
from mendel.parts.text.fit import Examples
from mendel.types import InputError

Section = dict[str, Any]
Floats = NDArray[np.float64]

OUTSIDE = "(outside)"  # the class's name; it is the last one
SHARE = 0.1  # of the rows' weight that each source of outside texts has
MAX_WEIGHT = 5.0  # of one outside row: a handful of them is not learned by heart
MAX_TRIES = 20  # for each text wanted, before we settle for fewer
MAX_WORDS = 300_000  # that are mixed
FAR = 20  # draws in search of another label
MAX_WRONG = 0.01
DOUBT = 0.1  # that a threshold breaks its promise


def with_outside(data: Examples, given: Sequence[str], *, n_generated: int, seed: int) -> Examples:
    """The rows with one class more, of texts that have none of the labels.

    given        texts known to be outside; those that are training texts too are left out
    n_generated  texts to make besides (see `generate_outside`)
    returns      K + 1 names, the last one OUTSIDE. Given rows weigh a tenth of all other rows
                 together, generated ones too, and none more than 5
    raises       InputError where data is not of one label a row, or there is nothing to add
    """
    if data.kind != "classify" or OUTSIDE in data.names:
        raise InputError(
            f"outside texts need labels to be outside of. Got kind {data.kind}, labels "
            f"{', '.join(map(repr, data.names[-3:]))}. Wanted kind classify without {OUTSIDE!r}."
        )
    known = set(data.texts)
    given = [text for text in dict.fromkeys(given) if text not in known]
    labels = data.labels if data.targets is None else data.targets.argmax(1)
    made = generate_outside(data.texts, labels, n_generated, seed)
    n, n_inside = len(given) + len(made), len(data.texts)
    if n == 0:
        raise InputError("no outside texts. Wanted some given or some generated.")
    mine = np.ones(n_inside, np.float32) if data.weights is None else data.weights
    weights = [np.full(len(rows), _weight(len(rows), n_inside)) for rows in (given, made)]
    return replace(
        data,
        texts=[*data.texts, *given, *made],
        labels=np.concatenate([data.labels, np.full(n, len(data.names))]),
        names=[*data.names, OUTSIDE],
        targets=None if data.targets is None else _wider(data.targets, n),
        weights=np.concatenate([mine, *weights]).astype(np.float32),
    )


def generate_outside(
    texts: Sequence[str], labels: Sequence[int] | NDArray[np.int64], n: int, seed: int
) -> list[str]:
    """Texts in the words of the training texts that mean nothing, or two things at once.

    A third each: the beginning of one text and the end of another of another label; words by
    their frequency; chains in which each word follows the one before it somewhere.

    returns  n distinct ones, none of them a training text; fewer where the words allow no more
    """
    return Mixer(texts, labels, seed).make(n)


class Mixer:
    """Training texts, taken apart; of very many words, those of texts drawn by chance."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[int] | NDArray[np.int64], seed: int
    ) -> None:
        self._chance = np.random.default_rng(seed)
        spaced = 2 * sum(" " in text.strip() for text in texts) > len(texts)
        self._glue = " " if spaced else ""  # of scripts without spaces, characters are mixed
        split = [text.split() if spaced else list(text.strip()) for text in texts]
        self._known = {self._glue.join(words) for words in split}
        self._texts: list[list[str]] = []
        self._labels: list[int] = []
        self._words: list[str] = []
        self._after: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i in self._chance.permutation(len(split)):
            if split[i] and len(self._words) < MAX_WORDS:
                self._take(split[i], int(labels[i]))

    def _take(self, words: list[str], label: int) -> None:
        for place, word in enumerate(words):
            self._after[word].append((len(self._texts), place + 1))
        self._texts.append(words)
        self._labels.append(label)
        self._words += words

    def make(self, n: int) -> list[str]:
        ways = (self.spliced, self.drawn, self.chained)
        found: dict[str, None] = {}
        for _ in range(MAX_TRIES * n if self._texts else 0):
            if len(found) == n:
                break
            text = self._glue.join(ways[len(found) % len(ways)]())
            if text and text not in self._known:
                found[text] = None
        return list(found)

    def spliced(self) -> list[str]:
        """The beginning of one text and the end of another, of another label where there is one."""
        i = j = self._one()
        for _ in range(FAR):
            j = self._one()
            if self._labels[j] != self._labels[i]:
                break
        first, second = self._texts[i], self._texts[j]
        cut, rest = 0.25 + 0.5 * self._chance.random(2)
        return first[: round(cut * len(first))] + second[round(rest * len(second)) :]

    def drawn(self) -> list[str]:
        """As many words as some text has, by their frequency."""
        n = len(self._texts[self._one()])
        return [self._words[k] for k in self._chance.integers(len(self._words), size=n)]

    def chained(self) -> list[str]:
        """Each word follows the one before it in some text, of another label where there is one."""
        i, place = self._one(), 0
        longest = 2 * len(self._texts[i])
        made: list[str] = []
        while place < len(self._texts[i]) and len(made) < longest:
            made.append(self._texts[i][place])
            i, place = self._elsewhere(made[-1], i)
        return made

    def _elsewhere(self, word: str, i: int) -> tuple[int, int]:
        """A text that has the word, and the place behind it."""
        ways = self._after[word]
        for _ in range(FAR):
            j, place = ways[self._chance.integers(len(ways))]
            if self._labels[j] != self._labels[i]:
                break
        return j, place

    def _one(self) -> int:
        return int(self._chance.integers(len(self._texts)))


def outside_score(logits: ArrayLike, n_labels: int) -> Floats:
    """How far outside each text is: 1 - the probability of the best of its labels.

    logits   (n, K), or (n, K + 1) with OUTSIDE last, which is no label to be sure of. As the
             model gives them: divided by a temperature below 1 they tell less (on validation rows
             of CLINC150, 2 points of recall)
    returns  (n,), 0 .. 1
    """
    z = np.asarray(logits, np.float64)
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(1 - shares[:, :n_labels].max(axis=1) / shares.sum(axis=1))


def fit_outside_threshold(
    inside: ArrayLike,
    outside: ArrayLike | None,
    right: ArrayLike,
    *,
    max_wrong_rejections: float = MAX_WRONG,
) -> Section:
    """The score above which a text is rejected, by how many right answers that may cost.

    inside   (n,) scores of texts that have a label, out of fold; right (n,) was it the answer?
    outside  (m,) scores of texts that have none, to say how many are found. They do not move the
             threshold: they are few, and what will come is unlike them
    max_wrong_rejections   share of texts that have a label, answered rightly and yet rejected; 9
                           in 10 thresholds fitted so keep below it on new texts
    returns  threshold, kept (False: too few rows to keep the promise; then no right answer here
             is rejected), and what the threshold does here
    raises   InputError
    """
    scores, good = np.asarray(inside, np.float64), np.asarray(right, np.bool_)
    if scores.shape != good.shape or not good.any() or not np.isfinite(scores).all():
        raise InputError(
            f"no threshold from {scores.shape} scores and {good.shape} answers, {good.sum()} of "
            "them right. Wanted finite scores, one an answer, and a right answer among them. "
            "Train a model that answers first."
        )
    if not 0 < max_wrong_rejections < 1:
        raise InputError(
            f"max_wrong_rejections={max_wrong_rejections}. Wanted a share above 0 and below 1. "
            f"Leave it at {MAX_WRONG}."
        )
    from scipy.stats import binom  # takes a second, which workers of a run do not need

    # the most that may be rejected here so that more than promised is improbable elsewhere
    n_allowed = int(binom.ppf(DOUBT, len(scores), max_wrong_rejections)) - 1
    ranked = np.sort(scores[good])[::-1]
    threshold = float(ranked[min(max(n_allowed, 0), len(ranked) - 1)])
    rejected = scores > threshold
    return {
        "threshold": threshold,
        "max_wrong_rejections": max_wrong_rejections,
        "kept": n_allowed >= 0,
        "n": len(scores),
        "n_right": int(good.sum()),
        "n_right_rejected": int((good & rejected).sum()),
        "n_wrong_rejected": int((~good & rejected).sum()),
        "net_accuracy": float((good & ~rejected).mean()),
        "outside": None if outside is None else _found(np.asarray(outside), threshold),
    }


def _found(scores: Floats, threshold: float) -> Section:
    n, n_rejected = len(scores), int((scores > threshold).sum())
    low, high = interval(n_rejected, n)
    recall = n_rejected / n if n else None
    return {"n": n, "n_rejected": n_rejected, "recall": recall, "low": low, "high": high}


def _weight(n: int, n_inside: int) -> float:
    """Of each of n outside rows."""
    return min(SHARE * n_inside / max(n, 1), MAX_WEIGHT)


def _wider(targets: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Shares of one class more, which n more rows have wholly."""
    wide = np.zeros((len(targets) + n, targets.shape[1] + 1), np.float32)
    wide[: len(targets), :-1] = targets
    wide[len(targets) :, -1] = 1
    return wide

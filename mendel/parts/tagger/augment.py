"""Altered copies of training rows, beside the rows: other mentions, or written as others write.

swap    each mention becomes another of its label, from the same rows
fill    a piece of a mention that a gazetteer holds becomes another phrase of that gazetteer, and a
        mention without one a phrase given for its label; what is in neither is swapped
noise   words are written as often otherwise as they are in the rows: case, long letters, ...

The rows are those of one fit, so that nothing held out is copied or copied from. numpy only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .noise import Habits
from .spans import Span, tokenize

if TYPE_CHECKING:
    from .fit import Examples

WAYS = ("", "swap", "fill", "noise")
MET = 0.05  # share of a label's mentions in which a list is met, for the list to fill them
MAX_PIECE = 6  # words

Row = tuple[str, list[Span]]
Alter = Callable[[str, list[Span], np.random.Generator], list[str]]  # new texts of the spans


def augmented(data: Examples, way: str, amount: float, seed: int) -> Examples:
    """The rows, and behind them the altered copies; the rows as they are where way is "".

    amount   altered copies a row: 1.5 = one, and of every second row two
    """
    if not way:
        return data
    chance = np.random.default_rng(seed)
    rows = [(text, _apart(spans)) for text, spans in zip(data.texts, data.spans, strict=True)]
    if way == "noise":
        habits = Habits.of(data.texts)
        made = [habits.rewrite(*row, chance) for row in _drawn(rows, amount, chance)]
    else:
        named = [row for row in rows if row[1]]
        swap = Swap(named)
        other = Fill(named, data.gazetteers, data.fillers, swap) if way == "fill" else swap
        made = [_with_others(*row, other, chance) for row in _drawn(named, amount, chance)]
    known = set(data.texts)
    made = [row for row in made if row[0] not in known]
    return replace(
        data,
        texts=[*data.texts, *(text for text, _ in made)],
        spans=[*data.spans, *(spans for _, spans in made)],
    )


class Swap:
    """Another mention of the label; rare forms as often as common ones."""

    def __init__(self, rows: Sequence[Row]) -> None:
        forms: dict[str, set[str]] = {}
        for text, spans in rows:
            for span in spans:
                forms.setdefault(span.label, set()).add(text[span.start : span.end])
        self.forms = {label: sorted(found) for label, found in forms.items()}

    def __call__(self, mention: str, label: str, chance: np.random.Generator) -> str:
        return _any(self.forms[label], chance)


class Fill:
    """Another phrase of the lists that hold a piece of the mention, in the mention's own case."""

    def __init__(
        self,
        rows: Sequence[Row],
        gazetteers: Mapping[str, Sequence[str]],
        fillers: Mapping[str, Sequence[str]],
        swap: Swap,
    ) -> None:
        self.lists, self.fillers, self.swap = gazetteers, fillers, swap
        self.holders: dict[str, list[str]] = {}
        for name, phrases in gazetteers.items():
            for phrase in {" ".join(phrase.lower().split()) for phrase in phrases}:
                self.holders.setdefault(phrase, []).append(name)
        met: Counter[tuple[str, str]] = Counter()
        n: Counter[str] = Counter()
        for text, spans in rows:
            for span in spans:
                pieces = self._pieces(text[span.start : span.end])
                met.update({(span.label, name) for *_, names in pieces for name in names})
                n[span.label] += 1
        self.share = {pair: count / n[pair[0]] for pair, count in met.items()}

    def __call__(self, mention: str, label: str, chance: np.random.Generator) -> str:
        parts, end = [], 0
        for begin, stop, names in self._pieces(mention):
            best = max(names, key=lambda name: self.share.get((label, name), 0.0))
            if self.share.get((label, best), 0.0) >= MET:
                phrase = _any(self.lists[best], chance)
                parts += [mention[end:begin], cased(phrase, mention[begin:stop])]
                end = stop
        if end:
            return "".join([*parts, mention[end:]])
        given = self.fillers.get(label)
        return cased(_any(given, chance), mention) if given else self.swap(mention, label, chance)

    def _pieces(self, mention: str) -> list[tuple[int, int, list[str]]]:
        """Start, end and lists of the longest phrases in it, from left to right."""
        tokens, found, i = tokenize(mention), [], 0
        while i < len(tokens):
            for n in range(min(MAX_PIECE, len(tokens) - i), 0, -1):
                begin, stop = tokens[i].start, tokens[i + n - 1].end
                names = self.holders.get(" ".join(mention[begin:stop].lower().split()))
                if names:
                    found.append((begin, stop, names))
                    break
            i += n if names else 1
        return found


def cased(phrase: str, like: str) -> str:
    """The phrase in lower case or in capitals where `like` is; else as it is."""
    if like.islower():
        return phrase.lower()
    return phrase.upper() if like.isupper() and len(like) > 1 else phrase


def _with_others(
    text: str, spans: Sequence[Span], other: Swap | Fill, chance: np.random.Generator
) -> Row:
    """The text with each mention replaced; the spans lie on what replaced it."""
    made, moved, end = "", [], 0
    for span in spans:
        made += text[end : span.start]
        begin = len(made)
        made += other(text[span.start : span.end], span.label, chance)
        moved.append(Span(begin, len(made), span.label))
        end = span.end
    return made + text[end:], moved


def _apart(spans: Sequence[Span]) -> list[Span]:
    """In order; of spans that overlap the first counts, as in training."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _drawn(rows: Sequence[Row], amount: float, chance: np.random.Generator) -> list[Row]:
    """Each row as often as is wanted of it, in an order of chance."""
    n = round(amount * len(rows))
    rounds = [chance.permutation(len(rows)) for _ in range(-(-n // max(len(rows), 1)))]
    return [rows[i] for i in np.concatenate([[], *rounds]).astype(int)[:n]]


def _any(phrases: Sequence[str], chance: np.random.Generator) -> str:
    return phrases[int(chance.integers(len(phrases)))]

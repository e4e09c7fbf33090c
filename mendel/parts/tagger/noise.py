"""How texts are written, as rates, and other texts rewritten by them. numpy only.

texts -> Habits (share without capitals, words drawn ouuut, apostrophes left out, #marks) -> text'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .spans import Span

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
LONG = re.compile(r"([^\W\d_])\1\1")
NOT = re.compile(r"\b([^\W\d_]+n)['’](t)\b", re.IGNORECASE)  # don't: "dont" is no other word
VOWEL = re.compile(r"[aeiouyAEIOUY](?![aeiouyAEIOUY])")


@dataclass(frozen=True)
class Habits:
    """Shares, 0 to 1.

    lower upper   of texts: without a capital, without a small letter
    long          of words: with a letter three times in a row
    marked        of words: with # before them
    bare          of don't and its like: without the apostrophe
    """

    lower: float = 0.0
    upper: float = 0.0
    long: float = 0.0
    marked: float = 0.0
    bare: float = 0.0

    @classmethod
    def of(cls, texts: Sequence[str]) -> Habits:
        """As the texts are written; nothing is a habit of no text."""
        lettered = [text for text in texts if text.upper() != text.lower()]
        words = [word for text in texts for word in WORD.findall(text)]
        n_marked = sum(len(re.findall(r"#[^\W\d_]", text)) for text in texts)
        said = [(a + b).lower() for text in texts for a, b in NOT.findall(text)]
        n_bare = sum(word.lower() in set(said) for word in words) if said else 0
        return cls(
            lower=_share(sum(text == text.lower() for text in lettered), len(lettered)),
            upper=_share(sum(text == text.upper() for text in lettered), len(lettered)),
            long=_share(sum(bool(LONG.search(word)) for word in words), len(words)),
            marked=_share(n_marked, len(words)),
            bare=_share(n_bare, n_bare + len(said)),
        )

    def rewrite(
        self, text: str, spans: Sequence[Span], chance: np.random.Generator
    ) -> tuple[str, list[Span]]:
        """The text as someone else may have written it, its spans on the same words."""
        case = chance.random()
        edits = self._edits(text, chance)
        made, moved = _applied(text, spans, edits)
        if case < self.lower:
            made = _same_length(made, made.lower())
        elif case < self.lower + self.upper:
            made = _same_length(made, made.upper())
        return made, moved

    def _edits(self, text: str, chance: np.random.Generator) -> list[tuple[int, int, str]]:
        """Start, end and what stands there instead, from left to right, none over another."""
        edits = []
        for found in WORD.finditer(text):
            word, begin = found.group(), found.start()
            draw = chance.random(3)
            if draw[0] < self.marked and text[begin - 1 : begin] not in ("#", "@"):
                edits.append((begin, begin, "#"))
            vowels = list(VOWEL.finditer(word))
            if draw[1] < self.long and vowels:
                last = begin + vowels[-1].end()
                edits.append((last, last, text[last - 1] * int(chance.integers(2, 5))))
            elif draw[2] < self.bare and NOT.fullmatch(word):
                edits.append((begin + len(word) - 2, begin + len(word) - 1, ""))
        return edits


def _applied(
    text: str, spans: Sequence[Span], edits: Sequence[tuple[int, int, str]]
) -> tuple[str, list[Span]]:
    """An edit where a span begins or ends is inside the span."""
    made, end = "", 0
    moves = []  # from this place on, spans move by so much; where they begin, and where they end
    for begin, stop, new in edits:
        made += text[end:begin] + new
        end = stop
        moves.append((begin, len(new) - (stop - begin)))

    def at(place: int, is_end: bool) -> int:
        return place + sum(n for begin, n in moves if begin < place or (is_end and begin == place))

    moved = [Span(at(s.start, False), at(s.end, True), s.label) for s in spans]
    return made + text[end:], moved


def _same_length(text: str, other: str) -> str:
    """The other, unless a letter of it became two (ß, İ), which would move the spans."""
    return other if len(other) == len(text) else text


def _share(count: int, n: int) -> float:
    return count / n if n else 0.0

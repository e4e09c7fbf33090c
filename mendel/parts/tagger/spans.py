"""Text to tokens, spans to tags and back, and how many spans are right.

tags   0 = outside, 1 + 2k = label k begins here, 2 + 2k = label k goes on
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..carried.scripts import ALONE

MAX_TEXT = 20_000  # characters read of a text

# a letter, digit or mark that combines with the letter before it (vowel signs of Indic scripts)
_LETTER = rf"(?:[^\W{ALONE}]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u200c\u200d])"
TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)\S*[^\s.,;:!?'")\]}}>]         # a URL, without the mark behind it
    | [\w.+-]{{1,64}}@\w[\w-]{{0,62}}(?:\.[\w-]{{1,63}})+  # an e-mail address
    | [@\#]\w+                                        # @someone, #topic
    | [<>]?[:;=8][-o*']?[)(\]\[dDpP/\\|@3*]+(?!\w)      # :-) and its like
    | [<>]?[)(\]\[][-o*']?[:;=](?!\w)                 # (-:
    | <3+(?!\w) | \^[_.]?\^
    | \d+(?:[.,:/]\d+)*(?:{_LETTER}+)?%?              # 1,000.50 10:30 1/2/24 5pm 20%
    | ['’](?:s|S|d|m|ll|re|ve)\b                      # what English hangs on a word
    | (?:{_LETTER}\.){{2,}}                            # U.S.
    | {_LETTER}+(?:(?!['’](?:s|S|d|m|ll|re|ve)\b)['’.&-]{_LETTER}+)*  # O'Neil, AT&T, well-known
    | [{ALONE}]
    | ([.!?*~=_-])\1+                                 # a run of one mark
    | \S[\ufe0f\u200d\U0001f3fb-\U0001f3ff♀♂]*            # a mark; a picture with its variants
    """,
    re.VERBOSE,
)


class Span(NamedTuple):
    """Characters start to end (exclusive) of a text, and what they are."""

    start: int
    end: int
    label: str


class Token(NamedTuple):
    """Characters start to end (exclusive) of a text."""

    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Words, numbers, addresses and single marks, by offsets; white space is in none of them."""
    return [Token(*found.span()) for found in TOKEN.finditer(text[:MAX_TEXT])]


def tags_of(tokens: Sequence[Token], spans: Sequence[Span], names: Sequence[str]) -> list[int]:
    """The tag of each token. A span takes every token that it touches.

    Where spans overlap, the one that begins first counts, and of two that begin together the
    longer one; the other is left out. A span that touches no token is left out as well.
    """
    number = {name: i for i, name in enumerate(names)}
    tags = [0] * len(tokens)
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        inside = [i for i, t in enumerate(tokens) if t.start < span.end and span.start < t.end]
        if inside and not any(tags[i] for i in inside):
            tags[inside[0]] = 1 + 2 * number[span.label]
            for i in inside[1:]:
                tags[i] = 2 + 2 * number[span.label]
    return tags


def spans_of(tokens: Sequence[Token], tags: Sequence[int], names: Sequence[str]) -> list[Span]:
    """The spans that the tags stand for; a tag that goes on after another label begins anew."""
    spans: list[Span] = []
    before = 0
    for token, tag in zip(tokens, tags, strict=True):
        goes_on = tag > 0 and tag % 2 == 0 and before in (tag - 1, tag)
        if goes_on:
            spans[-1] = spans[-1]._replace(end=token.end)
        elif tag > 0:
            spans.append(Span(token.start, token.end, names[(tag - 1) // 2]))
        before = tag
    return spans


def off_borders(text: str, spans: Sequence[Span]) -> int:
    """Spans of a text that cannot be answered exactly: they begin or end inside a token."""
    tokens = tokenize(text)
    starts, ends = {t.start for t in tokens}, {t.end for t in tokens}
    return sum(span.start not in starts or span.end not in ends for span in spans)


def span_counts(
    predicted: Sequence[Sequence[Span]], gold: Sequence[Sequence[Span]]
) -> NDArray[np.int64]:
    """(n, 3) found and right, found and wrong, missed; right = same start, end and label."""
    rows = []
    for found, wanted in zip(predicted, gold, strict=True):
        right = len(set(found) & set(wanted))
        rows.append((right, len(set(found)) - right, len(set(wanted)) - right))
    return np.array(rows, np.int64).reshape(len(rows), 3)


def span_f1(counts: NDArray[np.int64]) -> float:
    """Micro F1 over all texts, in 0 .. 1; 0 where nothing was found and nothing was there."""
    right, wrong, missed = counts.sum(0)
    return float(2 * right / max(2 * right + wrong + missed, 1))

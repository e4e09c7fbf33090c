"""Which words decided an answer: each word is hidden in turn, and the change is its weight.

The weight of a word is what is lost without it: above 0 it speaks for the answer, below 0 against.
Words that say the same share their weight badly: where either alone is enough, both have little.
It costs as much as answering one more text for each word; only the first 200 words are weighed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

# of scripts that put no space between words each letter is a word
ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
LETTER = rf"[^\W{ALONE}]"
WORD = re.compile(rf"[{ALONE}]|{LETTER}+(?:['’-]{LETTER}+)*")
MAX_WORDS = 200
BATCH, LONG = 64, 2_000  # texts at once; characters of a text that is run by itself


class Explained(Protocol):
    """What of a Model is needed."""

    decoder: Any

    def outputs(self, texts: Sequence[str]) -> Any: ...


def why(model: Explained, text: str) -> list[dict[str, Any]]:
    """For each thing that was answered: {"for": what, "in": unit, "words": [...]}.

    A word is {"word", "start", "end", "weight"}, the weightiest first. Units: log-odds of a label,
    or what the number is counted in; answers.py says of what (`Decoder.evidence`).
    raises   ValueError for a kind of model that cannot say why
    """
    decoder = model.decoder
    if not can_explain(model):
        raise ValueError("this kind of model cannot say which words decided")
    places = _words(decoder, text)[:MAX_WORDS]
    hidden = [text[:start] + decoder.hidden + text[end:] for start, end in places]
    texts, at_once = [text, *hidden], 1 if len(text) > LONG else BATCH
    rows = [
        row
        for begin in range(0, len(texts), at_once)
        for row in model.outputs(texts[begin : begin + at_once])
    ]
    return [
        {"for": name, "in": decoder.unit, "words": _weighed(text, places, strength)}
        for name, strength in decoder.evidence(texts, rows)
    ]


def can_explain(model: Explained) -> bool:
    return hasattr(model.decoder, "evidence")


def _words(decoder: Any, text: str) -> list[tuple[int, int]]:
    """Start and end of what is hidden at a time: words, or a tagger's own tokens."""
    if hasattr(decoder, "pieces"):
        return [(start, end) for start, end in decoder.pieces(text)]
    return [found.span() for found in WORD.finditer(text[:20_000])]


def _weighed(
    text: str, places: Sequence[tuple[int, int]], strength: Sequence[float]
) -> list[dict[str, Any]]:
    """strength   of the answer, first with every word, then without each"""
    lost = [float(strength[0] - without) for without in strength[1:]]
    ranked = np.argsort([-abs(weight) for weight in lost], kind="stable").tolist()
    return [
        {
            "word": text[places[i][0] : places[i][1]],
            "start": places[i][0],
            "end": places[i][1],
            "weight": round(lost[i], 4),
        }
        for i in ranked
    ]

"""A word as strings and keys that features are made of."""

from __future__ import annotations

import re
import zlib

MAX_WORD = 32  # characters of a word that make features


def key_of(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass"))


def shapes(word: str) -> tuple[str, str]:
    """How it is written: the first letters and the length; and in full, runs as one (XxXx)."""
    marks = "".join(map(_shape, word[:MAX_WORD]))
    return f"{marks[:4]}{min(len(word), 12)}", re.sub(r"(.)\1+", r"\1", marks)


def _shape(letter: str) -> str:
    if letter.isalpha():
        return "X" if letter.isupper() else "x"
    return "0" if letter.isdigit() else letter

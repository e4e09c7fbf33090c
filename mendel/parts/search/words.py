"""Text to words and character n-grams, as index and vectors both see them."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable

from ..carried.scripts import ALONE

WORD = re.compile(rf"[{ALONE}]|[^\W{ALONE}]+")
MAX_TEXT = 20_000  # characters read of a query
MAX_WORD = 32  # characters of a word that make n-grams


def words(text: str) -> list[str]:
    """Lower-case words after NFKC; marks part them, and so does an underscore.

    A character of a script without spaces, such as Chinese or Thai, is a word.
    """
    folded = unicodedata.normalize("NFKC", text[:MAX_TEXT]).lower().replace("_", " ")
    return WORD.findall(folded)


def grams(word: str, lengths: Iterable[int]) -> list[str]:
    """Character n-grams of a word whose ends are marked by < and >, repeats included."""
    marked = f"<{word[:MAX_WORD]}>"
    return [marked[i : i + n] for n in lengths for i in range(len(marked) - n + 1)]


def key(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass"))

"""What else texts say for a choice: phrases that come with one value and hardly ever without it.

"extra large" -> "XL", "urgent" -> "high"; counted over rows whose text lacks the value itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .fields import Field, Value, folded, key
from .spans import Token

MAX_WORDS = 4
MAX_ALIASES = 20  # of a value
MIN_ROWS = 3  # with a phrase and the value
CHANCE = 1e-6  # that so many rows with a phrase have the value by luck
CLEARER = 0.2  # of the share of rows that lack the value, at most so much among those with it


def phrases(text: str, tokens: Sequence[Token]) -> set[str]:
    """Folded runs of up to MAX_WORDS tokens, without marks at their ends."""
    words = [folded(text[t.start : t.end]) for t in tokens]
    return {
        folded(text[tokens[i].start : tokens[j].end])
        for i in range(len(tokens))
        for j in range(i, min(i + MAX_WORDS, len(tokens)))
        if words[i] and words[j]
    }


def aliases(
    field: Field, said: Sequence[set[str]], values: Sequence[Value | None]
) -> dict[str, Value]:
    """Phrases for the values of a choice.

    said     phrases of each text
    values   of each row, None where its record has none
    """
    n_with = Counter(phrase for row in said for phrase in row)
    found: dict[str, Value] = {}
    for value in dict.fromkeys(field.forms.values()):
        rows = [row for row, own in zip(said, values, strict=True) if _is(own, value)]
        forms = {form for form, own in field.forms.items() if _is(own, value)}
        unsaid = [row for row in rows if not row & forms]
        if len(unsaid) >= MIN_ROWS:
            sure = _sure(rows, n_with, len(rows) / len(said)) - field.forms.keys() - found.keys()
            found.update(dict.fromkeys(_covering(unsaid, sure), value))
    return found


def _is(one: Value | None, other: Value) -> bool:
    return one is not None and key(one) == key(other)


def _sure(rows: Sequence[set[str]], n_with: Counter[str], share: float) -> set[str]:
    """Phrases of these rows that hardly any other row has, more often than by luck."""
    n_here = Counter(phrase for row in rows for phrase in row)
    return {
        phrase
        for phrase, n in n_here.items()
        if n >= MIN_ROWS
        and share**n <= CHANCE
        and n_with[phrase] - n <= CLEARER * (1 - share) * n_with[phrase]
    }


def _covering(rows: Sequence[set[str]], sure: set[str]) -> list[str]:
    """The phrase that most rows have, then that of most of the other rows, and so on.

    Of equals the one of fewest words, which a tagger finds soonest, and of these the longest.
    """
    chosen: list[str] = []
    left = [row & sure for row in rows]
    while len(chosen) < MAX_ALIASES:
        n = Counter(phrase for row in left for phrase in row)
        best = max(n, key=lambda p: (n[p], -p.count(" "), len(p), p), default=None)
        if best is None or n[best] < MIN_ROWS:
            break
        chosen.append(best)
        left = [row for row in left if best not in row]
    return chosen

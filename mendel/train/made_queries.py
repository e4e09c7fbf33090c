"""Queries made from documents, where nobody gives real ones: they test a search, and prove little.

passage -> its heading, or words of one of its sentences -> less, swapped and mistyped words
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mendel.data.readers import Examples
from mendel.parts.search.passages import Passage
from mendel.parts.search.words import words
from mendel.types import digest

MOST = 2_000  # queries
EACH = 2  # of a passage, at most
SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
MARKS = re.compile(r"[#*=`~^\-_|<>]+")
STARTS = (
    *("how do i", "how to", "how can i", "what is", "what does", "where is", "why does", "when is"),
    *("is there a way to", "can i", "what happens with", "show me"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Chance = np.random.Generator


def make_queries(passages: Sequence[Passage]) -> Examples:
    """A few queries for each passage, or for as many as MOST allows; the same every time."""
    said = [words(p.text) for p in passages]
    df = Counter(word for own in said for word in set(own))
    chance = np.random.default_rng(int(digest([*passages])[:8], 16))
    same: dict[str, list[int]] = {}
    for i, own in enumerate(said):
        same.setdefault(" ".join(own), []).append(i)
    found: dict[str, tuple[int, ...]] = {}
    twice: set[str] = set()
    for _ in range(EACH):
        for i in chance.permutation(len(passages)).tolist():
            query = _query(passages[i], df, chance)
            target = tuple(same[" ".join(said[i])])
            if query and found.setdefault(query, target) != target:
                twice.add(query)  # asks for several passages: no one of them is right
    kept = [(query, target) for query, target in found.items() if query not in twice][:MOST]
    texts, targets = tuple(query for query, _ in kept), tuple(target for _, target in kept)
    return Examples(
        texts,
        targets,
        "retrieve",
        (),
        "query",
        "passage",
        digest([texts, targets, [*passages]]),
        "generated",
        notes=("queries are made from the documents: give real ones by --queries to prove it",),
    )


def _query(passage: Passage, df: Counter[str], chance: Chance) -> str:
    heading, sentences = _heading(passage), _sentences(passage)
    if heading and chance.random() < 0.3:
        return _noisy(heading, chance, drop=0.15)
    if not sentences:
        return ""
    sentence = sentences[int(chance.integers(len(sentences)))]
    if chance.random() < 0.5:
        return _noisy(sentence, chance, drop=0.5)
    rare = sorted(dict.fromkeys(sentence), key=lambda word: df[word])[: int(chance.integers(2, 6))]
    start = STARTS[int(chance.integers(len(STARTS)))]
    return f"{start} {_noisy([w for w in dict.fromkeys(sentence) if w in rare], chance, drop=0.0)}"


def _heading(passage: Passage) -> list[str]:
    """Words of the first line, where it is one: marked, or followed by a line of marks."""
    lines = [line for line in passage.text.split("\n") if line.strip()]
    is_marked = lines[0].startswith("#") or (len(lines) > 1 and not words(lines[1]))
    found = words(MARKS.sub(" ", lines[0])) if is_marked else []
    return found if len(found) > 1 else []


def _sentences(passage: Passage) -> list[list[str]]:
    cut = (words(MARKS.sub(" ", s)) for s in SENTENCE.split(passage.text))
    return [own[:30] for own in cut if len(own) >= 4]


def _noisy(own: Sequence[str], chance: Chance, *, drop: float) -> str:
    """With fewer words, now and then two of them swapped, in every third query one mistyped."""
    kept = [word for word in own if chance.random() >= drop][:10]
    kept = kept if len(kept) > 1 else list(own[:3])
    if len(kept) > 2 and chance.random() < 0.3:
        i = int(chance.integers(len(kept) - 1))
        kept[i], kept[i + 1] = kept[i + 1], kept[i]
    if chance.random() < 0.35:
        i = int(chance.integers(len(kept)))
        kept[i] = _mistyped(kept[i], chance)
    return " ".join(kept)


def _mistyped(word: str, chance: Chance) -> str:
    """A letter too few, too many, another, or two of them swapped; words of three stay."""
    if len(word) < 4:
        return word
    i, letter = int(chance.integers(1, len(word) - 1)), LETTERS[int(chance.integers(26))]
    ways = (
        word[:i] + word[i + 1 :],
        word[:i] + letter + word[i:],
        word[:i] + letter + word[i + 1 :],
        word[:i] + word[i + 1] + word[i] + word[i + 2 :],
    )
    return ways[int(chance.integers(len(ways)))]

"""Where the answers are weak: the sealed rows by length, noise, language and the user's columns.

Made after the opening, for the report alone: nothing is fitted or chosen by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mendel.data.vault import Opening
from mendel.kinds import Kind

MIN_ROWS = 20  # of a slice; fewer say too little
WORD = re.compile(r"\w+")
PLAIN = re.compile(r"[\w\s.,;:!?'\"()/-]")
MANY_NEW = 0.25  # share of words

Column = Sequence[str]  # a slice's name for each row, "" = in none


def slices(kind: Kind, opening: Opening, trained_on: Sequence[str]) -> list[dict[str, Any]]:
    """The metric on each slice of 20 sealed rows or more, worst first.

    returns   by slice n score low high; of a column that has two such slices or more
    cost      0.1 ms a row, and 1 s to begin with languages
    """
    answers = opening.answers["this model"]
    rows = [i for i, target in enumerate(opening.targets) if target is not None]
    found = []
    for by, column in _columns(opening, trained_on).items():
        places: dict[str, list[int]] = {}
        for i in rows:
            places.setdefault(column[i], []).append(i)
        kept = {name: at for name, at in places.items() if name and len(at) >= MIN_ROWS}
        if len(kept) < 2:
            continue  # one slice is the whole
        for name, at in kept.items():
            score, low, high = kind.total_of(answers, opening.targets, at)
            numbers = {"n": len(at), "score": score, "low": low, "high": high}
            found.append({"by": by, "slice": name, **numbers})
    return sorted(found, key=lambda row: (row["score"], row["by"], row["slice"]))


def _columns(opening: Opening, trained_on: Sequence[str]) -> Mapping[str, Column]:
    texts = opening.texts
    return {
        "length": _lengths(texts),
        "words new to training": _new_words(texts, trained_on),
        "characters": ["plain" if _is_plain(text) else "with odd ones" for text in texts],
        "language": _languages(texts),
        **opening.besides,
    }


def _lengths(texts: Sequence[str]) -> Column:
    """Quarters by the number of words."""
    n_words = np.array([len(WORD.findall(text)) for text in texts])
    edges = np.quantile(n_words, [0.25, 0.5, 0.75]) if len(texts) else []
    quarter = np.searchsorted(edges, n_words)
    ends = {
        int(q): (n_words[quarter == q].min(), n_words[quarter == q].max())
        for q in np.unique(quarter)
    }
    return [f"{ends[q][0]} to {ends[q][1]} words" for q in quarter.tolist()]


def _new_words(texts: Sequence[str], trained_on: Sequence[str]) -> Column:
    """Typos, names and another topic all show here."""
    known = {word for text in trained_on for word in WORD.findall(text.lower())}
    shares = []
    for text in texts:
        words = WORD.findall(text.lower())
        shares.append(sum(word not in known for word in words) / max(len(words), 1))
    return [
        "none" if share == 0 else "up to a quarter" if share <= MANY_NEW else "more than a quarter"
        for share in shares
    ]


def _is_plain(text: str) -> bool:
    return not PLAIN.sub("", text)


def _languages(texts: Sequence[str]) -> Column:
    # imported here: its model takes a second
    from mendel.data.check.languages import language_of

    try:
        return [language_of(text) or "" for text in texts]
    except ModuleNotFoundError:  # py3langid comes with mendel[design]
        return [""] * len(texts)

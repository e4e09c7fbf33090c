"""Tokens to hashed features: the one featuriser that trains, tests and serves. numpy only.

token -> rows (the word, its affixes, character n-grams, shape, clusters) of a table that holds only
what training has seen; and flags: does it begin or go on a phrase of a gazetteer?
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .clues import Clues
from .clusters import NONE, Clusters, Names
from .spans import Token, tokenize
from .words import MAX_WORD, key_of, shapes

CACHE = 100_000  # words whose rows are remembered
MAX_PHRASE = 6  # words of a gazetteer's phrase; longer ones are left out

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Gazetteers = Mapping[str, Sequence[str]]


class Phrases(NamedTuple):
    """Gazetteers as they are kept: no phrase can be read from them, and each can be found.

    keys    (P,) uint32, crc32 of the phrases of all gazetteers
    owners  (P,) uint32, bit g set where gazetteer g has the phrase
    names   of the gazetteers; each makes two flags
    """

    keys: NDArray[np.uint32]
    owners: NDArray[np.uint32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, gazetteers: Gazetteers) -> Phrases:
        """raises   ValueError for more than 32 gazetteers"""
        return cls(*_phrase_table(gazetteers), tuple(gazetteers))


# kinds of a feature: the word itself, its letters, how it is written, which words it is like
OWN, FORM, SHAPE, CLUSTER = range(4)


@dataclass(frozen=True)
class Config:
    """What counts as a feature.

    char_min char_max   lengths of character n-grams inside a word, its ends marked by < >
    affix_max           longest prefix and suffix
    min_df              texts that a feature must occur in to get a row
    max_rows            the table's size; the most frequent features get the rows
    min_clue max_clues  the same for clues: places that one must occur at, and their table's size
    """

    char_min: int = 3
    char_max: int = 4
    affix_max: int = 4
    min_df: int = 2
    max_rows: int = 24_000
    min_clue: int = 1
    max_clues: int = 0


@dataclass(frozen=True)
class Ragged:
    """Many texts as training wants them: each distinct word once.

    tokens    per text, indices into the distinct words
    rows      (n,) rows of the distinct words, one after the other
    kinds     (n,) OWN, FORM, SHAPE or CLUSTER
    starts    (U+1,) where each word's rows begin
    flags     per text, (T, F) 1 where a gazetteer's phrase begins or goes on
    clues     per text, rows of its places' clues, one after the other
    n_clues   per text, (T,) how many each place has
    """

    tokens: list[Ints]
    rows: Ints
    kinds: Ints
    starts: Ints
    flags: list[Floats]
    clues: list[Ints]
    n_clues: list[Ints]


class Featurizer:
    """Rows for what training has seen; everything else is silently no feature.

    config      what counts as a feature
    clues       rows of what a linear model weighs
    keys        (R,) uint32, crc32 of feature i, which has row i + 1; row 0 is padding
    phrases     (P,) uint32, crc32 of the phrases of all gazetteers
    owners      (P,) uint32, bit g set where gazetteer g has the phrase
    gazetteers  their names; each makes two flags
    clusters    of words that any text had, labelled or not
    """

    def __init__(
        self,
        config: Config,
        keys: NDArray[np.uint32],
        phrases: NDArray[np.uint32],
        owners: NDArray[np.uint32],
        gazetteers: Sequence[str],
        clues: NDArray[np.uint32],
        clusters: Clusters = NONE,
    ) -> None:
        self.config, self.keys, self.clusters = config, keys, clusters
        self._clusters = Names(clusters)
        self.clues = Clues(clues, self._clusters)
        self.phrases, self.owners, self.gazetteers = phrases, owners, tuple(gazetteers)
        self.row = {key: i + 1 for i, key in enumerate(keys.tolist())}
        self.owner = dict(zip(phrases.tolist(), owners.tolist(), strict=True))
        self._cache: dict[str, tuple[list[int], list[int]]] = {}

    @property
    def n_rows(self) -> int:
        return len(self.keys) + 1

    @property
    def n_flags(self) -> int:
        return 2 * len(self.gazetteers)

    @classmethod
    def fit(
        cls,
        config: Config,
        texts: Sequence[str],
        gazetteers: Gazetteers | Phrases,
        clusters: Clusters = NONE,
    ) -> Featurizer:
        """Count features over the texts; rows go to the frequent ones.

        raises   ValueError for more than 32 gazetteers
        """
        words: Counter[str] = Counter()
        for text in texts:
            words.update({text[t.start : t.end] for t in tokenize(text)})
        df: Counter[int] = Counter()
        names = Names(clusters)
        for word, count in words.items():
            for key in {key for key, _ in _features(word, config, names)}:
                df[key] += count
        kept = [(key, n) for key, n in df.items() if n >= config.min_df]
        kept.sort(key=lambda item: (-item[1], item[0]))  # ties by key: a fit can be repeated
        keys = np.array([key for key, _ in kept[: config.max_rows]], np.uint32)
        none = np.zeros(0, np.uint32)
        known = gazetteers if isinstance(gazetteers, Phrases) else Phrases.of(gazetteers)
        made = cls(config, keys, *known, none, clusters)
        if config.max_clues:
            split = (made.split(text)[1] for text in texts)
            each = ((words, made._flags(words)) for words in split)
            made.clues = Clues.fit(each, config.min_clue, config.max_clues, names)
        return made

    def split(self, text: str) -> tuple[list[Token], list[str]]:
        tokens = tokenize(text)
        return tokens, [text[t.start : t.end] for t in tokens]

    def unseen(self, text: str) -> float:
        """The share of its words that have no row of their own; 0 where it has no word."""
        words = self.split(text)[1]
        return sum(not self._is_known(word) for word in words) / max(len(words), 1)

    def _is_known(self, word: str) -> bool:
        return OWN in self._rows(word)[1] if self.config.max_rows else self.clues.knows(word)

    def arrays(self, texts: Sequence[Sequence[str]]) -> dict[str, NDArray[Any]]:
        """What the ONNX graph takes, of texts that are split into words.

        tokens   (B, T) which distinct word stands where; 0 = none
        grams    (U, G) rows of the distinct words; 0 = none; word 0 is empty
        flags    (B, T, F) float32, of the gazetteers
        clues    (B, T, N) rows of each place's clues; 0 = none
        lengths  (B,) int32
        """
        distinct: dict[str, int] = {}
        longest = max([1, *map(len, texts)])
        tokens = np.zeros((len(texts), longest), np.int64)
        flags = np.zeros((len(texts), longest, self.n_flags), np.float32)
        for i, words in enumerate(texts):
            tokens[i, : len(words)] = [distinct.setdefault(w, len(distinct) + 1) for w in words]
            flags[i, : len(words)] = self._flags(words)
        rows = [self._rows(word)[0] for word in distinct]
        grams = np.zeros((len(rows) + 1, max([1, *map(len, rows)])), np.int64)
        for i, row in enumerate(rows):
            grams[i + 1, : len(row)] = row
        lengths = np.array([len(words) for words in texts], np.int32)
        arrays: dict[str, NDArray[Any]] = {
            "tokens": tokens,
            "grams": grams,
            "flags": flags,
            "lengths": lengths,
        }
        if self.config.max_clues:
            arrays["clues"] = self._padded_clues(texts, flags)
        return arrays

    def _padded_clues(self, texts: Sequence[Sequence[str]], flags: Floats) -> Ints:
        found = [self.clues.rows(words, flags[i]) for i, words in enumerate(texts)]
        most = max([1, *(len(rows) for text in found for rows in text)])
        out = np.zeros((*flags.shape[:2], most), np.int64)
        for i, text in enumerate(found):
            for j, rows in enumerate(text):
                out[i, j, : len(rows)] = rows
        return out

    def ragged(self, texts: Sequence[Sequence[str]]) -> Ragged:
        """The same features without padding, for training."""
        distinct: dict[str, int] = {}
        tokens, flags, clues, n_clues = [], [], [], []
        for words in texts:
            tokens.append(np.array([distinct.setdefault(w, len(distinct)) for w in words], int))
            flags.append(self._flags(words))
            found = self.clues.rows(words, flags[-1])
            clues.append(np.array([row for at in found for row in at], np.int64))
            n_clues.append(np.array([len(at) for at in found], np.int64))
        rows, kinds = zip(*(self._rows(word) for word in distinct), strict=True)
        return Ragged(
            tokens,
            np.array([row for found in rows for row in found], np.int64),
            np.array([kind for found in kinds for kind in found], np.int64),
            np.cumsum([0, *map(len, rows)]),
            flags,
            clues,
            n_clues,
        )

    def _rows(self, word: str) -> tuple[list[int], list[int]]:
        """Rows of a word's features, and their kinds."""
        cached = self._cache.get(word)
        if cached is None:
            every = _features(word, self.config, self._clusters)
            found = [(self.row[key], kind) for key, kind in every if key in self.row]
            cached = [row for row, _ in found], [kind for _, kind in found]
            if len(self._cache) < CACHE:
                self._cache[word] = cached
        return cached

    def _flags(self, words: Sequence[str]) -> Floats:
        """(T, F), up for the longest phrase that begins at each word."""
        flags = np.zeros((len(words), self.n_flags), np.float32)
        if not self.n_flags:
            return flags
        plain = [_plain(word).encode("utf-8", "surrogatepass") for word in words]
        free = [0] * len(self.gazetteers)  # the first word that no phrase holds yet
        for i in range(len(plain)):
            key, longest = 0, {}
            for n, word in enumerate(plain[i : i + MAX_PHRASE], 1):
                key = zlib.crc32(b" " + word if n > 1 else word, key)  # of the phrase so far
                for g in _bits(self.owner.get(key, 0)):
                    longest[g] = n
            for g, n in longest.items():
                if i >= free[g]:
                    flags[i, 2 * g] = 1
                    flags[i + 1 : i + n, 2 * g + 1] = 1
                    free[g] = i + n
        return flags

    def save(self, file: Path | BinaryIO) -> None:
        np.savez_compressed(
            file,
            config=np.array(list(vars(self.config).values()), np.int64),
            keys=self.keys,
            phrases=self.phrases,
            owners=self.owners,
            gazetteers=np.array(self.gazetteers, np.str_),
            clues=self.clues.keys,
            clustered=self.clusters.keys,
            clusters=self.clusters.ids,
        )

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Featurizer:
        with np.load(file, allow_pickle=False) as data:
            config = Config(*(int(value) for value in data["config"]))
            names = [str(name) for name in data["gazetteers"]]
            phrases, owners = data["phrases"], data["owners"]
            clusters = Clusters(data["clustered"], data["clusters"])
            return cls(config, data["keys"], phrases, owners, names, data["clues"], clusters)


def _phrase_table(gazetteers: Gazetteers) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    if len(gazetteers) > 32:
        raise ValueError(f"{len(gazetteers)} gazetteers. Wanted at most 32: join some.")
    owner: dict[int, int] = {}
    for g, phrases in enumerate(gazetteers.values()):
        for phrase in phrases:
            words = [_plain(phrase[t.start : t.end]) for t in tokenize(phrase)]
            if 0 < len(words) <= MAX_PHRASE:
                key = key_of(" ".join(words))
                owner[key] = owner.get(key, 0) | 1 << g
    keys = np.array(sorted(owner), np.uint32)
    return keys, np.array([owner[int(key)] for key in keys], np.uint32)


def _bits(mask: int) -> list[int]:
    return [g for g in range(mask.bit_length()) if mask >> g & 1]


def _plain(word: str) -> str:
    """As gazetteers are compared: lower case, without # or @ before and accents above."""
    word = unicodedata.normalize("NFKD", word).lower().lstrip("#@")
    return word if word.isascii() else "".join(c for c in word if not unicodedata.combining(c))


def _features(word: str, config: Config, clusters: Names) -> list[tuple[int, int]]:
    """Keys and kinds of a word's features, repeats included."""
    form = unicodedata.normalize("NFKC", word)
    lower = form.lower()
    short = lower[:MAX_WORD]
    found = [("w:" + lower, OWN), *((f"h:{s}", SHAPE) for s in shapes(form))]
    if any(c.isdigit() for c in lower):
        found.append(("d:" + re.sub(r"\d", "0", short), FORM))
    for n in range(1, min(config.affix_max, len(short)) + 1):
        found += [("p:" + short[:n], FORM), ("s:" + short[-n:], FORM)]
    marked = f"<{short}>"
    for n in range(config.char_min, config.char_max + 1):
        found += [(marked[i : i + n], FORM) for i in range(len(marked) - n + 1)]
    found += [(name, CLUSTER) for name in clusters.of(word)]
    return [(key_of(name), kind) for name, kind in found]

"""Text to hashed n-grams: the one featuriser that trains, tests and serves. numpy only.

text -> words -> subwords (the word, its character n-grams) and phrases (word n-grams)
     -> rows of a table that holds only what training has seen
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

TOKEN = re.compile(r"\w+|[^\w\s]")
MAX_TEXT = 20_000  # characters read of a text
MAX_WORD = 32  # characters of a word that make n-grams
N_MARKS = 6  # times that each mark of a pair is said
CACHE = 100_000  # words whose rows are remembered

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """What counts as a feature.

    char_min char_max   lengths of character n-grams inside a word, its ends marked by < >
    phrase_max          longest word n-gram; 1 = no phrases
    min_df              texts that a subword must occur in to get a row
    phrase_min_df       the same for phrases
    max_rows            the table's size; the most frequent features get the rows
    max_words           words of a text that keep their order (the rest only counts)
    pair                1: a text is two, with a tab between them
    """

    char_min: int = 2
    char_max: int = 5
    phrase_max: int = 3
    min_df: int = 1
    phrase_min_df: int = 2
    max_rows: int = 200_000
    max_words: int = 64
    pair: int = 0


@dataclass(frozen=True)
class Ragged:
    """Many texts as training wants them: each distinct word once.

    tokens    per text, indices into the distinct words
    rows      (n,) subword rows of the distinct words, one after the other
    starts    (U+1,) where each word's rows begin; a word's own row comes first
    known     (U,) does the word have a row of its own
    bags      per text, (rows, tf-idf weights of length 1)
    """

    tokens: list[Ints]
    rows: Ints
    starts: Ints
    known: NDArray[np.bool_]
    bags: list[tuple[Ints, Floats]]


def words(text: str) -> list[str]:
    """Lower-case words and single marks, after NFKC; an empty text has one empty word."""
    text = unicodedata.normalize("NFKC", text[:MAX_TEXT]).lower()
    return TOKEN.findall(text) or [""]


def pair_words(text: str) -> list[str]:
    """Of two texts: what both have, what one has alone, and how much they share, in tenths.

    source   alignment features as in Wan 2016; the marks keep n-grams of words apart
    """
    first, _, second = text.partition("\t")
    one, other = words(first), words(second)
    both = set(one) & set(other)
    marked = [*((w, "1") for w in one), *((w, "2") for w in other)]
    told = [("=" if word in both else side) + word for word, side in marked]
    grams = [
        {w[i : i + 3] for w in side for i in range(max(len(w) - 2, 1))} for side in (one, other)
    ]
    shares = len(both) / len({*one, *other}), len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    lengths = len(one) / (len(one) + len(other))
    # a mark for each tenth that is reached, several times: they must be heard among many n-grams
    marks = [
        f"~{name}{tenth}"
        for name, share in zip("wcl", (*shares, lengths), strict=True)
        for tenth in range(int(10 * share) + 1)
    ]
    return [*marks * N_MARKS, *told]


class Featurizer:
    """Rows for what training has seen; everything else is silently no feature.

    config      what counts as a feature
    keys        (R,) uint32, crc32 of feature i, which has row i + 1; row 0 is padding
    df          (R,) texts that the feature occurred in
    n_texts     texts in training
    n_subwords  the first so many features are subwords, the others phrases
    """

    def __init__(
        self, config: Config, keys: NDArray[np.uint32], df: Ints, n_texts: int, n_subwords: int
    ) -> None:
        self.config, self.keys, self.df = config, keys, df
        self.n_texts, self.n_subwords = n_texts, n_subwords
        self.row = {key: i + 1 for i, key in enumerate(keys.tolist())}
        idf = np.log((1 + n_texts) / (1 + df)) + 1
        self.idf: Floats = np.concatenate([[0.0], idf]).astype(np.float32)
        self._cache: dict[str, tuple[Ints, bool]] = {}

    @property
    def n_rows(self) -> int:
        return len(self.keys) + 1

    @classmethod
    def fit(cls, config: Config, texts: Iterable[str]) -> Featurizer:
        """Count features over the texts; rows go to the frequent ones."""
        words_df: Counter[str] = Counter()
        phrases_df: Counter[int] = Counter()
        n_texts = 0
        for text in texts:
            n_texts += 1
            tokens = split(config, text)
            words_df.update(set(tokens))
            phrases_df.update(set(_phrases(tokens, config.phrase_max)))
        # a gram's df is summed over words that hold it: an upper bound, and quick
        subwords_df: Counter[int] = Counter()
        for word, count in words_df.items():
            for key in set(_subwords(word, config)):
                subwords_df[key] += count
        subwords = _most_frequent(subwords_df, config.min_df, config.max_rows)
        room = config.max_rows - len(subwords)
        phrases = _most_frequent(phrases_df, config.phrase_min_df, room, without=subwords)
        counted = [*subwords.items(), *phrases.items()]
        keys = np.array([key for key, _ in counted], np.uint32)
        df = np.array([min(count, n_texts) for _, count in counted], np.int64)
        return cls(config, keys, df, n_texts, len(subwords))

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What the ONNX graph takes.

        tokens   (B, T) which distinct word stands where; 0 = none
        grams    (U, G) subword rows of the distinct words; 0 = none; word 0 is empty
        ids      (B, N) rows of the bag; 0 = none
        weights  (B, N) their tf-idf weights; each text's have length 1
        """
        found = [split(self.config, text) for text in texts]
        distinct: dict[str, int] = {}
        for text in found:
            for word in text[: self.config.max_words]:
                distinct.setdefault(word, len(distinct) + 1)
        tokens = [[distinct[w] for w in text[: self.config.max_words]] for text in found]
        grams = [self._rows(word)[0] for word in distinct]
        bags = [self.bag(text) for text in found]
        return {
            "tokens": _pad(tokens, np.int64),
            "grams": _pad([[], *grams], np.int64),
            "ids": _pad([ids for ids, _ in bags], np.int64),
            "weights": _pad([weights for _, weights in bags], np.float32),
        }

    def ragged(self, texts: Iterable[str]) -> Ragged:
        """The same features without padding, for training."""
        distinct: dict[str, int] = {}
        tokens, bags = [], []
        for text in texts:
            found = split(self.config, text)
            bags.append(self.bag(found))
            kept = found[: self.config.max_words]
            tokens.append(np.array([distinct.setdefault(w, len(distinct)) for w in kept]))
        rows = [self._rows(word) for word in distinct]
        return Ragged(
            tokens,
            np.concatenate([r for r, _ in rows]),
            np.cumsum([0, *(len(r) for r, _ in rows)]),
            np.array([known for _, known in rows]),
            bags,
        )

    def bag(self, tokens: Sequence[str]) -> tuple[Ints, Floats]:
        """All features of a text with their tf-idf weights, scaled to length 1."""
        parts = [self._rows(word)[0] for word in tokens]
        found = self.row
        phrases = [found[k] for k in _phrases(tokens, self.config.phrase_max) if k in found]
        parts.append(np.array(phrases, np.int64))
        ids, counts = np.unique(np.concatenate(parts), return_counts=True)
        weights = (1 + np.log(counts)) * self.idf[ids]
        norm = np.sqrt((weights * weights).sum())
        return ids, (weights / max(float(norm), 1e-6)).astype(np.float32)

    def unseen(self, text: str) -> float:
        """Share of the n-grams in a text's words that training has not seen, 0 to 1."""
        found = split(self.config, text)
        n_seen = sum(len(self._rows(word)[0]) for word in found)
        return 1 - n_seen / sum(_n_subwords(word, self.config) for word in found)

    def _rows(self, word: str) -> tuple[Ints, bool]:
        """Rows of a word and its n-grams, its own first; and whether it has one of its own."""
        cached = self._cache.get(word)
        if cached is None:
            rows = [self.row.get(key, 0) for key in _subwords(word, self.config)]
            # a subword without a row may share its crc32 with a phrase, which words know nothing of
            rows = [row if row <= self.n_subwords else 0 for row in rows]
            cached = np.array([row for row in rows if row], np.int64), rows[0] > 0
            if len(self._cache) < CACHE:
                self._cache[word] = cached
        return cached

    def save(self, file: Path | BinaryIO) -> None:
        config = np.array(list(vars(self.config).values()), np.int64)
        sizes = np.array([self.n_texts, self.n_subwords], np.int64)
        df = self.df.astype(np.uint32)
        np.savez_compressed(file, config=config, keys=self.keys, df=df, sizes=sizes)

    @classmethod
    def load(cls, file: Path) -> Featurizer:
        with np.load(file, allow_pickle=False) as data:
            config = Config(*(int(value) for value in data["config"]))
            n_texts, n_subwords = (int(value) for value in data["sizes"])
            return cls(config, data["keys"], data["df"].astype(np.int64), n_texts, n_subwords)


def split(config: Config, text: str) -> list[str]:
    """The words of a text, or of a pair."""
    return pair_words(text) if config.pair else words(text)


def _key(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass"))


def _subwords(word: str, config: Config) -> list[int]:
    """Keys of the word itself and of its character n-grams, repeats included."""
    marked = f"<{word[:MAX_WORD]}>"
    keys = [_key("w:" + word)]
    for n in range(config.char_min, config.char_max + 1):
        keys += [_key(marked[i : i + n]) for i in range(len(marked) - n + 1)]
    return keys


def _n_subwords(word: str, config: Config) -> int:
    length = min(len(word), MAX_WORD) + 2
    lengths = range(config.char_min, config.char_max + 1)
    return 1 + sum(max(length - n + 1, 0) for n in lengths)


def _phrases(tokens: Sequence[str], longest: int) -> list[int]:
    return [
        _key("p:" + " ".join(tokens[i : i + n]))
        for n in range(2, longest + 1)
        for i in range(len(tokens) - n + 1)
    ]


def _most_frequent(
    df: Counter[int], least: int, room: int, without: dict[int, int] | None = None
) -> dict[int, int]:
    """Feature -> df of those that get a row; ties go by key, so that a fit can be repeated."""
    taken = without or {}
    kept = [(key, n) for key, n in df.items() if n >= least and key not in taken]
    kept.sort(key=lambda item: (-item[1], item[0]))
    return dict(kept[: max(room, 0)])


def _pad(rows: Sequence[Sequence[Any] | NDArray[Any]], dtype: Any) -> NDArray[Any]:
    out = np.zeros((len(rows), max(1, *(len(row) for row in rows), 1)), dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out

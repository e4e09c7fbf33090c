"""Text to train a language model on: from a file or a folder to windows of numbers.

path --read_corpus--> Corpus --split--> Split --Tokens.of--> Tokens --batch--> x, y
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mendel.data.tokenizers import Tokenizer
from mendel.types import Digest, InputError, digest

Ids = NDArray[np.uint16] | NDArray[np.int32]
Form = Literal["file", "folder", "lines"]
By = Literal["document", "tail"]

PIECE = 1 << 20  # characters encoded at a time
N_PROBE = 8192  # bytes in which a NUL marks a file as binary, as git does


class CorpusError(InputError):
    """A text that cannot be read, or is too short for what it is to be used for."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Distinct texts in a stable order, and what was left out on the way."""

    documents: tuple[str, ...]
    form: Form
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return join(self.documents)

    @property
    def digest(self) -> Digest:
        return digest(self.documents)

    def split(self, holdout: float = 0.1, by: By | None = None) -> Split:
        """Hold a share of the text out, so that no document is on both sides.

        holdout  share of the characters, more than 0 and less than 1
        by       tail: the last characters of the whole text, nanoGPT's split of one file;
                 document: whole documents, chosen by their content, whatever their names.
                 None = tail for a file, and where documents are too few or too unequal to hold
                 out half the share; else document
        raises   CorpusError when a side would be empty
        """
        if not 0 < holdout < 1:
            raise CorpusError(
                f"holdout={holdout} is no share. Wanted more than 0 and less than 1. Say 0.1."
            )
        if by is None:
            by = "tail" if self.form == "file" else "document"
            held = sum(map(len, _by_document(self.documents, holdout)[1]))
            if by == "document" and held < holdout / 2 * sum(map(len, self.documents)):
                by = "tail"
        train, val = (_by_document if by == "document" else _by_tail)(self.documents, holdout)
        if not (train and val):
            raise CorpusError(
                f"the text cannot be split by {by}: a side would be empty. Got "
                f"{len(self.documents)} document(s), {len(self.text):,} characters. Wanted "
                "something on both sides. Give more text"
                + (", or split by tail." if by == "document" else ", or hold out another share.")
            )
        return Split(train, val, by, holdout)


@dataclass(frozen=True, eq=False)
class Split:
    """Who is learned from and who is asked."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    by: By
    holdout: float

    def record(self) -> dict[str, Any]:
        """What makes the split repeatable: both sides by content, and the rule."""
        sides = {"train": digest(self.train), "val": digest(self.val)}
        return {"by": self.by, "holdout": self.holdout, **sides}


@dataclass(frozen=True, eq=False)
class Tokens:
    """Both sides as ids, and windows of them."""

    train: Ids  # (n,)
    val: Ids  # (m,)
    vocab_size: int
    n_val_bytes: int = 0  # of the text as UTF-8: turns nats per token into bits per byte

    def __post_init__(self) -> None:
        top = max((int(side.max()) for side in (self.train, self.val) if side.size), default=0)
        if top >= self.vocab_size:
            raise CorpusError(
                f"the data has ids that the vocabulary does not hold. Got id {top:,} of a "
                f"vocabulary of {self.vocab_size:,}. Wanted {top + 1:,} or more. Use the tokenizer "
                f"that the data was encoded with, or set vocab_size={top + 1}."
            )

    @classmethod
    def of(cls, split: Split, tokenizer: Tokenizer) -> Tokens:
        """Encode both sides; a document begins with bos where the tokenizer has one."""
        train, val = _encode(split.train, tokenizer), _encode(split.val, tokenizer)
        return cls(train, val, tokenizer.vocab_size, len(join(split.val).encode("utf-8")))

    def check(self, context: int) -> None:
        """Raise CorpusError unless one window fits the training text, and val has a pair."""
        if context < 1 or self.train.size <= context:
            fits = int(self.train.size) - 1
            do = f"Set context={fits} or less, or give more text." if fits > 0 else "Give more."
            raise CorpusError(
                f"no window of context={context} fits the training text. Got {self.train.size:,} "
                f"tokens. Wanted a context of at least 1, and one token more than it. {do}"
            )
        self._check_val()

    def _check_val(self) -> None:
        if self.val.size < 2:
            raise CorpusError(
                f"the validation text is too short to predict anything. Got {self.val.size} "
                "token(s). Wanted 2 or more. Give more text, or hold a larger share out."
            )

    def batch(self, rng: np.random.Generator, n: int, context: int) -> tuple[Tensor, Tensor]:
        """Windows from anywhere in the training text.

        rng      of batch_rng(seed, step): the same seed and step give the same windows
        n        windows, B
        context  tokens in each, T
        returns  x, y  (B, T) int64; y is x one token later
        raises   CorpusError when no window fits
        """
        if self.train.size <= context:
            self.check(context)
        starts = rng.integers(0, self.train.size - context, size=(n, 1))
        rows = self.train[starts + np.arange(context + 1)].astype(np.int64)
        return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].copy())

    def windows(self, context: int, n: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation text from end to end: every token but the first is predicted once.

        yields  x, y  (B, T) int64, B at most n; what is left over comes last, as (1, t), t < T
        """
        self._check_val()
        ids = torch.from_numpy(self.val.astype(np.int64))
        n_whole = (len(ids) - 1) // context
        end = n_whole * context
        x, y = (ids[shift : shift + end].view(n_whole, context) for shift in (0, 1))
        for at in range(0, n_whole, n):
            yield x[at : at + n], y[at : at + n]
        if end < len(ids) - 1:
            yield ids[None, end:-1], ids[None, end + 1 :]


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step, without those of the steps before: resuming needs no replay.

    seed  0 to 2^64 - 1, as step
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, step], np.uint64)))


def join(documents: Sequence[str]) -> str:
    """One text; of several documents, each ends its line, so that two are never run together."""
    return "".join(_ended(documents))


def read_corpus(
    path: Path, *, glob: str = "*", lines: bool = False, skip: Path | None = None
) -> Corpus:
    """The distinct texts of a file or a folder.

    path     a file of UTF-8 text, or a folder, read with everything below it but names that begin
             with a dot; links to folders are not followed, so that none leads round in a circle
    glob     which files of a folder: *.py at any depth, docs/*.md in folders named docs
    lines    a document is a line, not a file
    skip     a folder to leave out, with all below it
    returns  documents in the order of the sorted paths, repeated and empty ones left out
    raises   CorpusError when there is nothing to read
    cost     the text is held whole, at 1 to 4 bytes a character
    """
    if not os.path.exists(path):  # unlike Path.exists, it never raises
        raise CorpusError(
            f"there is no {path}. Wanted a text file or a folder of them. Check the spelling; "
            f"{_beside(path)}"
        )
    reader = _Reader()
    texts = _folder(path, glob, reader, skip) if path.is_dir() else [reader.read(path)]
    if lines:
        texts = [line.rstrip("\r") for text in texts if text for line in text.split("\n")]
    distinct = tuple(dict.fromkeys(text for text in texts if text and not text.isspace()))
    if not distinct:
        raise CorpusError(_nothing(path, reader))
    n_repeats = sum(1 for text in texts if text and not text.isspace()) - len(distinct)
    what = "line(s)" if lines else "file(s)"
    reader.note(n_repeats, f"{what} repeated another and are kept once")
    form: Form = "lines" if lines else "folder" if path.is_dir() else "file"
    return Corpus(distinct, form, reader.notices())


class _Reader:
    """Reads texts, and counts what it could not."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, n: int, what: str) -> None:
        self._counts[what] += n

    def notices(self) -> tuple[str, ...]:
        return tuple(f"{n:,} {what}" for what, n in self._counts.items() if n)

    def read(self, path: Path) -> str | None:
        """The text, or None for a file that has none."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            self.note(1, f"file(s) could not be read: {error.strerror}")
            return None
        if b"\0" in raw[:N_PROBE]:
            self.note(1, "file(s) are binary, or text in UTF-16")
            return None
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.note(1, "file(s) are not all UTF-8; what is not became U+FFFD")
            return raw.decode("utf-8-sig", errors="replace")


def _folder(path: Path, glob: str, reader: _Reader, skip: Path | None) -> list[str | None]:
    out = None if skip is None else skip.resolve()
    files = [file for file in _files(path) if out is None or out not in file.resolve().parents]
    pattern = glob.removeprefix("**/") or "*"
    chosen = [file for file in files if PurePath(file.relative_to(path)).match(pattern)]
    if files and not chosen:
        suffixes = Counter(file.suffix or file.name for file in files).most_common(8)
        there = ", ".join(f"{suffix} ({n:,})" for suffix, n in suffixes)
        raise CorpusError(
            f"no file below {path} matches glob={glob!r}. Got {there}. Wanted a pattern such as "
            f"*.txt. Say --glob '*{suffixes[0][0]}'."
        )
    return [reader.read(file) for file in chosen]


def _files(folder: Path) -> Iterator[Path]:
    """Plain files below the folder, in the order of their sorted paths."""
    found = []
    for root, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return (file for file in sorted(found) if file.is_file())


def _ended(documents: Sequence[str]) -> list[str]:
    if len(documents) == 1:
        return list(documents)
    return [text if text.endswith("\n") else text + "\n" for text in documents]


def _nothing(path: Path, reader: _Reader) -> str:
    got = "; ".join(reader.notices()) or ("no text in it" if path.is_dir() else "an empty file")
    return f"{path} holds nothing to learn from. Got {got}. Wanted UTF-8 text. Give another path."


def _beside(path: Path) -> str:
    """What a person may have meant: the nearest folder that exists, and what is in it."""
    near = next(parent for parent in path.absolute().parents if os.path.isdir(parent))
    names = sorted(os.listdir(near))[:8] if os.access(near, os.R_OK) else []
    return f"{near} has {', '.join(names) or 'nothing'}."


def _by_tail(documents: Sequence[str], holdout: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    text = join(documents)
    cut = int(len(text) * (1 - holdout))
    train, val = text[:cut], text[cut:]
    return (train,) if train else (), (val,) if val else ()


def _by_document(
    documents: Sequence[str], holdout: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Documents in the order of their hash, as long as they fit the share; one fits always."""
    room = holdout * sum(map(len, documents))
    chosen: set[str] = set()
    for text in sorted(documents, key=_place):
        if len(text) <= room:
            chosen.add(text)
            room -= len(text)
    if not chosen and len(documents) > 1:
        chosen.add(min(documents, key=lambda text: (len(text), _place(text))))
    train = tuple(text for text in documents if text not in chosen)
    return train, tuple(text for text in documents if text in chosen)


def _place(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def _pieces(text: str) -> Iterator[str]:
    """A long text cut at spaces: a tokenizer takes 200 bytes of memory a character at a time."""
    at = 0
    while at < len(text):
        end = at + PIECE
        cut = max(text.rfind(" ", at, end), text.rfind("\n", at, end)) if end < len(text) else -1
        end = cut if cut > at else end
        yield text[at:end]
        at = end


def _encode(texts: Sequence[str], tokenizer: Tokenizer) -> Ids:
    """In pieces: a long text in one costs a tokenizer a lot of memory."""
    documents = (
        texts if tokenizer.bos is not None else [p for t in _ended(texts) for p in _pieces(t)]
    )
    ids = np.concatenate([tokenizer.encode(text) for text in documents])
    return ids.astype(np.uint16) if tokenizer.vocab_size <= 1 << 16 else ids

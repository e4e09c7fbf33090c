"""Text to numbers and back: bytes, characters, or pieces of words.

    "bytes" | "chars" | "bpe:4096", text --make_tokenizer--> Tokenizer --save--> tokenizer.json
    tokenizer.json | a Hugging Face directory | llama2.c's tok512.bin --load_tokenizer--> Tokenizer

Every kind is saved as a standard Hugging Face tokenizer.json, so that an exported directory has one
whatever the model was trained on. Bytes and characters need no library; pieces need `tokenizers`.
"""

from __future__ import annotations

import difflib
import importlib
import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.types import Digest, InputError, digest

Ids = NDArray[np.int32]

NAMES = ("bytes", "chars", "bpe:4096")
MIN_BPE, MAX_BPE = 257, 1_000_000
FILE = "tokenizer.json"
SPACE = "\u2581"  # what sentencepiece writes for a space
BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class TokenizerError(InputError):
    """A tokenizer that cannot be made or read, or a text that it cannot encode."""


class Tokenizer(Protocol):
    """What the lab needs of a tokenizer; bos begins a text, and encode puts it there."""

    bos: int | None

    @property
    def vocab_size(self) -> int: ...

    @property
    def digest(self) -> Digest: ...

    def encode(self, text: str) -> Ids: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def to_json(self) -> str: ...

    def save(self, path: Path) -> None: ...


def make_tokenizer(name: str, text: str) -> Tokenizer:
    """The tokenizer that a flag names, fitted to the text that is trained on.

    name     bytes, chars, or bpe:N with N pieces; a short text may hold fewer than N
    text     what chars takes its alphabet from, and bpe its merges; bytes does not look
    returns  the same tokenizer for the same text, on every machine
    raises   TokenizerError for another name or size
    cost     bpe: 0.7 s per MB of text; the others read it once
    """
    kind, colon, size = name.strip().lower().partition(":")
    if kind == "bytes" and not colon:
        return Bytes()
    if kind == "chars" and not colon:
        return Chars(text)
    if kind == "bpe" and size.isascii() and size.isdigit():
        return train_bpe(text, int(size))
    near = difflib.get_close_matches(name, ("bytes", "chars", "bpe", *NAMES), 1, 0)[0]
    near = "bpe:4096" if near == "bpe" else near
    raise TokenizerError(
        f"{name!r} is no tokenizer. Wanted bytes, chars, or bpe:N with N pieces. Say {near!r}."
    )


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json, a directory that has one, or llama2.c's tokenizer file.

    path     told apart by what is in the file, not by its name
    raises   TokenizerError when there is none, or the file is not whole
    """
    file = path / FILE if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"cannot read a tokenizer from {path}: {error.strerror}. Wanted a {FILE}, a directory "
            "that has one, or a tokenizer file of llama2.c."
        ) from None
    if not raw.lstrip().startswith(b"{"):
        return read_llama2c(file)
    try:
        return from_json(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, TokenizerError) else "it is not JSON"
        raise TokenizerError(f"{file}: {reason}") from None


def from_json(text: str) -> Tokenizer:
    """The tokenizer that to_json wrote, or anybody's tokenizer.json."""
    spec = json.loads(text)
    if spec == _byte_spec():
        return Bytes()
    model = spec.get("model") if isinstance(spec, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    letters = sorted(vocab) if isinstance(vocab, dict) else []
    if letters and max(map(len, letters)) == 1 and spec == _char_spec(letters):
        return Chars("".join(letters))
    return Pieces(text)


class _Saved:
    """What the kinds have in common: their identity is the file that they write."""

    def to_json(self) -> str:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write the tokenizer.json; a directory gets a file of that name."""
        file = path / FILE if path.is_dir() else path
        file.write_text(self.to_json(), encoding="utf-8")

    @cached_property
    def digest(self) -> Digest:
        return digest(json.loads(self.to_json()))


class Bytes(_Saved):
    """The 256 bytes of UTF-8: every text can be encoded, and nothing has to be learned."""

    bos: int | None = None
    vocab_size = 256

    def encode(self, text: str) -> Ids:
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are no UTF-8, as when cut in the middle of a character, become U+FFFD."""
        return bytes(_known(ids, 256).tolist()).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        return json.dumps(_byte_spec(), ensure_ascii=False)


class Chars(_Saved):
    """The characters of a text, sorted: short ids, and no other character can be written."""

    bos: int | None = None

    def __init__(self, text: str) -> None:
        if not text:
            raise TokenizerError(
                "chars takes its alphabet from the text, and the text is empty. Give a text."
            )
        _utf8(text)
        self.alphabet = "".join(sorted(set(text)))
        self._codes = _code_points(self.alphabet)

    @property
    def vocab_size(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> Ids:
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        unknown = self._codes[np.minimum(ids, len(self._codes) - 1)] != codes
        if unknown.any():
            raise self._unknown(text, np.flatnonzero(unknown))
        return ids.astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(map(self.alphabet.__getitem__, _known(ids, self.vocab_size).tolist()))

    def to_json(self) -> str:
        return json.dumps(_char_spec(self.alphabet), ensure_ascii=False)

    def _unknown(self, text: str, places: NDArray[np.intp]) -> TokenizerError:
        first: dict[str, int] = {}
        for place in places.tolist():
            first.setdefault(text[place], place)
        shown = [f"{char!r} at {place:,}" for char, place in list(first.items())[:5]]
        more = f" and {len(first) - 5} more" * (len(first) > 5)
        return TokenizerError(
            f"the text has characters that are not among the {self.vocab_size} of this tokenizer. "
            f"Got {', '.join(shown)}{more}. Leave them out, or train with bytes or bpe:4096, "
            "which encode every text."
        )


class Pieces(_Saved):
    """Any Hugging Face tokenizer; text never becomes a special token, whatever it spells."""

    def __init__(self, text: str) -> None:
        library = _library()
        try:
            self._inner = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises a bare Exception
            raise TokenizerError(f"it is no Hugging Face tokenizer: {error}.") from None
        self._inner.encode_special_tokens = True
        vocab: dict[str, int] = self._inner.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values(), default=-1) + 1
        begin = self._inner.encode("").ids
        self.bos: int | None = begin[0] if begin else None
        self._bytes = self._piece_bytes(vocab) if {SPACE, *BYTE_PIECES} <= vocab.keys() else None

    def encode(self, text: str) -> Ids:
        _utf8(text)
        # the fast form leaves out the offsets, which nobody asks for
        return np.array(self._inner.encode_batch_fast([text])[0].ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text without special tokens; of a sentencepiece vocabulary, as llama2.c prints it."""
        known = _known(ids, self.vocab_size).tolist()
        if self._bytes is None:
            text: str = self._inner.decode(known, skip_special_tokens=True)
            return text
        pieces, before = [], -1
        for token in known:
            piece = self._bytes[token]
            pieces.append(piece[before == self.bos and piece.startswith(b" ") :])
            before = token
        return b"".join(pieces).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        text: str = self._inner.to_str()
        return text

    def _piece_bytes(self, vocab: Mapping[str, int]) -> list[bytes]:
        """What each id writes: a byte token its byte, a special token nothing."""
        pieces = [b""] * self.vocab_size
        for piece, token in vocab.items():
            pieces[token] = piece.replace(SPACE, " ").encode()
        for byte, piece in enumerate(BYTE_PIECES):
            pieces[vocab[piece]] = bytes([byte])
        for token, added in self._inner.get_added_tokens_decoder().items():
            pieces[token] = b"" if added.special else pieces[token]
        return pieces


def train_bpe(text: str, n_pieces: int) -> Pieces:
    """Byte-level BPE: the 256 bytes, and the pairs that the text repeats most, joined.

    n_pieces  257 to a million; fewer come out where the text has no more pairs
    returns   a tokenizer whose round trip is exact for every text
    """
    if not MIN_BPE <= n_pieces <= MAX_BPE:
        raise TokenizerError(
            f"bpe:{n_pieces} has {'too few' if n_pieces < MIN_BPE else 'too many'} pieces. Got "
            f"{n_pieces:,}. Wanted {MIN_BPE} to {MAX_BPE:,}: the 256 bytes that spell every text, "
            "and at least one pair. Say bpe:512, or bytes for no pairs at all."
        )
    _utf8(text)
    library = _library()
    level = library.pre_tokenizers.ByteLevel
    inner = library.Tokenizer(library.models.BPE())
    inner.pre_tokenizer = level(add_prefix_space=False)
    inner.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=n_pieces, initial_alphabet=level.alphabet(), show_progress=False
    )
    inner.train_from_iterator([text], trainer)
    return Pieces(inner.to_str())


def read_llama2c(file: Path) -> Pieces:
    """llama2.c's tokenizer file as a Hugging Face one that encodes and decodes as llama2.c does.

    file     int32 length of the longest piece; then per id float32 score, int32 length, bytes
    returns  ids 0 unknown, 1 begin, 2 end, 3 to 258 bytes, then pieces
    raises   TokenizerError when the file is cut, or the ids are not laid out so
    source   karpathy/llama2.c, tokenizer.py and run.c

    The character U+2581 is the one exception: sentencepiece reads it as a space, and so do we.
    """
    scores, pieces = _llama2c_rows(file)
    pieces[:3] = ["<unk>", "<s>", "</s>"]
    names = [piece.replace(" ", SPACE) for piece in pieces]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if tuple(pieces[3:259]) != BYTE_PIECES or twice or SPACE not in names:
        wrong = f"{twice[0]!r} is there twice" if twice else "there is no such row of bytes"
        raise TokenizerError(
            f"{file.name} is not laid out as llama2.c's tokenizers are: {wrong}. Got {len(names)} "
            "pieces. Wanted unknown, begin, end, <0x00> to <0xFF>, then distinct pieces with a "
            "space among them. Give the file that belongs to the model."
        )
    return Pieces(json.dumps(_llama_spec(names, scores)))


def _llama2c_rows(file: Path) -> tuple[list[float], list[str]]:
    raw, at = file.read_bytes(), 4
    scores: list[float] = []
    pieces: list[str] = []
    longest = struct.unpack_from("<i", raw)[0] if len(raw) >= 4 else 0
    while at < len(raw) and 0 < longest < 10_000:
        score, n = struct.unpack_from("<fi", raw, at) if at + 8 <= len(raw) else (0.0, -1)
        end = at + 8 + n
        if not 0 <= n <= longest or end > len(raw):
            break
        scores.append(score)
        pieces.append(raw[at + 8 : end].decode("utf-8", errors="replace"))
        at = end
    if at != len(raw) or len(pieces) < 260:
        raise TokenizerError(
            f"{file.name} is no whole tokenizer file of llama2.c. Got {len(pieces)} pieces in "
            f"{at:,} of {len(raw):,} bytes, and then something else or the end. Wanted "
            f"{FILE}, or pieces with score, length and bytes. Fetch the file again."
        )
    return scores, pieces


def _llama_spec(names: list[str], scores: list[float]) -> dict[str, Any]:
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    steps = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": names[i], "special": True, **special} for i in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, begin, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": _merges(names, scores),
        },
    }


def _merges(names: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Every pair that makes a piece, the best score first; of equal scores the first piece."""
    known = set(names[259:])
    ranked = sorted(range(259, len(names)), key=lambda i: -scores[i])
    return [
        (names[i][:cut], names[i][cut:])
        for i in ranked
        for cut in range(1, len(names[i]))
        if names[i][:cut] in known and names[i][cut:] in known
    ]


def byte_letters() -> list[str]:
    """The visible character that GPT-2 writes for each byte, by which every reader knows it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def _byte_spec() -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return _flat_spec(byte_letters(), {**level, "use_regex": False}, {**level, "use_regex": False})


def _char_spec(alphabet: Iterable[str]) -> dict[str, Any]:
    return _flat_spec(alphabet, None, {"type": "Fuse"})


def _flat_spec(pieces: Iterable[str], splitter: Any, decoder: Any) -> dict[str, Any]:
    """A BPE without merges: one id for each letter."""
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": splitter,
        "post_processor": None,
        "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }


def _library() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise TokenizerError(
            "this tokenizer needs the package `tokenizers`, which is not installed. Say "
            "pip install tokenizers, or train with --tokenizer bytes or chars, which need none."
        ) from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text is no Unicode: half a character, U+{ord(text[error.start]):04X}, stands at "
            f"{error.start:,}. Wanted text that UTF-8 can write. Read the file with "
            "errors='replace'."
        ) from None


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def _known(ids: Iterable[int], vocab_size: int) -> Ids:
    known = np.fromiter((int(token) for token in ids), np.int64)
    if known.size and not 0 <= known.min() <= known.max() < vocab_size:
        wrong = known[(known < 0) | (known >= vocab_size)][0]
        raise TokenizerError(
            f"id {wrong} is not of this tokenizer. Wanted 0 to {vocab_size - 1}. Use the tokenizer "
            "that the model was trained with."
        )
    return known.astype(np.int32)

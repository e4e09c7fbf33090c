"""From tokens to text as they come: whole characters, and the bytes that each token writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mendel.data.tokenizers import BYTE_PIECES, SPACE, Tokenizer, byte_letters

UNFINISHED = "\ufffd"  # what a tokenizer writes for bytes that are no character yet
N_BEFORE = 8  # tokens of the prompt that can change what the first token after it writes


class Spelling:
    """The text of ids as they are pushed, in whole characters.

    prompt   ids before: what a token writes can depend on them, as a space at the start does
    """

    def __init__(self, codec: Tokenizer, prompt: Sequence[int]) -> None:
        self._codec = codec
        self._before, self._pending = list(prompt[-N_BEFORE:]), list[int]()
        self._n_before = len(codec.decode(self._before))

    def push(self, id: int) -> str:
        """What is certain now."""
        self._pending.append(id)
        return self._take(self._n_whole())

    def end(self) -> str:
        """What was held back: bytes that never became a character."""
        return self._take(len(self._pending))

    def _take(self, n: int) -> str:
        text = self._text(n)
        if text:
            self._before, self._pending = self._pending[:n], self._pending[n:]
            self._n_before = len(self._codec.decode(self._before))
        return text

    def _n_whole(self) -> int:
        """How many tokens certainly end with a whole character.

        An unfinished one is at most three bytes, so at most the last three tokens.
        """
        n = len(self._pending)
        for cut in range(n, max(-1, n - 4), -1):
            if not self._text(cut).endswith(UNFINISHED):
                return cut
        return max(0, n - 3)

    def _text(self, n: int) -> str:
        if not n:
            return ""
        return self._codec.decode(self._before + self._pending[:n])[self._n_before :]


def token_bytes(codec: Tokenizer) -> list[bytes]:
    """What each id writes, as far as that does not depend on its place; special ones nothing."""
    spec = json.loads(codec.to_json())
    special = {t["id"] for t in spec.get("added_tokens") or [] if t.get("special")}
    added = {t["id"]: str(t["content"]) for t in spec.get("added_tokens") or []}
    names = _names(spec["model"]["vocab"]) | added
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    is_level = "ByteLevel" in json.dumps([spec.get("decoder"), spec.get("pre_tokenizer")])
    is_fallback = set(BYTE_PIECES) <= set(names.values())
    found = [b""] * codec.vocab_size
    for id, name in names.items():
        if id in special:
            continue
        if is_level and id not in added and all(letter in letters for letter in name):
            found[id] = bytes(letters[letter] for letter in name)
        elif is_fallback and name in BYTE_PIECES:
            found[id] = bytes([BYTE_PIECES.index(name)])
        else:
            found[id] = (name.replace(SPACE, " ") if is_fallback else name).encode()
    return found


def _names(vocab: dict[str, int] | list[list[object]]) -> dict[int, str]:
    if isinstance(vocab, list):  # of a unigram model: pieces and scores
        return {id: str(row[0]) for id, row in enumerate(vocab)}
    return {id: name for name, id in vocab.items()}

"""Output of a given form: which tokens may come next, by llguidance.

The JSON is written without spare white space, so that a small model cannot fill its answer with it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from typing import Any

import numpy as np
from anyio import CapacityLimiter
from numpy.typing import NDArray

from mendel.data.spelling import token_bytes
from mendel.data.tokenizers import Tokenizer
from mendel.types import InputError

N_KEPT = 64  # schemas that need not be compiled again
LONGEST = 100_000  # characters of a schema
COMPILED_AT_ONCE = 2  # the pool's other threads are for those whose schema is known, and chats


class Grammars:
    """Grammars for one model; made in any thread.

    vocab  of the model, which may have more ids than the tokenizer
    stop   ids that end a text: allowed where the output may end
    """

    def __init__(self, codec: Tokenizer, vocab: int, stop: Collection[int]) -> None:
        self._codec, self._vocab, self._stop = codec, vocab, frozenset(stop)
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._words: Any = None
        self._lock, self._words_lock = Lock(), Lock()
        self.at_once = CapacityLimiter(COMPILED_AT_ONCE)

    def of_schema(self, schema: dict[str, Any], tenant: str = "") -> Tokens:
        """A fresh grammar; raises InputError for a schema that cannot be followed.

        tenant   whose: how long it takes says nothing of what others asked
        """
        text = json.dumps(schema)  # the order of its properties is that of the answer
        if len(text) > LONGEST:
            raise InputError(
                f"the JSON schema has {len(text):,} characters. Wanted at most {LONGEST:,}."
            )
        key = (tenant, text)
        with self._lock:
            is_kept = key in self._kept
        made = None if is_kept else self._compiled(text)  # others need not wait for a slow one
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made or self._compiled(text)
                while len(self._kept) > N_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            matcher = self._kept[key].deep_copy()
        return Tokens(matcher, self._vocab, self._codec.vocab_size, self._stop)

    def _compiled(self, schema: str) -> Any:
        from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

        with self._words_lock:
            if self._words is None:
                words = _Words(self._codec)
                self._words = LLTokenizer(TokenizerWrapper(words), n_vocab=len(words.tokens))
        try:
            grammar = LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_flexible": False}
            )
            matcher = LLMatcher(self._words, grammar, log_level=0)
            why = matcher.get_error()
        except ValueError as error:
            why = str(error)
        if why:
            first = why.strip().splitlines()[0]
            raise InputError(
                f"the JSON schema cannot be followed: {first}. Wanted a schema with the keywords "
                "that llguidance knows. Take the keyword out, or ask for json_object."
            )
        return matcher


class Tokens:
    """A serve.protocols.Grammar over llguidance's matcher."""

    def __init__(self, matcher: Any, vocab: int, n_known: int, stop: frozenset[int]) -> None:
        self._matcher, self._vocab, self._n_known, self._stop = matcher, vocab, n_known, stop
        self._mask: NDArray[np.bool_] | None = None  # for as long as nothing came
        self._ended = False

    def allowed(self) -> NDArray[np.bool_]:
        if self._mask is None:
            self._mask = self._computed()
        return self._mask

    def accept(self, id: int) -> None:
        if id in self._stop and self._matcher.is_accepting():
            self._ended = True
        elif not self._matcher.consume_token(id):
            raise InputError(f"token {id} does not fit the JSON schema: {self._why()}")
        self._mask = None

    @property
    def is_done(self) -> bool:
        if self._ended or self._matcher.is_stopped():
            return True
        return self._matcher.is_accepting() and not self._more().any()

    def _computed(self) -> NDArray[np.bool_]:
        mask = np.zeros(self._vocab, np.bool_)
        if self._ended or self._matcher.is_stopped():
            return mask
        more = self._more()
        mask[: len(more)] = more
        if self._matcher.is_accepting():
            mask[list(self._stop)] = True
        return mask

    def _more(self) -> NDArray[np.bool_]:
        """(n_known,) what may come but for the end."""
        n_words = (self._n_known + 1 + 31) // 32
        bits = np.zeros(n_words, np.int32)
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if why := self._why():
            raise InputError(f"the JSON schema became too hard to follow: {why}")
        more = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(np.bool_)
        return more[: self._n_known]

    def _why(self) -> str:
        return str(self._matcher.get_error()).strip() if self._matcher.is_error() else ""


class _Words:
    """What llguidance wants of a tokenizer; the end is an id of its own that no model has."""

    def __init__(self, codec: Tokenizer) -> None:
        words = token_bytes(codec)
        self.eos_token_id = len(words)
        self.bos_token_id = codec.bos
        self.special_token_ids = [i for i, w in enumerate(words) if not w] + [len(words)]
        self.tokens = [*words, b"<end>"]
        self._codec = codec
        self._ids = {word: i for i, word in reversed(list(enumerate(words))) if word}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: bytes | str) -> list[int]:
        """Forced text as the tokenizer spells it, or by the longest words where it adds to it."""
        raw = text.encode() if isinstance(text, str) else text
        try:
            ids = [int(i) for i in self._codec.encode(raw.decode())]
        except (InputError, UnicodeDecodeError):
            return self._greedy(raw)
        ids = ids[1:] if ids and ids[0] == self.bos_token_id else ids
        return ids if b"".join(self.tokens[i] for i in ids) == raw else self._greedy(raw)

    def _greedy(self, raw: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(raw):
            for size in range(min(self._longest, len(raw) - at), 0, -1):
                if (id := self._ids.get(raw[at : at + size])) is not None:
                    ids.append(id)
                    at += size
                    break
            else:
                break  # a byte that no token writes
        return ids

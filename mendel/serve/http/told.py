"""Texts as OpenAI's objects tell them: whole, or as chunks of a stream."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from mendel.serve.http.served import Language
from mendel.serve.http.writing import Piece
from mendel.serve.protocols import Token, Trace

LEAST = -9999.0  # a log-probability of nothing, as OpenAI writes it


class Told:
    """How one route tells its texts."""

    object: str  # OpenAI's name of the answer
    chunk: str  # of a part of it
    prefix: str  # of the id

    def __init__(
        self, id: str, model: str, language: Language, words: Words, with_ids: bool
    ) -> None:
        self.language, self.words, self.with_ids = language, words, with_ids
        self.head = {"id": f"{self.prefix}{id}", "created": int(time.time()), "model": model}
        self.fingerprint = f"fp_{language.program[:12]}"

    def part(self, piece: Piece, is_first: bool) -> dict[str, Any]:
        """A chunk of the stream."""
        choice = {"index": piece.index, "finish_reason": piece.reason}
        part = self._around(self.chunk, [choice | self._said(piece, is_first)])
        return part if piece.trace is None else part | {"mendel": self.plans([piece.trace])}

    def whole(self, texts: Sequence[Sequence[Piece]], usage: dict[str, Any]) -> dict[str, Any]:
        """All of it at once."""
        joined = [_joined(pieces) for pieces in texts]
        choices = [
            {"index": piece.index, "finish_reason": piece.reason} | self._all(piece)
            for piece in joined
        ]
        traces = [piece.trace for piece in joined if piece.trace is not None]
        body = self._around(self.object, choices) | {"usage": usage}
        return body | {"mendel": self.plans(traces)}

    def end(self, usage: dict[str, Any] | None, traces: Iterable[Trace]) -> dict[str, Any]:
        """The last chunk of a stream, where usage was asked for."""
        return self._around(self.chunk, []) | {"usage": usage, "mendel": self.plans(traces)}

    def plans(self, traces: Iterable[Trace]) -> dict[str, Any]:
        """Which plan wrote each text, and the digest of model and plan together."""
        names = [trace.plan for trace in traces]
        known = {n: self.language.plan_digest(n) for n in set(names) if n in self.language.plans}
        return {"mode": self.language.mode, "plans": names, "digests": known}

    def _around(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        about = {"object": kind, "system_fingerprint": self.fingerprint}
        return {**self.head, **about, "choices": choices}

    def _ids(self, piece: Piece) -> dict[str, Any]:
        return {"token_ids": piece.ids} if self.with_ids else {}

    @abstractmethod
    def _said(self, piece: Piece, is_first: bool) -> dict[str, Any]: ...

    @abstractmethod
    def _all(self, piece: Piece) -> dict[str, Any]: ...


class Text(Told):
    """/v1/completions"""

    object = chunk = "text_completion"
    prefix = "cmpl-"

    def _said(self, piece: Piece, is_first: bool) -> dict[str, Any]:
        return self._all(piece)

    def _all(self, piece: Piece) -> dict[str, Any]:
        logprobs = self._logprobs(piece.tokens) if piece.tokens else None
        return {"text": piece.text, "logprobs": logprobs, **self._ids(piece)}

    def _logprobs(self, tokens: Sequence[tuple[int, Token]]) -> dict[str, Any]:
        return {
            "tokens": [self.words.text(token.id) for _, token in tokens],
            "token_logprobs": [_finite(token.logprob) for _, token in tokens],
            "top_logprobs": [
                {self.words.text(id): _finite(p) for id, p in reversed(token.top)}
                for _, token in tokens
            ],
            "text_offset": [at for at, _ in tokens],
        }


class Message(Told):
    """/v1/chat/completions"""

    object, chunk = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl-"

    def _said(self, piece: Piece, is_first: bool) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant"} if is_first else {}
        if piece.text or is_first:
            delta["content"] = piece.text
        return {"delta": delta, "logprobs": self._logprobs(piece.tokens), **self._ids(piece)}

    def _all(self, piece: Piece) -> dict[str, Any]:
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return {"message": message, "logprobs": self._logprobs(piece.tokens), **self._ids(piece)}

    def _logprobs(self, tokens: Sequence[tuple[int, Token]]) -> dict[str, Any] | None:
        if not tokens:
            return None
        rows = [
            self._row(token.id, token.logprob)
            | {"top_logprobs": [self._row(id, p) for id, p in token.top]}
            for _, token in tokens
        ]
        return {"content": rows, "refusal": None}

    def _row(self, id: int, logprob: float | None) -> dict[str, Any]:
        word = self.words.raw(id)
        return {
            "token": self.words.text(id),
            "logprob": _finite(logprob),
            "bytes": None if word is None else list(word),
        }


class Words:
    """What single tokens write, for log-probabilities."""

    def __init__(self, known: Sequence[bytes] | None) -> None:
        self._known = known

    def raw(self, id: int) -> bytes | None:
        known = self._known
        return known[id] if known is not None and id < len(known) else None

    def text(self, id: int) -> str:
        """Unlike any other token's, where it is no whole character: as OpenAI's bytes:\\x.."""
        raw = self.raw(id)
        if not raw:
            return f"token:{id}"
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def usage(n_prompts: Iterable[int], n_written: int, traces: Iterable[Trace]) -> dict[str, Any]:
    """OpenAI's counts; a prompt counts once, however many texts it had."""
    n_prompt = sum(n_prompts)
    cached = sum(trace.features.n_cached for trace in traces)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_written,
        "total_tokens": n_prompt + n_written,
        "prompt_tokens_details": {"cached_tokens": min(cached, n_prompt)},
    }


def _joined(pieces: Sequence[Piece]) -> Piece:
    last = pieces[-1]
    return Piece(
        last.index,
        "".join(piece.text for piece in pieces),
        [id for piece in pieces for id in piece.ids],
        [token for piece in pieces for token in piece.tokens],
        last.reason,
        last.trace,
    )


def _finite(logprob: float | None) -> float:
    return LEAST if logprob is None or not math.isfinite(logprob) else round(logprob, 6)

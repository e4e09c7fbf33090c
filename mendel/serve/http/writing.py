"""From a request to texts: tokens in, pieces of text out, whatever the route.

Job --submit--> engine --Inbox--> Choice of each text --Piece--> completions.py, chat.py
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from mendel.data.spelling import Spelling
from mendel.data.tokenizers import Tokenizer
from mendel.serve.http.errors import Refused
from mendel.serve.http.metrics import Metrics
from mendel.serve.http.served import Writes
from mendel.serve.http.streams import Bridge, Inbox
from mendel.serve.protocols import End, Overloaded, Request, Token, Trace
from mendel.types import InputError


class Numbers:
    """In place of a tokenizer where there is none: a text is the ids of its tokens."""

    bos: int | None = None

    def encode(self, text: str) -> list[int]:
        try:
            return [int(word) for word in text.split()]
        except ValueError:
            raise InputError(
                "this model has no tokenizer, so its texts are ids. Wanted numbers such as "
                "'1 403 407', or a list of them."
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(f" {id}" for id in ids)


@dataclass(frozen=True)
class Job:
    """One text to be written, and how it is told."""

    request: Request
    codec: Tokenizer
    stops: tuple[str, ...] = ()


@dataclass
class Piece:
    """What came of one text: some of it, or with a reason its end."""

    index: int
    text: str = ""
    ids: list[int] = field(default_factory=list)
    tokens: list[tuple[int, Token]] = field(default_factory=list)  # with offsets in the text
    reason: str | None = None
    trace: Trace | None = None


class Choice:
    """One text as it comes; ends before the first stop string."""

    def __init__(self, index: int, job: Job) -> None:
        self.index = index
        self.n_tokens, self.is_done, self.is_stopped = 0, False, False
        self._spelling = Spelling(job.codec, job.request.prompt)
        self._stops, self._with_tokens = job.stops, job.request.n_logprobs is not None
        self._held, self._n_told, self._n_text = "", 0, 0
        self._tokens: list[tuple[int, Token]] = []
        self._ids: list[int] = []

    def push(self, token: Token) -> None:
        if self.is_stopped:
            return
        self.n_tokens += 1
        self._ids.append(token.id)
        if self._with_tokens:
            self._tokens.append((self._n_text, token))
        self._add(self._spelling.push(token.id))

    def end(self) -> None:
        if not self.is_stopped:
            self._add(self._spelling.end())
        self.is_done = True

    def take(self) -> Piece:
        """What can be told now."""
        keep = 0 if self.is_done or self.is_stopped else self._n_perhaps()
        n = len(self._held) - keep
        piece = Piece(self.index, self._held[:n], self._ids)
        self._held, self._ids = self._held[n:], []
        self._n_told += n
        is_all = self.is_done or self.is_stopped
        piece.tokens = [t for t in self._tokens if is_all or t[0] < self._n_told or not t[0]]
        self._tokens = self._tokens[len(piece.tokens) :]
        return piece

    def _add(self, text: str) -> None:
        before = max(0, len(self._held) - max(map(len, self._stops), default=1))
        self._held += text
        self._n_text += len(text)
        found = [at for s in self._stops if (at := self._held.find(s, before)) >= 0]
        if found:
            self._cut(min(found))

    def _cut(self, at: int) -> None:
        self.is_stopped = True
        self._held = self._held[:at]
        end = self._n_told + at
        self._tokens = [t for t in self._tokens if t[0] < end]

    def _n_perhaps(self) -> int:
        """Characters at the end that may begin a stop string."""
        most = max(map(len, self._stops), default=1) - 1
        for n in range(min(most, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-n:]) for s in self._stops):
                return n
        return 0


class Writing:
    """All texts of one HTTP request; cancels what runs when it is left."""

    def __init__(
        self, engine: Writes, bridge: Bridge, jobs: Sequence[Job], metrics: Metrics
    ) -> None:
        self._engine, self._jobs, self._metrics = engine, jobs, metrics
        self._bridge = bridge
        self.choices = [Choice(i, job) for i, job in enumerate(jobs)]
        self.traces: dict[int, Trace] = {}
        self._running: set[int] = set()
        self.inbox = Inbox(None, self.leave)

    def start(self, n_waiting: int | None) -> None:
        """Submit all or none; raises Refused."""
        self.inbox = Inbox(n_waiting, self.leave)
        try:
            for i, job in enumerate(self._jobs):
                self._engine.submit(job.request, self._bridge.listener(self.inbox, i))
                self._running.add(i)
        except Overloaded as error:
            self.leave()
            self._metrics.overloaded.inc()
            wait = str(max(1, math.ceil(error.retry_after_s)))
            raise Refused(
                429, str(error), code="overloaded", headers={"retry-after": wait}
            ) from None
        except InputError as error:
            self.leave()
            raise Refused(400, str(error)) from None

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """What came, each text's together; raises Refused where one failed."""
        while self._running:
            touched: dict[int, Piece | None] = {}
            for index, what in await self.inbox.take():
                if isinstance(what, Token):
                    self.choices[index].push(what)
                    touched.setdefault(index, None)
                else:
                    touched[index] = self._ended(index, what)
            for index, ready in touched.items():
                choice = self.choices[index]
                if ready is None and choice.is_stopped and index in self._running:
                    self._engine.cancel(self._jobs[index].request.id)
                if ready is None:
                    touched[index] = choice.take()
            if self.inbox.is_overrun:
                raise Refused(408, "The stream was not read fast enough. Read it as it comes.")
            yield [piece for piece in touched.values() if piece is not None]

    def leave(self) -> None:
        """Nobody wants the rest."""
        for index in list(self._running):
            self._engine.cancel(self._jobs[index].request.id)
        if self._running:
            self.inbox.abandon(lambda end: self._metrics.ended(end.trace, end.reason))

    def _ended(self, index: int, end: End) -> Piece:
        self._running.discard(index)
        choice = self.choices[index]
        self.traces[index] = end.trace
        choice.end()
        reason = "stop" if choice.is_stopped else end.reason
        self._metrics.ended(end.trace, reason)
        if end.reason == "failed":
            raise Refused(500, f"This text could not be written: {end.error or 'no reason given'}")
        if reason == "cancelled":
            raise Refused(503, "The server ends before the text was done. Ask again.")
        return replace(choice.take(), reason=reason, trace=end.trace)

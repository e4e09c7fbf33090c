"""The two ways to answer: all at once, or as it comes; and what happens when the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mendel.serve.http.errors import JSON, Refused, dumps
from mendel.serve.http.told import Told, usage
from mendel.serve.http.writing import Piece, Writing

EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # proxies pass it on as it comes
]


async def at_once(
    http: HttpRequest, writing: Writing, told: Told, n_prompts: list[int]
) -> Response:
    """The whole answer; raises Refused where a text failed, or the caller left."""
    texts: list[list[Piece]] = [[] for _ in writing.choices]

    async def collect() -> None:
        async for pieces in writing.pieces():
            for piece in pieces:
                texts[piece.index].append(piece)

    work = asyncio.ensure_future(collect())
    gone = asyncio.ensure_future(_left(http.receive))
    try:
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refused(408, "The caller left.")  # nobody reads it; the log has the status
        await work
    finally:
        writing.leave()
        await _stopped(work, gone)
    n_written = sum(choice.n_tokens for choice in writing.choices)
    counts = usage(n_prompts, n_written, writing.traces.values())
    return JSON(told.whole(texts, counts))


class Stream(Response):
    """Server-sent events, as OpenAI's clients read them.

    send_s  a reader who takes longer for one piece is left
    """

    def __init__(
        self, writing: Writing, told: Told, n_prompts: list[int], *, with_usage: bool, send_s: float
    ) -> None:
        super().__init__()
        self.writing, self.told, self.n_prompts = writing, told, n_prompts
        self.with_usage, self.send_s = with_usage, send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            self.writing.leave()
            await _stopped(work, gone)

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": EVENTS}
        await self._send(send, start)
        try:
            async for event in self._events():
                await self._send(
                    send, {"type": "http.response.body", "body": event, "more_body": 1}
                )
        except Refused as refused:
            event = b"data: " + dumps(refused.body) + b"\n\n"
            await self._send(send, {"type": "http.response.body", "body": event, "more_body": 1})
        except TimeoutError:
            return  # the connection is cut: an end that looks whole would be a lie
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self.send_s):
            await send(message)

    async def _events(self) -> AsyncIterator[bytes]:
        begun: set[int] = set()
        async for pieces in self.writing.pieces():
            parts = []
            for piece in pieces:
                if piece.text or piece.ids or piece.reason:
                    parts.append(self.told.part(piece, piece.index not in begun))
                    begun.add(piece.index)
            if self.with_usage:
                parts = [part | {"usage": None} for part in parts]
            if parts:
                yield b"".join(b"data: " + dumps(part) + b"\n\n" for part in parts)
        if self.with_usage:
            traces = list(self.writing.traces.values())
            n_written = sum(choice.n_tokens for choice in self.writing.choices)
            last = self.told.end(usage(self.n_prompts, n_written, traces), traces)
            yield b"data: " + dumps(last) + b"\n\n"
        yield b"data: [DONE]\n\n"


async def _left(receive: Receive) -> None:
    """Returns when the caller has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stopped(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task

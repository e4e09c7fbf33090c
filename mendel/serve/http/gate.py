"""What stands before every route: names, keys, sizes, crowds; and what is written of a request.

A request that comes through has a Caller; one that raises, whatever it raises, gets OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mendel.serve.http.errors import Refused
from mendel.serve.http.keys import LOOPBACK, Keys

LOG = logging.getLogger("mendel.serve")
HEALTH = frozenset({"/healthz", "/readyz"})  # routes without a key
CALLER = "mendel.caller"  # in the scope
CLOSE = {"connection": "close"}
DISCARD_S, DISCARD_BYTES = 5.0, 64_000_000  # of a body whose answer is known already


@dataclass(frozen=True)
class Limits:
    max_body_bytes: int = 8_000_000
    max_connections: int = 1_024
    head_s: float = 30.0  # a connection that asks nothing for so long is cut
    crowded_s: float = 5.0  # so long, while there are too many
    body_s: float = 30.0  # for the next piece of a body to come
    send_s: float = 30.0  # for a reader to take the next piece of a stream
    n_waiting: int = 4_096  # events of a stream that its reader has not taken


@dataclass(frozen=True)
class Caller:
    """Who asks, and what the request is called."""

    id: str  # of the request, 32 hex digits
    tenant: str


class Gate:
    """ASGI middleware around the whole application.

    keys           None: everybody, but only under this machine's own names
    n_connections  how many there are now
    is_leaving     is the server on its way out?
    heard          (route, status, seconds) of each request, for the metrics
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        limits: Limits,
        n_connections: Callable[[], int],
        is_leaving: Callable[[], bool],
        heard: Callable[[str, int, float], None],
    ) -> None:
        self.app, self.keys, self.limits, self.heard = app, keys, limits, heard
        self.n_connections, self.is_leaving = n_connections, is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, id, answer = time.perf_counter(), secrets.token_hex(16), _Answer(send)
        body = _Body(receive, self.limits)
        answer.headers.append((b"x-request-id", id.encode()))
        try:
            scope[CALLER] = Caller(id, self._tenant(scope))
            await self.app(scope, body, answer)
        except Refused as refused:
            await body.discard()
            await answer.refuse(refused, scope, receive)
        except asyncio.CancelledError:
            if not answer.status:  # the server ends before the answer was ready
                leaving = Refused(503, "The server ends. Ask again when it is back.", headers=CLOSE)
                await answer.refuse(leaving, scope, receive)
            raise
        except Exception:
            LOG.exception("request %s failed", id)
            fault = "The server failed; its log says why under this id. Please report it."
            await answer.refuse(Refused(500, f"{fault} x-request-id: {id}"), scope, receive)
        finally:
            took = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")  # never what a stranger spelled
            self.heard(route, answer.status, took)
            LOG.info("%s %s %d %.1f ms %s", scope["method"], route, answer.status, took * 1e3, id)

    def _tenant(self, scope: Scope) -> str:
        """Whose request it is; raises Refused where it may not come in."""
        headers = dict(scope["headers"])
        is_health = scope["path"] in HEALTH
        if self.keys is None:
            self._check_host(headers.get(b"host", b"").decode("latin-1"))
            self._check_origin(headers.get(b"origin", b"").decode("latin-1"))
        tenant = "" if self.keys is None else self.keys.tenant(headers.get(b"authorization", b""))
        if tenant is None and not is_health:
            raise Refused(
                401,
                "No valid key came with the request. Wanted the header `Authorization: Bearer "
                "KEY` with a key of the server's --api-key-file.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        if is_health:
            return tenant or ""
        if self.n_connections() > self.limits.max_connections:
            raise Refused(
                503,
                f"Over {self.limits.max_connections:,} connections are open. Wait a little, and "
                "use one connection for many requests.",
                headers={"retry-after": "1", **CLOSE},
            )
        if self.is_leaving():
            leaving = {"retry-after": "5", **CLOSE}
            raise Refused(503, "The server ends. Ask again when it is back.", headers=leaving)
        self._check_length(headers.get(b"content-length", b""))
        return tenant or ""

    def _check_host(self, host: str) -> None:
        """A web page that points its own name at this machine is turned away."""
        if _name(host) not in LOOPBACK:
            raise Refused(
                400,
                f"The Host header is {host[:80]!r}. Wanted localhost, 127.0.0.1 or [::1]. To "
                "serve under another name, say --host and --api-key-file.",
            )

    def _check_origin(self, origin: str) -> None:
        """A page of another site may send here without asking, though it reads no answer; only
        browsers say where a request comes from, and they always do of these."""
        if origin and _name(origin.partition("://")[2]) not in LOOPBACK:
            raise Refused(
                403,
                f"The request comes from a web page of {origin[:80]!r}. Wanted one of this "
                "machine. To let others in, say --api-key-file.",
            )

    def _check_length(self, length: bytes) -> None:
        if length.isdigit() and int(length[:20]) > self.limits.max_body_bytes:
            raise too_large(self.limits)


def _name(host: str) -> str:
    """Without its port."""
    end = host.rfind(":")
    return (host[:end] if end > host.rfind("]") else host).lower()


def caller(scope: MutableMapping[str, Any]) -> Caller:
    found: Caller = scope[CALLER]
    return found


def too_large(limits: Limits) -> Refused:
    return Refused(
        413,
        f"The body is larger than {limits.max_body_bytes:,} bytes. Send a shorter text, or "
        "several requests.",
        headers=CLOSE,
    )


class _Body:
    """Bodies that end: neither larger nor slower than the limits."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self.n_bytes, self.is_over = 0, False  # whole, or given up

    async def __call__(self) -> Message:
        if self.is_over:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.body_s)
        except TimeoutError:
            self.is_over = True
            raise Refused(
                408,
                f"No more of the body came for {self._limits.body_s:g} s. Send it at once.",
                headers=CLOSE,
            ) from None
        self._count(message)
        if self.n_bytes > self._limits.max_body_bytes:
            raise too_large(self._limits)
        return message

    async def discard(self) -> None:
        """Read the rest and forget it: closing before would cut the answer off as well."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while not self.is_over and self.n_bytes < DISCARD_BYTES:
                    self._count(await self._receive())

    def _count(self, message: Message) -> None:
        self.n_bytes += len(message.get("body", b""))
        self.is_over = not message.get("more_body", False)


class _Answer:
    """Remembers the status, and adds headers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = [(b"x-content-type-options", b"nosniff")]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self.headers]}
        await self._send(message)

    async def refuse(self, refused: Refused, scope: Scope, receive: Receive) -> None:
        """In place of the answer, if that has not begun."""
        if not self.status:
            await refused.response()(scope, receive, self)

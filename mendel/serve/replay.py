"""A server's clients: conversations over HTTP, as many at a time as asked, each answer timed.

conversations --replay--> Answers --rows--> the table of `mendel bench-serve`

Any server that speaks OpenAI's completions will do; only `check` needs one that can pin a plan.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mendel.serve.workloads import Conversation
from mendel.types import InputError

N_TRIES = 4  # of a request that the server has no room for
LONGEST_WAIT_S = 10.0  # between them, whatever Retry-After says


@dataclass(frozen=True)
class Server:
    """Where requests go."""

    url: str
    key: str | None = None
    model: str | None = None  # None: the server has one
    timeout_s: float = 600.0

    def connect(self) -> http.client.HTTPConnection:
        """raises InputError for what is no URL of HTTP"""
        parts = urlsplit(self.url)
        kinds: dict[str, type[http.client.HTTPConnection]] = {
            "http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection,
        }
        if parts.scheme not in kinds or not parts.hostname:
            raise InputError(f"{self.url!r} is no URL. Wanted http://127.0.0.1:8000.")
        return kinds[parts.scheme](parts.hostname, parts.port, timeout=self.timeout_s)

    def path(self, route: str) -> str:
        return urlsplit(self.url).path.rstrip("/") + route

    @property
    def headers(self) -> dict[str, str]:
        key = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return {"Content-Type": "application/json", **key}

    def get(self, route: str) -> tuple[int, Any]:
        """Status and JSON; raises InputError where nobody answers."""
        try:
            with closing(self.connect()) as link:
                link.request("GET", self.path(route), headers=self.headers)
                answer = link.getresponse()
                return answer.status, _parsed(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise InputError(f"{self.url} does not answer: {error}. Is the server up?") from None

    def named(self) -> Server:
        """With the name of the first model that it serves; raises InputError where it has none."""
        status, told = self.get("/v1/models")
        try:
            return replace(self, model=str(told["data"][0]["id"]))
        except (TypeError, KeyError, IndexError):
            raise InputError(f"{self.url}/v1/models answers {status}: {told}. "
                             "Wanted a list of models; is a key missing?") from None  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came of one request; times from when it was sent."""

    conversation: int
    turn: int
    asked: Conversation
    prompt: str
    text: str = ""
    n_tokens: int = 0
    first_s: float = 0.0
    total_s: float = 0.0
    n_refused: int = 0  # 429s before it
    error: str | None = None
    equal: bool | None = None  # to the plain model's, where that was checked

    @property
    def ms_per_token(self) -> float | None:
        """Of those after the first."""
        steps = self.n_tokens - 1
        return 1e3 * (self.total_s - self.first_s) / steps if steps > 0 else None


@dataclass
class _Reading:
    """One attempt, as far as it came."""

    text: str = ""
    n_tokens: int = 0
    first_s: float | None = None
    status: int = 0
    retry_after_s: float = 1.0
    error: str | None = None


class Client:
    """One connection that is kept; not for several threads."""

    def __init__(self, server: Server) -> None:
        self.server, self._link = server, server.connect()

    def ask(self, index: int, turn: int, asked: Conversation, prompt: str) -> Answer:
        """One request, tried again where the server had no room."""
        refused = 0
        while True:
            began = time.perf_counter()
            got = self._try(self._body(asked, prompt), began)
            spent = time.perf_counter() - began
            if got.status == 429 and refused + 1 < N_TRIES:
                refused += 1
                time.sleep(min(got.retry_after_s, LONGEST_WAIT_S))
                continue
            return Answer(
                index, turn, asked, prompt, got.text, got.n_tokens, got.first_s or spent, spent,
                refused + (got.status == 429), got.error,
            )  # fmt: skip

    def plainly(self, answer: Answer, plan: str) -> str | None:
        """The text of the same request under a pinned plan, at once; None where it failed."""
        body = {**self._body(answer.asked, answer.prompt), "plan": plan}
        got = self._try(body, time.perf_counter())
        return None if got.error else got.text

    def close(self) -> None:
        self._link.close()

    def _body(self, asked: Conversation, prompt: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": prompt, "max_tokens": asked.n_tokens, "temperature": asked.temperature,
            "top_p": asked.top_p, "seed": asked.seed, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        if asked.stop:
            body["stop"] = list(asked.stop)
        return body if self.server.model is None else {**body, "model": self.server.model}

    def _try(self, body: dict[str, Any], began: float) -> _Reading:
        got = _Reading()
        try:
            self._link.request(
                "POST", self.server.path("/v1/completions"), json.dumps(body), self.server.headers
            )
            with self._link.getresponse() as response:
                got.status = response.status
                if response.status == 200:
                    self._read(response, got, began)
                else:
                    told = response.read().decode("utf-8", "replace")
                    wait = response.getheader("Retry-After") or ""
                    got.retry_after_s = float(wait) if wait.replace(".", "", 1).isdigit() else 1.0
                    got.error = f"{response.status}: {told[:200]}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            got.error = f"{type(error).__name__}: {error}"
        if got.error:  # half an answer may still lie in the connection
            self._link.close()
            self._link = self.server.connect()
        return got

    def _read(self, response: http.client.HTTPResponse, got: _Reading, began: float) -> None:
        ended = False
        for event in events(response):
            if event == "[DONE]":
                ended = True
                continue
            told = json.loads(event)
            if "error" in told:
                got.error = str(told["error"])[:200]
                return
            for choice in told.get("choices") or ():
                got.text += choice.get("text") or ""
                if got.first_s is None:
                    got.first_s = time.perf_counter() - began
            if told.get("usage"):
                got.n_tokens = int(told["usage"]["completion_tokens"])
        if not ended:
            got.error = "the stream ended without [DONE]"


def events(lines: Any) -> Iterator[str]:
    """The data of server-sent events, from a response or any other lines of bytes."""
    for line in lines:
        if line.startswith(b"data:"):
            yield line[5:].strip().decode("utf-8")


def replay(
    conversations: Sequence[Conversation],
    server: Server,
    *,
    n_at_once: int = 1,
    tell: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """All conversations, each as soon as its time has come and a client is free.

    n_at_once  clients; each has one conversation at a time, whose turns wait for one another
    tell       is called for each answer, from the clients' threads
    """
    began = time.perf_counter()
    waiting, lock = iter(enumerate(conversations)), threading.Lock()
    answers: list[Answer] = []

    def taken() -> Iterator[tuple[int, Conversation]]:
        while True:
            with lock:
                found = next(waiting, None)
            if found is None:
                return
            yield found

    def work() -> None:
        with closing(Client(server)) as client:
            for index, asked in taken():
                time.sleep(max(0.0, (asked.at_s or 0.0) - (time.perf_counter() - began)))
                for answer in _turns(client, index, asked):
                    answers.append(answer)
                    tell(answer)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers, key=lambda answer: (answer.conversation, answer.turn))


def _turns(client: Client, index: int, asked: Conversation) -> Iterator[Answer]:
    """A conversation ends early where an answer failed: what follows would be another one."""
    prompt = asked.opening
    for turn in range(asked.n_requests):
        answer = client.ask(index, turn, asked, prompt)
        yield answer
        if answer.error is not None or turn == len(asked.then):
            return
        prompt += answer.text + asked.reply(turn, answer.text)


def check(answers: Sequence[Answer], server: Server, plan: str) -> list[Answer]:
    """Ask each again, one at a time and under the plan of the plain model: equal texts?"""
    with closing(Client(server)) as client:
        return [
            answer
            if answer.error is not None
            else replace(answer, equal=client.plainly(answer, plan) == answer.text)
            for answer in answers
        ]


def rows(answers: Sequence[Answer], wall_s: float) -> dict[str, dict[str, Any]]:
    """What the table has a line of: each workload, then all; milliseconds of those that came."""
    by = sorted(answers, key=lambda answer: answer.asked.workload)
    found = {
        name: row(list(group), wall_s)
        for name, group in itertools.groupby(by, key=lambda answer: answer.asked.workload)
    }
    return found if len(found) == 1 else {**found, "all": row(answers, wall_s)}


def row(answers: Sequence[Answer], wall_s: float) -> dict[str, Any]:
    """Medians and 95th percentiles; None where there is nothing to take them of."""
    good = [answer for answer in answers if answer.error is None]
    each = [ms for answer in good if (ms := answer.ms_per_token) is not None]
    checked = [answer.equal for answer in good if answer.equal is not None]
    first = [1e3 * answer.first_s for answer in good]
    return {
        "requests": len(answers),
        "ttft_p50_ms": _percentile(first, 50),
        "ttft_p95_ms": _percentile(first, 95),
        "ms_per_token_p50": _percentile(each, 50),
        "ms_per_token_p95": _percentile(each, 95),
        "tokens": sum(answer.n_tokens for answer in good),
        "tokens_per_s": sum(answer.n_tokens for answer in good) / max(wall_s, 1e-9),
        "errors": len(answers) - len(good),
        "refused": sum(answer.n_refused for answer in answers),
        "equal": sum(checked) if checked else None,
        "checked": len(checked),
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")[:200]

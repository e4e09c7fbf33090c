"""Crowds, slow and vanished callers, an end in good order: each answered, none left running."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from mendel.data.tokenizers import Bytes
from mendel.generate import generate
from mendel.serve.http.app import create_app
from mendel.serve.http.gate import Limits
from mendel.serve.http.served import Served
from mendel.serve.http.server import Running, start

from . import serve_toy as toy

LONG: dict[str, Any] = {"prompt": "abc", "max_tokens": 240, "temperature": 0}
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for what must come; a minute is for ever."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, f"not within a minute: {what}"
        time.sleep(0.01)


def stats(what: Served) -> Any:
    assert what.language is not None
    return what.language.engine.stats()


def is_empty(what: Served) -> bool:
    return bool(stats(what).n_running + stats(what).n_queued == 0)


def slow(folder: Path, pause_s: float = 0.05, **known: Any) -> Served:
    """One text at a time, of 240 tokens in twelve seconds or more."""
    model = toy.tiny()
    engine = toy.engine_of(model, pause_s=pause_s, max_running=1, max_queue=1)
    return toy.served(folder, model=model, engine=engine, **known)


def raw_stream(server: Running) -> socket.socket:
    """A connection that asked for a long stream, and has read nothing of it."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    body = json.dumps(LONG | {"stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sock.sendall(head.encode() + body)
    return sock


def test_a_full_queue_is_told_with_a_time(tmp_path: Path) -> None:
    what = slow(tmp_path)
    with toy.running(what) as server:
        held = [raw_stream(server)]
        until(lambda: stats(what).n_running == 1, "one running")
        held.append(raw_stream(server))
        until(lambda: stats(what).n_queued == 1, "another waiting")
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=60)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        many = httpx.post(f"{server.url}/v1/completions", json=LONG | {"n": 5}, timeout=60)
        assert many.status_code == 429
        for sock in held:
            sock.close()
        until(lambda: is_empty(what), "all cancelled")


def test_a_caller_who_leaves_a_stream_is_not_written_for(tmp_path: Path) -> None:
    what = slow(tmp_path)
    with toy.running(what) as server:
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True}, timeout=60
        ) as answer:
            next(answer.iter_lines())
        until(lambda: is_empty(what), "cancelled")
        assert stats(what).n_tokens < 240


def test_a_caller_who_does_not_wait_for_the_whole_answer_is_not_written_for(tmp_path: Path) -> None:
    what = slow(tmp_path)
    with toy.running(what) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=0.5)
        until(lambda: is_empty(what), "cancelled")
        assert stats(what).n_tokens < 240


def test_a_reader_who_takes_nothing_is_left(tmp_path: Path) -> None:
    """The kernel's buffers hold 240 small chunks, so the limit counts what waits before them."""
    what = toy.served(tmp_path, limits=Limits(n_waiting=1))
    assert what.language is not None
    with toy.running(what) as server:
        asked = LONG | {"stream": True, "n": 8}
        answer = httpx.post(f"{server.url}/v1/completions", json=asked, timeout=60)
        events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        assert "not read fast enough" in events[-1]
        until(lambda: is_empty(what), "cancelled")


def test_a_reader_who_takes_too_long_for_one_piece_is_left(tmp_path: Path) -> None:
    """Prompts with many log-probabilities fill every buffer between here and there."""
    what = toy.served(tmp_path, limits=Limits(send_s=0.5, n_waiting=1_000_000))
    with toy.running(what) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.connect(("127.0.0.1", server.port))
        asked = LONG | {"stream": True, "n": 64, "logprobs": 20, "prompt": ["ab", "cd"]}
        body = json.dumps(asked).encode()
        sock.sendall(HEAD % len(body) + body)
        until(lambda: stats(what).n_running > 0, "running")
        until(lambda: is_empty(what), "cancelled")
        assert stats(what).n_tokens < 128 * 240
        sock.close()


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    what = toy.served(tmp_path, limits=Limits(body_s=0.2))
    with toy.running(what) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(HEAD % 99 + b"{")
        sock.settimeout(60)
        assert b" 408 " in sock.recv(1_000)


def test_a_connection_that_asks_nothing_is_cut(tmp_path: Path) -> None:
    what = toy.served(tmp_path, limits=Limits(head_s=0.1))
    with toy.running(what) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"POST /v1/compl")
        until(lambda: what.n_connections() == 1, "connected")
        until(lambda: what.n_connections() == 0, "cut")


def test_a_crowd_that_says_nothing_is_cut_sooner(tmp_path: Path) -> None:
    what = toy.served(tmp_path, limits=Limits(max_connections=2, crowded_s=0.1))
    with toy.running(what) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for sock in idle:
            sock.settimeout(20)  # less than the patience with one that is alone
        cut = 0
        for sock in idle:
            try:
                cut += sock.recv(1) == b""
            except ConnectionResetError:
                cut += 1
            sock.close()
        assert cut == 5


def test_more_connections_than_allowed_are_told_so(tmp_path: Path) -> None:
    what = toy.served(tmp_path, limits=Limits(max_connections=3))
    with toy.running(what) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        until(lambda: what.n_connections() == 3, "three connections")
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG)
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert "connections" in answer.json()["error"]["message"]
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for sock in idle:
            sock.close()
        until(lambda: what.n_connections() == 0, "none left")
        assert httpx.post(f"{server.url}/v1/completions", json=LONG).status_code == 200


def test_many_streams_at_once_are_neither_lost_nor_mixed_up(tmp_path: Path) -> None:
    model = toy.tiny()
    with toy.running(toy.served(tmp_path, model=model)) as server:

        def told(i: int) -> str:
            body = {"prompt": f"text {i}", "max_tokens": 16, "seed": i, "stream": True}
            parts = []
            with httpx.stream(
                "POST", f"{server.url}/v1/completions", json=body, timeout=120
            ) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        parts.append(json.loads(line[6:])["choices"][0]["text"])
            return "".join(parts)

        with ThreadPoolExecutor(32) as pool:
            texts = list(pool.map(told, range(64)))
    for i in range(0, 64, 7):
        ids = generate(model, list(f"text {i}".encode()), n_tokens=16, temperature=1.0, seed=i)
        assert texts[i] == Bytes().decode(ids)
    assert len(set(texts)) == 64


def test_a_server_that_ends_lets_texts_end_and_takes_no_more(tmp_path: Path) -> None:
    what = slow(tmp_path, pause_s=0.005)
    server = start(create_app(what), what, drain_s=60)
    with ThreadPoolExecutor(1) as pool:
        url = f"{server.url}/v1/completions"
        answer = pool.submit(httpx.post, url, json=LONG, timeout=60)
        until(lambda: stats(what).n_running == 1, "running")
        with httpx.Client(base_url=server.url) as kept:
            assert kept.get("/readyz").status_code == 200
            server.server.leave()
            threading.Thread(target=server.stop, daemon=True).start()
        whole = answer.result().json()
    assert whole["usage"]["completion_tokens"] == 240
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


def test_a_text_that_outlasts_the_drain_is_told_why_it_ends(tmp_path: Path) -> None:
    what = slow(tmp_path)
    server = start(create_app(what), what, drain_s=0.1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{server.url}/v1/completions", json=LONG, timeout=60)
        until(lambda: stats(what).n_running == 1, "running")
        server.stop()
        assert answer.result().status_code == 503
        assert "server ends" in answer.result().json()["error"]["message"]


def counted(server: Running) -> dict[str, float]:
    """Texts by how they ended."""
    said = httpx.get(f"{server.url}/metrics").text
    found = re.findall(r'mendel_texts_total\{reason="(\w+)"\} (\S+)', said)
    return {reason: float(n) for reason, n in found}


def test_each_text_is_counted_by_the_end_that_was_told(tmp_path: Path) -> None:
    what = slow(tmp_path, pause_s=0.005)
    with toy.running(what) as server:
        url = f"{server.url}/v1/completions"
        text = httpx.post(url, json=LONG | {"max_tokens": 20}).json()["choices"][0]["text"]
        stopped = httpx.post(url, json=LONG | {"stop": text[3]}).json()
        assert stopped["choices"][0]["finish_reason"] == "stop"
        assert counted(server) == {"length": 1, "stop": 1}
        with httpx.stream("POST", url, json=LONG | {"stream": True}) as answer:
            next(answer.iter_lines())
        until(lambda: is_empty(what), "the text whose caller left has ended")
        until(lambda: counted(server).get("cancelled") == 1, "and is counted")


def test_more_texts_than_may_ever_wait_are_refused_for_good(tmp_path: Path) -> None:
    with toy.running(toy.served(tmp_path, most_texts=8)) as server:
        asked = LONG | {"max_tokens": 2, "n": 9}
        refused = httpx.post(f"{server.url}/v1/completions", json=asked)
        assert refused.status_code == 400 and "at most 8" in refused.json()["error"]["message"]
        taken = httpx.post(f"{server.url}/v1/completions", json=asked | {"n": 8})
        assert len(taken.json()["choices"]) == 8


def test_a_text_that_fails_is_told_and_the_server_lives(tmp_path: Path) -> None:
    model = toy.tiny()
    with toy.running(toy.served(tmp_path, model=model)) as server:
        good = model.head.logits.weight.detach().clone()
        model.head.logits.weight.data.fill_(float("nan"))
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=60)
        assert answer.status_code == 500 and "nan" in answer.json()["error"]["message"]
        asked = LONG | {"stream": True}
        streamed = httpx.post(f"{server.url}/v1/completions", json=asked, timeout=60)
        assert '"error"' in streamed.text and "[DONE]" not in streamed.text
        model.head.logits.weight.data.copy_(good)
        assert httpx.post(f"{server.url}/v1/completions", json=LONG).status_code == 200

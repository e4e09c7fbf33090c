"""The routes and what stands before them: keys, names, sizes, forms; errors that say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from mendel.serve.http.app import create_app
from mendel.serve.http.feedback import Feedback, Store
from mendel.serve.http.gate import Limits
from mendel.serve.http.keys import Keys, first_key, read_keys
from mendel.spec import PlanSpec
from mendel.types import InputError

from . import serve_toy as toy

KEY, OTHER = "k" * 20, "o" * 20
ASK = {"prompt": "a", "max_tokens": 2}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    what = toy.served(tmp_path_factory.mktemp("open"), limits=Limits(max_body_bytes=100_000))
    with toy.running(what) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    what = toy.served(
        tmp_path_factory.mktemp("keyed"),
        keys=Keys({KEY: "ann", OTHER: "bob"}),
        explain=lambda name: {"id": name, "cause": "none"},
    )
    with toy.running(what) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error, in OpenAI's shape."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_but_health_wants_the_key(keyed: httpx.Client, tmp_path: Path) -> None:
    app = create_app(toy.served(tmp_path))
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    paths = {route.path: sorted(route.methods)[0] for route in routes} | {"/openapi.json": "GET"}
    assert len(paths) > 12
    for path, method in paths.items():
        is_health = path in ("/healthz", "/readyz")
        for headers in ({}, bearer("x" * 20), {"Authorization": KEY}, bearer(KEY + " x")):
            status = keyed.request(method, path, headers=headers).status_code
            assert status == (200 if is_health else 401), (path, headers)
    assert keyed.get("/nowhere").status_code == 401  # nor does it say what there is
    assert keyed.get("/v1/models", headers=bearer(KEY)).status_code == 200
    assert error_of(keyed.get("/v1/models"))["code"] == "invalid_api_key"


def test_another_host_needs_keys_of_enough_characters(tmp_path: Path) -> None:
    assert read_keys(None, "127.0.0.1") is None and read_keys(None, "localhost") is None
    with pytest.raises(InputError, match="--api-key-file"):
        read_keys(None, "0.0.0.0")
    file = tmp_path / "keys"
    for wrong in ("", "short", "a b c" * 9, f"{KEY}\nbob {KEY}"):
        file.write_text(wrong)
        with pytest.raises(InputError) as caught:
            read_keys(file, "0.0.0.0")
        assert KEY not in str(caught.value)
    file.write_text(f"# ours\n{KEY}\n\nbob {OTHER}\n")
    keys = read_keys(file, "0.0.0.0")
    assert keys is not None
    assert keys.tenant(f"Bearer {OTHER}".encode()) == "bob"
    assert keys.tenant(f"bearer {KEY}".encode()) == "key-2"
    assert keys.tenant(b"Bearer nobody") is None and keys.tenant(b"") is None
    assert first_key(file) == KEY  # not the comment before it
    file.write_text("# none\n")
    with pytest.raises(InputError, match="no key"):
        first_key(file)


def test_a_web_page_under_another_name_is_turned_away(open_server: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        answer = open_server.get("/v1/models", headers={"Host": host})
        assert answer.status_code == 400, host
        assert "Host" in error_of(answer)["message"]
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
        assert open_server.get("/v1/models", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_cannot_send_what_its_browser_would_not_ask_about(
    open_server: httpx.Client,
) -> None:
    body = json.dumps({"text": "a", "good": True}).encode()
    plain = {"Content-Type": "text/plain", "Host": "127.0.0.1"}  # goes out without a preflight
    for origin in ("https://evil.example", "http://localhost.evil.example:80", "null", "file://"):
        answer = open_server.post("/v1/feedback", content=body, headers={**plain, "Origin": origin})
        assert answer.status_code == 403 and "page" in error_of(answer)["message"], origin
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:8000"):
        answer = open_server.post("/v1/feedback", content=body, headers={**plain, "Origin": origin})
        assert answer.status_code == 200, origin


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 5_000, "not JSON"),
        (b"null", "an object"),
        (b"[]", "an object"),
        (b'{"max_tokens": 1}', "prompt is missing"),
        (b'{"prompt": 5}', "prompt=5"),
        (b'{"prompt": []}', "prompt=[]"),
        (b'{"prompt": ""}', "empty"),
        (b'{"prompt": [[]]}', "prompt"),
        (b'{"prompt": [1, "a"]}', "prompt"),
        (b'{"prompt": [-1]}', "id -1"),
        (b'{"prompt": [256]}', "id 256"),
        (b'{"prompt": [1e400]}', "prompt"),
        (b'{"prompt": "\\ud800"}', "JSON"),
        (b'{"prompt": "\xff"}', "JSON"),
        (b'{"prompt": "a", "temperature": NaN}', "temperature"),
        (b'{"prompt": "a", "temperature": 1e999}', "temperature"),
        (b'{"prompt": "a", "max_tokens": 1.5}', "max_tokens=1.5"),
        (b'{"prompt": "a", "max_tokens": true}', "max_tokens=true"),
        (b'{"prompt": "a", "max_tokens": ' + b"9" * 5_000 + b"}", "out of range"),
        (b'{"prompt": "a", "seed": 1e30}', "seed"),
        (b'{"prompt": "a", "stop": 5}', "stop=5"),
        (b'{"prompt": "a", "stream": "yes"}', "stream"),
        (b'{"prompt": "a", "stream_options": {}}', "stream"),
        (b'{"prompt": "a", "response_format": {"type": "json_schema"}}', "json_schema"),
        (b'{"prompt": "a", "unheard": 1}', "unheard"),
        (b'{"prompt": "a", "n": 64, "best_of": 64, "logprobs": 99}', "logprobs=99"),
    ],
)
def test_a_body_that_is_wrong_is_named(open_server: httpx.Client, raw: bytes, said: str) -> None:
    answer = open_server.post("/v1/completions", content=raw)
    assert answer.status_code == 400
    assert said in error_of(answer)["message"]


def test_a_body_over_the_limit_is_not_read(open_server: httpx.Client) -> None:
    long = json.dumps({"prompt": "a" * 10_000_000}).encode()
    assert open_server.post("/v1/completions", content=long).status_code == 413

    def chunks() -> Iterator[bytes]:  # of no stated length
        for _ in range(20):
            yield b"a" * 10_000

    answer = open_server.post("/v1/completions", content=chunks())
    assert answer.status_code == 413 and "100,000 bytes" in error_of(answer)["message"]


def test_edges_of_unicode_are_taken(open_server: httpx.Client) -> None:
    for prompt in ("\x00", "\ufeff", "👩‍👩‍👧‍👦", "\u202e", "e\u0301", "\U0010ffff", "\ufffe"):
        answer = open_server.post("/v1/completions", json=ASK | {"prompt": prompt})
        assert answer.status_code == 200, answer.text


def test_unknown_paths_and_methods_answer_in_the_same_shape(open_server: httpx.Client) -> None:
    assert error_of(open_server.get("/v1/nope"))["type"] == "not_found_error"
    wrong = open_server.get("/v1/completions")
    assert wrong.status_code == 405 and "GET" in error_of(wrong)["message"]
    agent = open_server.post("/v1/predict", json={"texts": ["a"]})
    assert agent.status_code == 404 and "language model" in error_of(agent)["message"]


def test_each_answer_has_an_id_of_its_own(open_server: httpx.Client) -> None:
    ids = {open_server.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    answer = open_server.post("/v1/completions", json=ASK)
    assert answer.json()["id"] == f"cmpl-{answer.headers['x-request-id']}"


def test_metrics_count_what_happened_and_name_nobody(keyed: httpx.Client) -> None:
    def numbers() -> dict[str, float]:
        text = keyed.get("/metrics", headers=bearer(KEY)).text
        rows = re.findall(r"^(mendel_\S+) (\S+)$", text, re.M)
        assert KEY not in text and "ann" not in text and "secret words" not in text
        return {name: float(value) for name, value in rows}

    before = numbers()
    body = {"prompt": "secret words", "max_tokens": 7}
    assert keyed.post("/v1/completions", json=body, headers=bearer(KEY)).status_code == 200
    keyed.get("/secret words", headers=bearer(KEY))
    after = numbers()
    written = 'mendel_written_tokens_total{plan="plain"}'
    assert after[written] == before.get(written, 0) + 7
    prompt = "mendel_prompt_tokens_total"
    assert after[prompt] == before.get(prompt, 0) + len("secret words")
    assert after["mendel_engine_n_done"] >= 1


def test_observe_shows_the_engine(open_server: httpx.Client) -> None:
    seen = open_server.get("/v1/observe").json()
    assert seen["engine"]["n_running"] == 0 and "plain" in seen["engine"]["plans"]


def test_plans_are_told_with_their_schema(open_server: httpx.Client) -> None:
    plans = open_server.get("/v1/plans").json()["plans"]
    assert {row["name"]: PlanSpec.parse(row["spec"]) for row in plans} == toy.PLANS
    schema = open_server.get("/v1/plans/schema").json()
    assert schema == PlanSpec.model_json_schema() and "n_draft" in schema["properties"]


def test_only_who_asked_has_it_explained(keyed: httpx.Client) -> None:
    answer = keyed.post("/v1/completions", json=ASK, headers=bearer(KEY)).json()["id"]
    mine = keyed.get(f"/v1/explain/{answer}", headers=bearer(KEY))
    assert mine.json() == {"id": answer.removeprefix("cmpl-"), "cause": "none"}
    assert keyed.get(f"/v1/explain/{answer}", headers=bearer(OTHER)).status_code == 404
    assert keyed.get("/v1/explain/cmpl-nope", headers=bearer(KEY)).status_code == 404


def test_feedback_is_on_disk_before_it_is_acknowledged(keyed: httpx.Client, tmp_path: Path) -> None:
    what = toy.served(tmp_path)
    with toy.running(what) as server:
        body = {"id": "cmpl-1", "good": False, "better": "so😀"}
        answer = httpx.post(f"{server.url}/v1/feedback", json=body)
        [line] = what.feedback.read_text().splitlines()
        assert answer.json()["stored"] is True and answer.status_code == 200
        for wrong in ({}, {"id": "a"}, {"good": True}, {"id": "a", "good": "yes"}):
            assert httpx.post(f"{server.url}/v1/feedback", json=wrong).status_code == 400
    stored = json.loads(line)
    assert (stored["id"], stored["good"], stored["better"]) == ("cmpl-1", False, "so😀")
    assert (stored["model"], stored["tenant"]) == ("toy", "")
    assert what.feedback.stat().st_mode & 0o777 == 0o600
    assert len(what.feedback.read_text().splitlines()) == 1


def test_feedback_after_a_torn_line_stands_on_its_own(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text('{"at": 1}\n{"at": 2, "bet')
    Store(file).add(Feedback(id="x", good=True))
    lines = file.read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[2])["id"] == "x"


def test_a_full_disk_is_told_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    what = toy.served(tmp_path)
    what.feedback = Path("/dev/full")
    with toy.running(what) as server:
        answer = httpx.post(f"{server.url}/v1/feedback", json={"id": "a", "good": True})
        assert answer.status_code == 507 and "No space left" in error_of(answer)["message"]
        assert httpx.post(f"{server.url}/v1/completions", json=ASK).status_code == 200


def test_a_model_without_tokenizer_speaks_ids(tmp_path: Path) -> None:
    with toy.running(toy.served(tmp_path, codec=None)) as server:
        body = {"prompt": "104 105", "max_tokens": 3, "temperature": 0}
        told = httpx.post(f"{server.url}/v1/completions", json=body).json()["choices"][0]["text"]
        ids = {"prompt": [104, 105], "max_tokens": 3, "temperature": 0}
        same = httpx.post(f"{server.url}/v1/completions", json=ids).json()["choices"][0]["text"]
        assert told == same and len([int(word) for word in told.split()]) == 3
        wrong = httpx.post(f"{server.url}/v1/completions", json={"prompt": "hi"})
        assert wrong.status_code == 400 and "ids" in error_of(wrong)["message"]
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        wrong = httpx.post(f"{server.url}/v1/chat/completions", json=chat)
        assert wrong.status_code == 400 and "no tokenizer" in error_of(wrong)["message"]


def test_deterministic_mode_repeats_itself_without_a_seed(tmp_path: Path) -> None:
    with toy.running(toy.served(tmp_path, mode="deterministic")) as server:
        body = {"prompt": "ab", "max_tokens": 20, "temperature": 1}
        told = [httpx.post(f"{server.url}/v1/completions", json=body).json() for _ in range(2)]
        assert told[0]["choices"] == told[1]["choices"]
        assert told[0]["mendel"]["mode"] == "deterministic" and told[0]["mendel"]["digests"]

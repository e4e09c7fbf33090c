"""Schemathesis reads our own OpenAPI schema and sends what fits it, and what does not: no 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.serve.http.app import create_app
from mendel.serve.http.openai import ChatCompletion, Completion
from mendel.serve.http.server import Running

from . import serve_toy as toy

ROUTES = 13
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with toy.running(toy.served(tmp_path_factory.mktemp("fuzz"))) as server:
        yield server


def sent(server: Running, n: int) -> int:
    """Ask every operation n times; returns how many there are. Fails on a 5xx."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in operations:

        @settings(max_examples=n, deadline=None, database=None, suppress_health_check=QUIET)
        @given(case=st.one_of(*(operation.as_strategy(generation_mode=m) for m in modes())))
        def ask(case: Any) -> None:
            answer = case.call(timeout=60)
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"]

        ask()
    return len(operations)


def modes() -> list[Any]:
    return [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


def test_no_request_of_the_schema_or_against_it_gets_a_5xx(server: Running) -> None:
    assert sent(server, 12) == ROUTES
    assert httpx.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_requests_of_each_operation_get_no_5xx(server: Running) -> None:
    assert sent(server, 1_000) == ROUTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("route", ["completions", "chat/completions"])
def test_any_value_in_any_known_field_is_answered(server: Running, route: str) -> None:
    is_chat = route.startswith("chat")
    fields = [*(ChatCompletion if is_chat else Completion).model_fields]
    good: dict[str, Any] = {"max_tokens": 2}
    good |= {"messages": [{"role": "user", "content": "a"}]} if is_chat else {"prompt": "a"}

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=QUIET)
    @given(changed=st.dictionaries(st.sampled_from(fields), JSON, min_size=1, max_size=3))
    def ask(changed: dict[str, Any]) -> None:
        raw = json.dumps(good | changed).encode()  # NaN, half characters and all
        answer = client.post(f"/v1/{route}", content=raw)
        assert answer.status_code < 500, (raw, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]

    with httpx.Client(base_url=server.url, timeout=60) as client:
        ask()


def test_the_schema_describes_every_route(tmp_path: Path) -> None:
    paths = create_app(toy.served(tmp_path)).openapi()["paths"]
    assert sum(len(methods) for methods in paths.values()) == ROUTES
    body = paths["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["additionalProperties"] is False and "prompt" in body["required"]
    assert "$ref" not in json.dumps(body)

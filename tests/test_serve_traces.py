"""Spans of requests: asked for by OpenTelemetry's own variables, silent without."""

from __future__ import annotations

import pytest

from mendel.serve.http.otel import Silent, Traced, spans


def test_nobody_is_traced_who_did_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(spans(), Silent)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert isinstance(spans(), Silent)


def test_a_request_is_a_span_of_its_own_times() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter"
    ).InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    Traced(provider.get_tracer("test")).ended("/v1/completions", 100.0, 0.5, {"status": 200})
    [span] = memory.get_finished_spans()
    assert span.name == "/v1/completions" and span.attributes["mendel.status"] == 200
    assert span.end_time - span.start_time == 500_000_000 and span.start_time == 100 * 10**9

"""Spans of requests for OpenTelemetry, where it is installed and its own variables ask for it.

Whoever sets the provider up (opentelemetry-instrument, or the variables) decides where spans go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

ASKED = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")
OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"  # a package of its own


class Spans(Protocol):
    """Where finished requests go."""

    def ended(self, route: str, began_s: float, took_s: float, facts: Mapping[str, Any]) -> None:
        """began_s: unix seconds; facts: numbers and names, never texts."""


class Silent:
    def ended(self, route: str, began_s: float, took_s: float, facts: Mapping[str, Any]) -> None:
        """Nobody listens."""


class Traced:
    """Spans of a tracer of OpenTelemetry's."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    def ended(self, route: str, began_s: float, took_s: float, facts: Mapping[str, Any]) -> None:
        start = int(began_s * 1e9)
        said = {f"mendel.{name}": value for name, value in facts.items()}
        span = self._tracer.start_span(route, start_time=start, attributes=said)
        span.end(end_time=start + int(took_s * 1e9))


def spans() -> Spans:
    """What the environment asks for; silent where the package is not there, or nobody asks."""
    if not any(os.environ.get(name) for name in ASKED) or not _has("opentelemetry"):
        return Silent()
    if os.environ.get(ASKED[0]) == "none":
        return Silent()
    from opentelemetry import trace

    _provide(trace)
    return Traced(trace.get_tracer("mendel.serve"))


def _provide(trace: Any) -> None:
    """A provider by the SDK, unless somebody has set one up."""
    theirs = type(trace.get_tracer_provider()).__name__
    if theirs not in ("ProxyTracerProvider", "NoOpTracerProvider") or not _has("opentelemetry.sdk"):
        return
    export = import_module("opentelemetry.sdk.trace.export")
    provider = import_module("opentelemetry.sdk.trace").TracerProvider()
    if os.environ.get(ASKED[0]) == "console":
        provider.add_span_processor(export.BatchSpanProcessor(export.ConsoleSpanExporter()))
    elif _has(OTLP):
        sender = import_module(OTLP).OTLPSpanExporter()
        provider.add_span_processor(export.BatchSpanProcessor(sender))
    trace.set_tracer_provider(provider)


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is inside of
        return False

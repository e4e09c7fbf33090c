"""What /metrics tells: requests, tokens, times; nothing of what anybody wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mendel.serve.protocols import Trace

TIMES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
TOKEN_TIMES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Metrics:
    """The numbers of one server; a registry of its own, so that two may live in a process."""

    def __init__(self, collectors: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "mendel_http_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "mendel_http_seconds", "From the request to its last byte.", ["route"],
            buckets=TIMES, registry=registry,
        )  # fmt: skip
        self.overloaded = Counter(
            "mendel_overloaded", "Answered 429: the queue was full.", registry=registry
        )
        self.prompt = Counter("mendel_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.cached = Counter(
            "mendel_cached_tokens", "Of them, taken from the cache.", registry=registry
        )
        self.written = Counter(
            "mendel_written_tokens", "Tokens written.", ["plan"], registry=registry
        )
        self.drafted = Counter(
            "mendel_drafted_tokens", "Tokens guessed.", ["plan"], registry=registry
        )
        self.accepted = Counter(
            "mendel_accepted_tokens", "Guesses kept.", ["plan"], registry=registry
        )
        self.texts = Counter(
            "mendel_texts", "Texts by how they ended.", ["reason"], registry=registry
        )
        self.first = Histogram(
            "mendel_first_token_seconds", "From submission to the first token.",
            buckets=TIMES, registry=registry,
        )  # fmt: skip
        self.token = Histogram(
            "mendel_token_seconds", "Mean of a text, from its first token to its last.", ["plan"],
            buckets=TOKEN_TIMES, registry=registry,
        )  # fmt: skip
        for collector in collectors:
            self.registry.register(collector)

    def gauges(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Show the engine's numbers as they are when asked."""
        self.registry.register(_Gauges(stats))

    def heard(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def ended(self, trace: Trace) -> None:
        self.prompt.inc(trace.features.n_prompt)
        self.cached.inc(trace.features.n_cached)
        self.written.labels(trace.plan).inc(trace.n_out)
        self.drafted.labels(trace.plan).inc(trace.n_drafted)
        self.accepted.labels(trace.plan).inc(trace.n_accepted)
        self.texts.labels(trace.reason).inc()
        if trace.n_out:
            self.first.observe(max(0.0, trace.first_token_s))
        if trace.n_out > 1:
            self.token.labels(trace.plan).observe(trace.decode_s / (trace.n_out - 1))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, value in numbers(self._stats()):
            yield GaugeMetricFamily("mendel_engine_" + "_".join(name), "Of the engine.", value)


def numbers(
    stats: Mapping[str, Any], above: Sequence[str] = ()
) -> Iterator[tuple[tuple[str, ...], float]]:
    """The numbers of nested mappings, with their names."""
    for name, value in stats.items():
        path = (*above, "".join(c if c.isalnum() else "_" for c in str(name)))
        if isinstance(value, Mapping):
            yield from numbers(value, path)
        elif isinstance(value, (int, float)):
            yield path, float(value)

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
        self.requests = self._count("http_requests", "By route and status.", "route", "status")
        self.seconds = self._times("http_seconds", "To the last byte.", TIMES, "route")
        self.overloaded = self._count("overloaded", "Answered 429: the queue was full.")
        self.prompt = self._count("prompt_tokens", "Tokens of prompts.")
        self.cached = self._count("cached_tokens", "Of them, taken from the cache.")
        self.written = self._count("written_tokens", "Tokens written.", "plan")
        self.drafted = self._count("drafted_tokens", "Tokens guessed.", "plan")
        self.accepted = self._count("accepted_tokens", "Guesses kept.", "plan")
        self.texts = self._count("texts", "Texts by how they ended.", "reason")
        self.first = self._times("first_token_seconds", "From submission.", TIMES)
        self.token = self._times("token_seconds", "Mean of a text.", TOKEN_TIMES, "plan")
        for collector in collectors:
            self.registry.register(collector)

    def _count(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"mendel_{name}", said, labels, registry=self.registry)

    def _times(self, name: str, said: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"mendel_{name}", said, labels, buckets=buckets, registry=self.registry)

    def gauges(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Show the engine's numbers as they are when asked."""
        self.registry.register(_Gauges(stats))

    def heard(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def ended(self, trace: Trace, reason: str) -> None:
        """reason: as the caller was told, to whom a stop string is an end like any other"""
        self.prompt.inc(trace.features.n_prompt)
        self.cached.inc(trace.features.n_cached)
        self.written.labels(trace.plan).inc(trace.n_out)
        self.drafted.labels(trace.plan).inc(trace.n_drafted)
        self.accepted.labels(trace.plan).inc(trace.n_accepted)
        self.texts.labels(reason).inc()
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

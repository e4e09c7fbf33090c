"""What the observer tells, for prometheus and for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from rich.console import Group
from rich.table import Table
from rich.text import Text as Line

Told = Mapping[str, Any]
BY_CLASS = {
    "n": "Requests.",
    "work_s": "Seconds of work.",
    "acceptance": "Share of drafted tokens that were kept.",
    "cache_hits": "Share of requests with a cached prefix.",
    "cached_tokens": "Share of prompt tokens that were cached.",
}
BY_LAYER = {
    "influence": "1 - cosine of a layer's input and output.",
    "sparsity": "Share of hidden units near zero.",
    "exit_share": "Share of tokens decided at this depth.",
}


def collector(tell: Callable[[], Told]) -> Collector:
    return _Observed(tell)


class _Observed(Collector):
    def __init__(self, tell: Callable[[], Told]) -> None:
        self._tell = tell

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: names are known when they are asked for."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = self._tell()
        yield from _by_class(told["classes"])
        yield from _by_layer(told["layers"])
        for name, value in told["machine"].items():
            if not isinstance(value, str):
                yield GaugeMetricFamily(f"mendel_machine_{name}", "Of the process.", value)
        for name, value in told["observer"].items():
            yield GaugeMetricFamily(f"mendel_observer_{name}", "Of the observer.", value)
        if "tune" in told:
            yield from _tuned(told["tune"])


def _by_class(rows: Told) -> Iterator[GaugeMetricFamily]:
    for name, said in BY_CLASS.items():
        family = GaugeMetricFamily(f"mendel_class_{name}", said, labels=["query_class"])
        for each, row in rows.items():
            if row[name] is not None:
                family.add_metric([each], row[name])
        yield family
    for name in ("first_token_ms", "token_ms"):
        family = GaugeMetricFamily(f"mendel_class_{name}", "Of late.", labels=["query_class", "q"])
        for each, row in rows.items():
            for q, value in (row[name] or {}).items():
                family.add_metric([each, q], value)
        yield family


def _by_layer(rows: Told) -> Iterator[GaugeMetricFamily]:
    for name, said in BY_LAYER.items():
        family = GaugeMetricFamily(f"mendel_layer_{name}", said, labels=["query_class", "layer"])
        for each, row in rows.items():
            for i, value in enumerate(row[name]):
                if value is not None:
                    family.add_metric([each, str(i + 1)], value)
        yield family
    for name in ("head_entropy", "head_use"):
        labels = ["query_class", "layer", "head"]
        family = GaugeMetricFamily(f"mendel_{name}", "Of each head.", labels=labels)
        for each, row in rows.items():
            for layer, heads in row[name].items():
                for h, value in enumerate(heads):
                    family.add_metric([each, str(layer + 1), str(h)], value)
        yield family


def _tuned(told: Told) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("mendel_tune_on", "1 while the tuner chooses.", float(told["on"]))
    share = told["controller_share"]
    yield GaugeMetricFamily("mendel_tune_share", "Of work, the tuner's own.", share)
    if told["saved"]["low"] is not None:
        family = GaugeMetricFamily("mendel_tune_saved", "Share of work.", labels=["bound"])
        for bound in ("low", "mean", "high"):
            family.add_metric([bound], told["saved"][bound])
        yield family
    live = GaugeMetricFamily("mendel_tune_plan", "1: live.", labels=["query_class", "plan"])
    for name, row in told["classes"].items():
        live.add_metric([name, row["plan"]], 1.0)
    yield live


def table(told: Told) -> Group:
    """For `mendel serve status`: what /v1/observe gave."""
    tuned = told.get("tune", {})
    rows = Table("class", "plan", "n", "first token ms", "ms a token", "accepted", "cached")
    for name, row in told["classes"].items():
        plan = tuned.get("classes", {}).get(name, {}).get("plan", "")
        times = [_times(row[key]) for key in ("first_token_ms", "token_ms")]
        shares = [_share(row[key]) for key in ("acceptance", "cached_tokens")]
        rows.add_row(name, plan, f"{row['n']:,}", *times, *shares)
    parts: list[Table | Line] = [rows]
    if told["layers"]:
        layers = Table("class", "texts", "influence by layer", "decided at", "sparsity")
        for name, row in told["layers"].items():
            cells = [_row(row["influence"]), f"{row['mean_exit_depth']:.1f}", _row(row["sparsity"])]
            layers.add_row(name, str(row["n_texts"]), *cells)
        parts.append(layers)
    parts.append(Line("\n".join(_words(told))))
    return Group(*parts)


def _words(told: Told) -> Iterator[str]:
    m = told["machine"]
    yield (
        f"{m['rss_bytes'] / 1e6:,.0f} MB, {m['cpu_s']:,.0f} s busy of {m['wall_s']:,.0f} s, "
        f"{m['steal_share']:.1%} stolen, {m['energy_j']:,.0f} J ({m['energy_is']})"
    )
    if "tune" in told:
        t = told["tune"]
        yield f"tuner: {t['why']}; {t['controller_us']:.0f} us a request of its own"
    yield f"observer: {told['observer']['share']:.2%} of the time"


def _times(row: Told | None) -> str:
    return "" if row is None else f"{row['p50']:.3g} / {row['p95']:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _row(values: list[float | None]) -> str:
    return " ".join("-" if v is None else f"{v:.2f}" for v in values)

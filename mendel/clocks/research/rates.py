"""Wins against compute: a line through the origin, its interval, and the same of null lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counted:
    """n wins in so many core hours; wins an hour, and the 95 % interval of that rate."""

    n: int
    hours: float
    rate: float
    low: float
    high: float
    at: tuple[float, ...] = ()  # core hours at each win


def rate(at: Sequence[float], hours: float) -> Counted:
    """The rate at which wins come, if it is constant: the most likely one and its interval.

    at       core hours at each win, ascending
    returns  the slope of the line that fits the cumulative count best, n / hours
    source   Garwood 1936, the exact interval of a Poisson count
    """
    # imported here: it takes a second, which a table does not need
    from scipy.stats import chi2

    n = len(at)
    if hours <= 0:
        return Counted(n, 0.0, 0.0, 0.0, 0.0, tuple(at))
    low = float(chi2.ppf(0.025, 2 * n)) / 2 if n else 0.0
    high = float(chi2.ppf(0.975, 2 * n + 2)) / 2
    return Counted(n, hours, n / hours, low / hours, high / hours, tuple(at))


def words(wins: Mapping[str, Any], null: Mapping[str, Any] | None) -> list[str]:
    """Both rates, and whether they can be told apart."""

    def told(found: Mapping[str, Any]) -> str:
        span = f"{found['low']:.2g} to {found['high']:.2g}"
        return f"{found['n']} in {found['hours']:.3g} core hours ({span} an hour, 95 %)"

    first = f"kept by the judge: {told(wins)}"
    if null is None:
        return [first, "no null line is beside it: `mendel research --null` gives the band of luck"]
    apart = wins["low"] > null["high"]
    verdict = "above the band of luck" if apart else "not told apart from luck"
    return [first, f"kept on null lines: {told(null)}: {verdict}"]

"""Amounts as people write them: 10m, 10MB, 7M, 2ms, 30d."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import typer

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2}
COUNT = {"": 1.0, "k": 1e3, "m": 1e6}
WATTS = {"w": 1.0, "mw": 1e-3, "kw": 1e3}
MILLISECONDS = {"ms": 1.0, "us": 1e-3, "s": 1e3}


def parser(units: Mapping[str, float], example: str) -> Callable[[str], float]:
    """A parser for typer; a plain number has no unit and is taken as it is."""

    def parse(text: str) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
        unit = found[2].lower() if found else None
        if found is None or (unit and unit not in units):
            known = ", ".join(u for u in units if u)
            raise typer.BadParameter(
                f"{text!r} is no amount. Wanted a number with {known}: {example}."
            )
        return float(found[1]) * units.get(unit or "", 1.0)

    return parse

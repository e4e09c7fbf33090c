"""What an answer costs in electricity: an estimate from measured time and a processor's rating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mendel.clocks.design.request import Request
from mendel.types import InputError

JOULES_A_KWH = 3.6e6


def prices(request: Request) -> dict[str, Any]:
    """tdp_w euro_per_kwh api_price as the user gave them; raises InputError for what is no price"""
    named = {"tdp": request.tdp_w, "euro-per-kwh": request.euro_per_kwh}
    if request.api_price is not None:
        named["api-price"] = request.api_price
    for flag, value in named.items():
        if not 0 < value < 1e6:
            raise InputError(f"--{flag} {value} is out of range. Wanted a number above 0.")
    return {
        "tdp_w": request.tdp_w,
        "euro_per_kwh": request.euro_per_kwh,
        "api_price": request.api_price,
    }


def cost_of(p50_ms: float | None, prices: Mapping[str, Any]) -> dict[str, Any] | None:
    """As if the whole processor ran at its TDP for the median time of one text: an upper estimate.

    returns  the prices, joules (a text), texts_per_joule texts_per_euro, and beside an API's price
             api_texts_per_euro; None where nothing was measured
    """
    if not p50_ms or not prices:
        return None
    joules = prices["tdp_w"] * p50_ms / 1e3
    euro = joules / JOULES_A_KWH * prices["euro_per_kwh"]
    api = prices["api_price"]
    return {
        **prices,
        "joules": joules,
        "texts_per_joule": 1 / joules,
        "texts_per_euro": 1 / euro,
        "api_texts_per_euro": 1 / api if api else None,
    }

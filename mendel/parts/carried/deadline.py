"""Fits that end in time and say how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]  # told the share done, in 0 .. 1


class OutOfTime(Exception):
    """The deadline passed in the middle of a fit."""

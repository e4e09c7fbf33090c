"""One section of a report, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mendel.emit.values import Row, Table


@dataclass(frozen=True)
class Section:
    """Plain text throughout; nothing in it is escaped yet."""

    title: str
    lines: tuple[str, ...] = ()
    table: Table | None = None
    plot: Callable[[Row], str] | None = None  # drawn in HTML only; "" = nothing to draw
    caption: str = ""
    code: tuple[str, ...] = ()


def section(
    title: str,
    *lines: str | None,
    table: Table | None = None,
    plot: Callable[[Row], str] | None = None,
    caption: str = "",
    code: tuple[str, ...] = (),
) -> Section:
    return Section(title, tuple(line for line in lines if line), table, plot, caption, code)

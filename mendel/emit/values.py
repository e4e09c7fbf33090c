"""How values are shown, alone, in a sentence or in a table: None where there is nothing to show."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Show = Callable[[Any], str | None]

MAX_ROWS = 30  # longer tables are folded away
MAX_WORDS = 160  # characters of a text in a table


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def long(self) -> bool:
        return len(self.rows) > MAX_ROWS


def part(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def rows_of(data: Row, *keys: str) -> list[Row] | None:
    found = part(data, *keys)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else None


def text(value: Any) -> str | None:
    """One line in which nothing is hidden: control characters and such by their number."""
    if value is None:
        return None
    words = given(value) if isinstance(value, float) else str(value)
    return "".join(map(_visible, words or "")).strip()


def _visible(char: str) -> str:
    if char in "\n\r\t\x0b\x0c\x85\u2028\u2029":
        return " "
    hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn")
    return f"‹U+{ord(char):04X}›" if hidden and char not in "\u200c\u200d" else char


def quote(value: Any) -> str | None:
    words = text(value)
    return words if words is None or len(words) <= MAX_WORDS else words[:MAX_WORDS].rstrip() + "…"


def number(show: Callable[[float], str]) -> Show:
    """Of numbers only; anything else is shown as the text it is."""

    def shown(value: Any) -> str | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return show(value)
        return text(value)

    return shown


def _duration(s: float) -> str:
    if s < 1:
        return f"{1000 * s:.3g} ms"
    if s < 120:
        return f"{s:.3g} s"
    minutes, seconds = divmod(round(s), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {seconds} s"


def _scaled(value: float, units: Sequence[str]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.3g} {units[step]}".strip()


given = number(lambda x: f"{x:.6g}")
pct = number(lambda x: f"{100 * x:.1f} %")
points = number(lambda x: f"{100 * x:.1f}")
count = number(lambda x: f"{x:,.0f}")
decimal = number(lambda x: f"{x:.3f}")
ms = number(lambda x: f"{x:.3g} ms")
duration = number(_duration)
size = number(lambda x: _scaled(x, ("B", "kB", "MB", "GB", "TB")))
short = number(lambda x: _scaled(x, ("", "k", "M", "B")))
times = number(lambda x: {1: "once", 2: "twice"}.get(int(x), f"{x:,.0f} times"))


def yes(value: Any) -> str | None:
    return either(value, "yes", "NO") or text(value)


def either(value: Any, true: str, false: str) -> str | None:
    """None unless it is a bool: what was not measured is neither."""
    return (true if value else false) if isinstance(value, bool) else None


def examples(value: Any) -> str | None:
    """The first few of a list."""
    if not isinstance(value, list):
        return text(value)
    return ", ".join(str(text(item)) for item in value[:5]) + (" …" if len(value) > 5 else "")


def quantity(limit: Any, value: Any) -> str | None:
    """A value in the unit that the limit's name ends in."""
    shows = {"bytes": size, "ms": ms, "params": count}
    return shows.get(str(limit).rsplit("_", 1)[-1], given)(value)


def span(row: Row) -> str | None:
    return say("{} to {}", points(row.get("low")), points(row.get("high")))


def say(sentence: str, *values: str | None) -> str | None:
    """The sentence, or None where something in it is not known."""
    return None if None in values else sentence.format(*values)


def braced(words: str) -> str:
    return words.replace("{", "{{").replace("}", "}}")


def table_of(rows: Iterable[Row] | None, *columns: tuple[str, str, Show]) -> Table | None:
    """One column for each heading, key and way to show; None where there is no row."""
    cells = tuple(
        tuple(show(row.get(key)) or "–" for _, key, show in columns) for row in rows or ()
    )
    numeric = tuple(show not in (text, quote, yes, examples) for _, _, show in columns)
    return Table(tuple(heading for heading, _, _ in columns), numeric, cells) if cells else None

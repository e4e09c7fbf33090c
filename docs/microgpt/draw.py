"""Draws the pictures of docs/microgpt.md: python docs/microgpt/draw.py

Every number in them is computed here by microgpt.py, on the names that ship in it, so no network is
needed and the files are the same every time. The run is that of `microgpt.py --steps 200`, offline.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from microgpt import GPT, SHIPPED, Value, dot, rmsnorm, softmax  # noqa: E402

STEPS = 200
INK, SOFT, GRID, BLUE, ORANGE = "#1f2937", "#6b7280", "#e5e7eb", "#2563eb", "#ea580c"


# ---- what a picture is made of


def text(x: float, y: float, words: str, *, color: str = INK, size: int = 13, at: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{at}"'
    return f'<text {place} fill="{color}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, *, fill: str = "#ffffff", edge: str = GRID) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="3" fill="{fill}" stroke="{edge}"/>'


def line(x1: float, y1: float, x2: float, y2: float, *, color: str = SOFT, arrow: bool = False) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{color}"{' marker-end="url(#tip)"' if arrow else ""}/>'


def path(points: Sequence[tuple[float, float]], color: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="2"/>'


def tint(share: float, color: str = BLUE) -> str:
    """White at 0, the colour at 1."""
    mixed = (round(255 + (int(color[i : i + 2], 16) - 255) * share) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def number(value: float, places: int = 2) -> str:
    """Rounded, with a real minus sign, and never a minus before zero."""
    rounded = f"{value + 0.0:.{places}f}"
    return rounded.lstrip("-") if float(rounded) == 0 else rounded.replace("-", "−")


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    tip = '<path d="M0,0 L8,4 L0,8 z" fill="#6b7280"/>'
    marker = f'<marker id="tip" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">{tip}</marker>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    font = 'font-family="Helvetica, Arial, sans-serif" role="img"'
    sheet = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    first = [f"{head} {font}>", f"<title>{escape(title)}</title>", f"<defs>{marker}</defs>", sheet]
    return "\n".join([*first, *parts, "</svg>", ""])

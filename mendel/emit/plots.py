"""The plots of a report: inline SVG in the page's colours, "" where there is nothing to draw."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mendel.emit.values import Row, part, rows_of, size, text

MAX_GAP = 0.15  # a model further below the best is not drawn
MAX_NAMES, NAME_STEP = 14, 0.07  # beside the points; share of the height
MAX_CLASSES = 15  # of the confusion map
INK, ACCENT, MUTED = "#0a0b0c", "#1f6fb3", "#85888f"  # the page's own colours take their place
THEMED = {INK: "currentColor", ACCENT: "var(--accent)", MUTED: "var(--muted)"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mendel",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


def reliability_plot(r: Row) -> str:
    sides = [
        (side, color, [b for b in rows_of(r, "sealed", "calibration", side, "bins") or []
                       if None not in (b.get("confidence"), b.get("accuracy"))])
        for side, color in (("before", MUTED), ("after", ACCENT))
    ]  # fmt: skip

    def draw(axes: Axes) -> None:
        low = min(
            b[key] for _, _, bins in sides for b in bins for key in ("confidence", "accuracy")
        )
        axes.plot([low, 1], [low, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        for side, color, bins in sides:
            points = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axes.plot(*points, color=color, marker="o", markersize=3.5, linewidth=1.4, label=side)
        axes.legend(loc="upper left")
        _percents(axes, "confidence", "share that is right")

    return _svg(draw) if any(bins for _, _, bins in sides) else ""


def coverage_plot(r: Row) -> str:
    curve = [p for p in rows_of(r, "sealed", "abstention", "curve") or []
             if None not in (p.get("coverage"), p.get("accuracy"))]  # fmt: skip
    here = part(r, "sealed", "abstention", "coverage"), part(r, "sealed", "abstention", "accuracy")

    def draw(axes: Axes) -> None:
        line = [p["coverage"] for p in curve], [p["accuracy"] for p in curve]
        axes.plot(*line, color=ACCENT, marker="o", markersize=3, linewidth=1.4)
        if None not in here:
            axes.plot(*here, color=INK, marker="o", markersize=7, fillstyle="none", linewidth=0)
            axes.annotate("this threshold", here, (-9, -9), textcoords="offset points", ha="right")
        axes.margins(y=0.15)
        _percents(axes, "share of messages answered", "accuracy of the answers")

    return _svg(draw) if len(curve) > 1 else ""


def ladder_plot(r: Row) -> str:
    known = [x for x in rows_of(r, "ladder") or []
             if (x.get("model_bytes") or 0) > 0 and x.get("score") is not None]  # fmt: skip
    best = max((x["score"] for x in known), default=0)
    rows = sorted((x for x in known if x["score"] >= best - MAX_GAP), key=lambda x: x["score"])
    shipped = part(r, "shipped", "name")

    def draw(axes: Axes) -> None:
        sizes = [x["model_bytes"] for x in rows]
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        for x in rows:
            mine = shipped is not None and x.get("name") == shipped
            axes.errorbar(
                x["model_bytes"], x["score"], yerr=x.get("se") or 0, fmt="o", elinewidth=0.9,
                markersize=7 if mine else 5, color=ACCENT if mine else MUTED,
            )  # fmt: skip
        axes.margins(y=0.15)
        _name_points(axes, rows[-MAX_NAMES:], shipped)
        _percents(axes, "size of the model", "score it was selected by")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: size(v) or ""))

    return _svg(draw, width=6.4) if rows else ""


def _name_points(axes: Axes, rows: Sequence[Row], shipped: str | None) -> None:
    """Names in a column on the right, far enough apart to be read; rows by accuracy."""
    low, high = axes.get_ylim()
    wanted = [(x["score"] - low) / (high - low) for x in rows]
    heights: list[float] = []
    for i, at in enumerate(wanted):  # none so high that those above it lack room
        height = min(at, 1 - NAME_STEP * (len(rows) - 1 - i))
        heights.append(max(height, heights[-1] + NAME_STEP) if heights else height)
    for x, height in zip(rows, heights, strict=True):
        name = _short(text(x.get("name")) or "")
        axes.annotate(
            f"{name} (shipped)" if shipped is not None and x.get("name") == shipped else name,
            (x["model_bytes"], x["score"]), (1.04, height), textcoords="axes fraction",
            va="center", arrowprops={"arrowstyle": "-", "color": MUTED, "alpha": 0.5,
                                     "linewidth": 0.6, "shrinkB": 4},
        )  # fmt: skip


def confusion_plot(r: Row) -> str:
    pairs = [p for p in rows_of(r, "sealed", "confusions") or []
             if None not in (p.get("true"), p.get("predicted"), p.get("count"))]  # fmt: skip
    names: dict[str, None] = {}
    for pair in pairs:  # most frequent first
        for name in (pair["true"], pair["predicted"]):
            if len(names) < MAX_CLASSES:
                names.setdefault(name)
    at = {name: i for i, name in enumerate(sorted(names, key=str))}
    right = {
        (c["label"], c["label"]): round(c["recall"] * c["n"])
        for c in rows_of(r, "sealed", "per_class") or []
        if c.get("label") in at and None not in (c.get("recall"), c.get("n"))
    }
    cells = {(p["true"], p["predicted"]): p["count"] for p in pairs} | right
    cells = {pair: n for pair, n in cells.items() if n and pair[0] in at and pair[1] in at}
    most = max([n for (t, g), n in cells.items() if t != g], default=1)

    def draw(axes: Axes) -> None:
        for (t, g), n in cells.items():
            color, alpha = (MUTED, 0.25) if t == g else (ACCENT, 0.12 + 0.58 * n / most)
            axes.add_patch(Rectangle((at[g] - 0.5, at[t] - 0.5), 1, 1, color=color, alpha=alpha,
                                     linewidth=0))  # fmt: skip
            axes.text(at[g], at[t], f"{n:,.0f}", ha="center", va="center", fontsize=7.5)
        ticks = [_short(text(name) or "") for name in at]
        axes.set_xticks(range(len(at)), ticks, rotation=50, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(at)), ticks)
        axes.set(xlim=(-0.5, len(at) - 0.5), ylim=(len(at) - 0.5, -0.5), xlabel="predicted",
                 ylabel="true")  # fmt: skip
        axes.tick_params(length=0)

    side = 2.2 + 0.33 * len(at)
    return _svg(draw, width=side + 0.8, height=side) if cells else ""


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _percents(axes: Axes, x: str, y: str) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.4g} %"))
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y", color=MUTED, alpha=0.25, linewidth=0.6)


def _svg(draw: Callable[[Axes], None], *, width: float = 5.4, height: float = 3.4) -> str:
    """The drawing alone: no XML head, no metadata, no addresses, no ids that two plots share."""
    out = StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that the font for measuring lacks
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg[svg.index("<svg") :], flags=re.S)
    return re.sub(r"<[^>]*>", _themed, svg).strip()  # tags only: texts have no bare < or >


def _themed(match: re.Match[str]) -> str:
    tag = match[0]
    if tag.startswith("<svg"):
        box = re.search(r'viewBox="[\d. ]+"', tag)
        return f'<svg {box[0] if box else ""} role="img">'
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)
    for color, name in THEMED.items():
        tag = tag.replace(color, name)
    return tag

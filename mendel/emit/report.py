"""The report of a design run: for a machine (JSON), a reader (Markdown), a browser (HTML).

report --sections--> plain prose and tables --escape--> report.md, report.html (plots inline)

Whatever the report lacks is left out or said to be not measured. Texts and labels come from
users' data and are trusted nowhere: control characters are shown, and what means something in
Markdown or HTML is escaped where it is written, never before.
Longer than most files here: prose and plots read the same keys, side by side.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

Row = dict[str, Any]
Show = Callable[[Any], str | None]

MAX_ROWS = 30  # longer tables are folded away
MAX_GAP = 0.15  # a model further below the best is not drawn
MAX_NAMES, NAME_STEP = 14, 0.07  # beside the points; share of the height
MAX_CLASSES = 15  # of the confusion map
MAX_PAD = 40  # of a column in Markdown
MAX_WORDS = 160  # characters of a text in a table
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


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def long(self) -> bool:
        return len(self.rows) > MAX_ROWS


@dataclass(frozen=True)
class Section:
    """Plain text throughout; nothing in it is escaped yet."""

    title: str
    lines: tuple[str, ...] = ()
    table: Table | None = None
    plot: Callable[[Row], str] | None = None  # drawn in HTML only; "" = nothing to draw
    caption: str = ""
    code: tuple[str, ...] = ()


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.json, report.md and report.html; the same report gives the same bytes.

    report  title task status data shipped sealed baselines claims latency resources time limits
            ladder judge reproduce; sealed holds sections of measure.py. Any part may be absent
    folder  made where it is missing
    """
    data: Row = _plain(report)
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    for name, text in (("json", as_json), ("md", markdown(data)), ("html", page(data))):
        # a lone surrogate is left in the JSON only, where \udc80 is how it is written
        (folder / f"report.{name}").write_bytes(text.encode("utf-8", "backslashreplace"))


def markdown(report: Mapping[str, Any]) -> str:
    """The report to be read in two minutes."""
    data: Row = _plain(report)
    verified, why = _status(data)
    blocks = [f"# {_md(_title(data))}"]
    blocks += [] if verified else [f"> **UNVERIFIED**: {_md(why)}."]
    blocks += [f"**{_md(headline(data))}**"]
    blocks += [f"Verified: {_md(why)}."] if verified else []
    for section in sections(data):
        blocks += [f"## {section.title}", *map(_md_line, section.lines)]
        blocks += [_md_table(section.table)] if section.table else []
        blocks += ["\n".join(f"    {line}" for line in section.code)] if section.code else []
    return "\n\n".join(blocks) + "\n"


def page(report: Mapping[str, Any]) -> str:
    """The same in one HTML page that loads nothing, with plots."""
    data: Row = _plain(report)
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    env = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    shown = sections(data)
    verified, why = _status(data)
    return env.get_template("report.html.j2").render(
        title=_title(data),
        headline=headline(data),
        verified=verified,
        why=why,
        facts=_facts(data),
        sections=[(section, section.plot(data) if section.plot else "") for section in shown],
    )


def headline(report: Row) -> str:
    """The main number with its interval, its n, and how often the sealed data was opened."""
    sealed = _at(report, "sealed") or {}
    accuracy = pct(sealed.get("accuracy"))
    if accuracy is None:
        return "Sealed accuracy: not measured"
    notes = [
        _say("95 % interval {}", _span(sealed)),
        _say("{} messages", count(sealed.get("n"))),
        _say("opened {}", times(sealed.get("opened"))),
    ]
    noted = ", ".join(note for note in notes if note)
    return f"Sealed accuracy {accuracy}" + (f" ({noted})" if noted else "")


def sections(report: Row) -> list[Section]:
    """What the report says, in the order of who needs it."""
    makers = (
        _shipped, _limits, _baselines, _claims, _classes, _calibration, _abstention, _confusions,
        _worst, _ladder, _data, _faults, _speed, _time, _reproduce,
    )  # fmt: skip
    made = [maker(report) for maker in makers]
    return [
        s if s.lines or s.table or s.code else Section(s.title, ("Not measured.",)) for s in made
    ]


# What each section says.


def _title(r: Row) -> str:
    return text(r.get("title")) or "Report of a design run"


def _status(r: Row) -> tuple[bool, str]:
    status = r.get("status") or {}
    reason = (text(status.get("reason")) or "").rstrip(".") or "no reason was recorded"
    return status.get("verified") is True, reason


def _facts(r: Row) -> list[tuple[str, str]]:
    facts = (
        ("sealed accuracy", pct(_at(r, "sealed", "accuracy"))),
        ("macro F1", pct(_at(r, "sealed", "macro_f1"))),
        ("parameters", short(_at(r, "shipped", "n_params"))),
        ("model", size(_at(r, "shipped", "model_bytes"))),
        ("latency, p95", ms(_at(r, "latency", "p95_ms"))),
        ("design time", duration(_at(r, "time", "spent_s"))),
    )
    return [(name, value) for name, value in facts if value is not None]


def _shipped(r: Row) -> Section:
    s, task = r.get("shipped") or {}, text(_at(r, "task", "description"))
    recipe = ", ".join(f"{text(k)}={text(v)}" for k, v in (s.get("recipe") or {}).items())
    traits = (
        _say("family {}", text(s.get("family"))),
        _say("{} parameters", count(s.get("n_params"))),
        size(s.get("model_bytes")),
        _either(s.get("int8"), "int8", "float32"),
    )
    has = ", ".join(trait for trait in traits if trait)
    error = _say(" ± {} points", _points(s.get("oof_se"))) or ""
    return _section(
        "The model",
        _say("Task: {}", None if task == _title(r) else task),
        _say("Ships {}" + (f" ({_braced(has)})." if has else "."), text(s.get("name"))),
        _say("Why: {}.", (text(s.get("chosen")) or "").rstrip(".") or None),
        _say("Selected by its accuracy of {}{} on {}.", pct(s.get("oof_accuracy")), error,
             text(s.get("fitted_on")) or "rows it had not seen"),
        _say("Trained on: {}.", text(s.get("trained_on"))),
        _say("Macro F1 on the sealed data: {}.", pct(_at(r, "sealed", "macro_f1"))),
        _say("Recipe: {}.", recipe or None),
    )  # fmt: skip


def _limits(r: Row) -> Section:
    rows, asked = _rows(r, "limits"), _at(r, "task", "limits")
    none_asked = isinstance(asked, dict) and all(value is None for value in asked.values())
    if rows == [] or (rows is None and none_asked):
        return _section("Limits", "No limit was set.")
    shown = [
        row | {k: quantity(row.get("limit"), row.get(k)) for k in ("wanted", "got")}
        for row in rows or []
    ]
    return _section(
        "Limits",
        table=_table(
            shown, ("Limit", "limit", text), ("Wanted", "wanted", given), ("Got", "got", given),
            ("Met", "met", yes), ("Note", "note", text),
        ),
    )  # fmt: skip


def _baselines(r: Row) -> Section:
    rows = _rows(r, "baselines")
    own = (r.get("sealed") or {}) | (r.get("shipped") or {})
    name = text(own.get("name")) or "shipped model"
    seconds = [x.get("seconds") for x in _rows(r, "ladder") or [] if x.get("name") == name]
    own |= {"name": f"{name} (this model)", "seconds": seconds[0] if seconds else None}
    shown = [x | {"span": _span(x)} for x in [own, *rows]] if rows else None
    return _section(
        "Baselines",
        "All on the same sealed messages. What a difference shows is said under Claims."
        if shown else None,
        table=_table(
            shown, ("Model", "name", text), ("Accuracy", "accuracy", pct),
            ("95 % interval", "span", given), ("Parameters", "n_params", count),
            ("Training", "seconds", duration),
        ),
    )  # fmt: skip


def _claims(r: Row) -> Section:
    rows, judge = _rows(r, "claims"), r.get("judge") or {}
    shown = [
        x | {"allowed": _either(x.get("allowed"), "may be said", "not shown")} for x in rows or []
    ]
    return _section(
        "Claims",
        "No claim was asked for." if rows == [] else None,
        _say("The judge: {} confirmations begun on this task so far, {} kept; false discoveries "
             "are held below {}.", count(judge.get("n_begun")), count(judge.get("n_kept")),
             pct(judge.get("alpha"))),
        table=_table(shown, ("Claim", "text", text), ("Verdict", "allowed", text),
                     ("Reason", "reason", text)),
    )  # fmt: skip


def _classes(r: Row) -> Section:
    rows = _rows(r, "sealed", "per_class")
    ranked = sorted(rows or [], key=lambda x: _order(x.get("f1")))
    weak = [_say("{} (F1 {})", text(x.get("label")), pct(x.get("f1"))) for x in ranked[:3]]
    return _section(
        "Classes, worst first",
        _say("Weakest of {}: {}.", count(len(ranked)), ", ".join(w for w in weak if w) or None)
        if len(ranked) > MAX_ROWS else None,
        table=_table(ranked, ("Class", "label", text), ("n", "n", count),
                     ("Precision", "precision", pct), ("Recall", "recall", pct), ("F1", "f1", pct)),
    )  # fmt: skip


def _calibration(r: Row) -> Section:
    c = _at(r, "sealed", "calibration") or {}
    names = {"ece": "calibration error (ECE)", "nll": "log loss (NLL)", "brier": "Brier score"}
    rows = [
        {"name": name} | {side: _at(c, side, key) for side in ("before", "after")}
        for key, name in names.items()
    ]
    known = [row for row in rows if row["before"] is not None or row["after"] is not None]
    return _section(
        "Calibration",
        _say("One temperature of {} divides the logits; it was fitted without the sealed data.",
             decimal(_at(r, "sealed", "temperature"))),
        _say("Lower is better in each row. ECE over {} bins of equal mass.", count(c.get("n_bins")))
        if known else None,
        table=_table(known, ("Measure", "name", text), ("Before", "before", decimal),
                     ("After", "after", decimal)),
        plot=reliability_plot,
        caption="Reliability: on the diagonal, a confidence is the share that is right.",
    )  # fmt: skip


def _abstention(r: Row) -> Section:
    a = _at(r, "sealed", "abstention") or {}
    threshold = a.get("threshold")
    rule = _say("Below a confidence of {} the model does not answer.", decimal(threshold))
    return _section(
        "Abstention",
        "The model answers everything: no threshold was needed." if threshold == 0 else rule,
        _say("On the sealed data it answers {} of the messages, and {} of these answers are right.",
             pct(a.get("coverage")), pct(a.get("accuracy"))),
        _say("The threshold was chosen for {} right on messages held out in training; {}.",
             pct(a.get("target")), _either(a.get("reached"), "it was reached there",
                                           "it was NOT reached there")),
        plot=coverage_plot,
        caption="Accuracy of what is answered, when the least sure messages are not.",
    )  # fmt: skip


def _confusions(r: Row) -> Section:
    rows = _rows(r, "sealed", "confusions")
    return _section(
        "Confusions",
        "No message was taken for another class." if rows == [] else None,
        table=_table(
            rows and rows[:10], ("True class", "true", text), ("Taken for", "predicted", text),
            ("Count", "count", count), ("Of the class", "share", pct),
            ("Example", "example", quote),
        ),
        plot=confusion_plot,
        caption="True class (rows) and predicted class (columns) of the most confused classes, in "
        "messages. Pairs rarer than those listed are blank; grey is right.",
    )  # fmt: skip


def _worst(r: Row) -> Section:
    rows = _rows(r, "sealed", "worst")
    return _section(
        "Most confident errors",
        "No error." if rows == [] else "Wrong labels in the data often show up here."
        if rows else None,
        table=_table(rows and rows[:10], ("Text", "text", quote), ("True class", "true", text),
                     ("Taken for", "predicted", text), ("Confidence", "probability", pct)),
    )  # fmt: skip


def _ladder(r: Row) -> Section:
    name, rows = _at(r, "shipped", "name"), _rows(r, "ladder")
    shown = [
        x | {"name": f"{x['name']} (shipped)" if name and x.get("name") == name else x.get("name")}
        | {"accuracy": _say("{}{}", pct(x.get("accuracy")),
                            _say(" ± {}", _points(x.get("se"))) or "")}
        for x in rows or []
    ]  # fmt: skip
    return _section(
        "Everything that was tried",
        "Selected by these accuracies, which are not of the sealed data and claim nothing."
        if shown else None,
        table=_table(
            shown, ("Model", "name", text), ("Family", "family", text), ("Rounds", "rounds", count),
            ("Accuracy", "accuracy", given), ("Parameters", "n_params", short),
            ("Size", "model_bytes", size), ("Latency", "latency_ms", ms),
            ("Time", "seconds", duration), ("Decision", "decision", text),
            ("Reason", "reason", text),
        ),
        plot=ladder_plot,
        caption="The accuracies of the table, with one standard error, against size; models more "
        "than 15 points below the best are not drawn.",
    )  # fmt: skip


def _data(r: Row) -> Section:
    d, labels = r.get("data") or {}, _at(r, "task", "labels")
    classes = _say(" in {} classes", count(len(labels))) if labels else ""
    return _section(
        "Data",
        _say("{} rows{}: {} to train on, {} sealed{}.", count(d.get("rows")), classes,
             count(d.get("n_train")), count(d.get("n_sealed")),
             _say(" ({})", text(d.get("sealed_from"))) or ""),
        _say("Provenance: {}.", text(d.get("provenance"))),
        _say("Sealed rows with a near-duplicate in training: {}.", count(d.get("near_duplicates"))),
    )  # fmt: skip


def _faults(r: Row) -> Section:
    rows = _rows(r, "data", "faults")
    return _section(
        "Faults of the data",
        "None was found." if rows == [] else None,
        table=_table(rows, ("Fault", "kind", text), ("Count", "count", count),
                     ("Rows", "rows", examples), ("Note", "note", text)),
    )  # fmt: skip


def _speed(r: Row) -> Section:
    facts = (
        ("latency, median", ms(_at(r, "latency", "p50_ms"))),
        ("latency, p95", ms(_at(r, "latency", "p95_ms"))),
        ("latency, p99", ms(_at(r, "latency", "p99_ms"))),
        ("throughput", _say("{} texts/s", count(_at(r, "resources", "texts_per_s")))),
        ("load time", duration(_at(r, "resources", "load_s"))),
        ("peak memory", _say("{} MB", count(_at(r, "resources", "peak_mb")))),
        ("model", size(_at(r, "resources", "model_bytes"))),
        ("whole project", size(_at(r, "resources", "project_bytes"))),
    )
    rows = [{"name": name, "value": value} for name, value in facts if value is not None]
    return _section(
        "Speed and size", table=_table(rows, ("Measure", "name", text), ("Value", "value", given))
    )


def _time(r: Row) -> Section:
    t = r.get("time") or {}
    return _section(
        "Time",
        _say("Spent {}{}.", duration(t.get("spent_s")),
             _say(" of a budget of {}", duration(t.get("budget_s"))) or ""),
        _say("First usable model after {}.", duration(t.get("first_usable_s"))),
        table=_table(_rows(r, "time", "stages"), ("Stage", "name", text),
                     ("Time", "seconds", duration)),
    )  # fmt: skip


def _reproduce(r: Row) -> Section:
    p, command = r.get("reproduce") or {}, text(_at(r, "reproduce", "command"))
    listed = [
        _say(f"{title}: {{}}.",
             ", ".join(f"{text(k)} {text(v)}" for k, v in (p.get(key) or {}).items()) or None)
        for key, title in (("versions", "Versions"), ("machine", "Machine"))
    ]  # fmt: skip
    return _section(
        "To reproduce",
        _say("Seed {}.", text(p.get("seed"))),
        _say("Line of the ledger: {}.", text(p.get("line"))),
        _say("Digest of the data: {}.", text(p.get("data_digest"))),
        *listed,
        code=(command,) if command else (),
    )


# Plots: inline SVG in the colours of the page.


def reliability_plot(r: Row) -> str:
    sides = [
        (side, color, [b for b in _rows(r, "sealed", "calibration", side, "bins") or []
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
    curve = [p for p in _rows(r, "sealed", "abstention", "curve") or []
             if None not in (p.get("coverage"), p.get("accuracy"))]  # fmt: skip
    here = _at(r, "sealed", "abstention", "coverage"), _at(r, "sealed", "abstention", "accuracy")

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
    known = [x for x in _rows(r, "ladder") or []
             if (x.get("model_bytes") or 0) > 0 and x.get("accuracy") is not None]  # fmt: skip
    best = max((x["accuracy"] for x in known), default=0)
    rows = sorted(
        (x for x in known if x["accuracy"] >= best - MAX_GAP), key=lambda x: x["accuracy"]
    )
    shipped = _at(r, "shipped", "name")

    def draw(axes: Axes) -> None:
        sizes = [x["model_bytes"] for x in rows]
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        for x in rows:
            mine = shipped is not None and x.get("name") == shipped
            axes.errorbar(
                x["model_bytes"], x["accuracy"], yerr=x.get("se") or 0, fmt="o", elinewidth=0.9,
                markersize=7 if mine else 5, color=ACCENT if mine else MUTED,
            )  # fmt: skip
        axes.margins(y=0.15)
        _name_points(axes, rows[-MAX_NAMES:], shipped)
        _percents(axes, "size of the model", "accuracy it was selected by")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: size(v) or ""))

    return _svg(draw, width=6.4) if rows else ""


def _name_points(axes: Axes, rows: Sequence[Row], shipped: str | None) -> None:
    """Names in a column on the right, far enough apart to be read; rows by accuracy."""
    low, high = axes.get_ylim()
    wanted = [(x["accuracy"] - low) / (high - low) for x in rows]
    heights: list[float] = []
    for i, at in enumerate(wanted):  # none so high that those above it lack room
        height = min(at, 1 - NAME_STEP * (len(rows) - 1 - i))
        heights.append(max(height, heights[-1] + NAME_STEP) if heights else height)
    for x, height in zip(rows, heights, strict=True):
        name = _short(text(x.get("name")) or "")
        axes.annotate(
            f"{name} (shipped)" if shipped is not None and x.get("name") == shipped else name,
            (x["model_bytes"], x["accuracy"]), (1.04, height), textcoords="axes fraction",
            va="center", arrowprops={"arrowstyle": "-", "color": MUTED, "alpha": 0.5,
                                     "linewidth": 0.6, "shrinkB": 4},
        )  # fmt: skip


def confusion_plot(r: Row) -> str:
    pairs = [p for p in _rows(r, "sealed", "confusions") or []
             if None not in (p.get("true"), p.get("predicted"), p.get("count"))]  # fmt: skip
    names: dict[str, None] = {}
    for pair in pairs:  # most frequent first
        for name in (pair["true"], pair["predicted"]):
            if len(names) < MAX_CLASSES:
                names.setdefault(name)
    at = {name: i for i, name in enumerate(sorted(names, key=str))}
    right = {
        (c["label"], c["label"]): round(c["recall"] * c["n"])
        for c in _rows(r, "sealed", "per_class") or []
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


# How values are shown: None where there is nothing to show.


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


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


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
_points = number(lambda x: f"{100 * x:.1f}")
count = number(lambda x: f"{x:,.0f}")
decimal = number(lambda x: f"{x:.3f}")
ms = number(lambda x: f"{x:.3g} ms")
duration = number(_duration)
size = number(lambda x: _scaled(x, ("B", "kB", "MB", "GB", "TB")))
short = number(lambda x: _scaled(x, ("", "k", "M", "B")))
times = number(lambda x: {1: "once", 2: "twice"}.get(int(x), f"{x:,.0f} times"))


def yes(value: Any) -> str | None:
    return _either(value, "yes", "NO") or text(value)


def _either(value: Any, true: str, false: str) -> str | None:
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


def _span(row: Row) -> str | None:
    return _say("{} to {}", _points(row.get("low")), _points(row.get("high")))


def _say(sentence: str, *values: str | None) -> str | None:
    """The sentence, or None where something in it is not known."""
    return None if None in values else sentence.format(*values)


def _braced(words: str) -> str:
    return words.replace("{", "{{").replace("}", "}}")


def _order(value: float | None) -> tuple[bool, float]:
    return value is None, value or 0.0


# How sections are put together, and how Markdown is escaped.


def _plain(value: Any) -> Any:
    """Plain JSON: no NaN, no infinity, nothing of numpy's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _at(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _rows(data: Row, *keys: str) -> list[Row] | None:
    found = _at(data, *keys)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else None


def _section(
    title: str,
    *lines: str | None,
    table: Table | None = None,
    plot: Callable[[Row], str] | None = None,
    caption: str = "",
    code: tuple[str, ...] = (),
) -> Section:
    return Section(title, tuple(line for line in lines if line), table, plot, caption, code)


def _table(rows: Iterable[Row] | None, *columns: tuple[str, str, Show]) -> Table | None:
    """One column for each heading, key and way to show; None where there is no row."""
    cells = tuple(
        tuple(show(row.get(key)) or "–" for _, key, show in columns) for row in rows or ()
    )
    numeric = tuple(show not in (text, quote, yes, examples) for _, _, show in columns)
    return Table(tuple(heading for heading, _, _ in columns), numeric, cells) if cells else None


def _md_table(table: Table) -> str:
    """Padded, so that it reads well as it is."""
    rows = [table.header, *(tuple(map(_md, row)) for row in table.rows)]
    widths = [min(MAX_PAD, max(map(len, column))) for column in zip(*rows, strict=True)]
    sides = list(zip(widths, table.numeric, strict=True))
    rows.insert(1, tuple("-" * (w - 1) + ":" if numeric else "-" * w for w, numeric in sides))
    lines = "\n".join(
        "| "
        + " | ".join(
            cell.rjust(w) if numeric else cell.ljust(w)
            for cell, (w, numeric) in zip(row, sides, strict=True)
        )
        + " |"
        for row in rows
    )
    if not table.long:
        return lines
    return f"<details><summary>all {len(table.rows)} rows</summary>\n\n{lines}\n\n</details>"


def _md(words: str) -> str:
    """Text that Markdown shows as it is, and does not make a link of."""
    words = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", words)
    words = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", words)  # inside a word _ means nothing
    words = re.sub(r"&(?=#?\w+;)", "&amp;", words).replace("<", "&lt;")
    words = re.sub(r"(?i)\bwww(?=\.)", r"\g<0>\\", words).replace("://", ":\\//")
    return re.sub(r"(?<=\w)@(?=\w)", r"\\@", words)


def _md_line(words: str) -> str:
    """A paragraph; it does not become a heading, a list, a quotation or a rule."""
    return re.sub(r"^(?:(\d+)(?=[.)])|(?=[#>+=-]))", r"\1\\", _md(words.strip()))

"""Sections on where a model is weak: slices, changed texts, labels that are near one another.

Only what was measured is told; a report without any of it has none of these sections.
"""

from __future__ import annotations

from mendel.emit.section import Section, section
from mendel.emit.values import (
    Row,
    count,
    decimal,
    given,
    part,
    pct,
    quote,
    rows_of,
    say,
    span,
    table_of,
    text,
)

N_SLICES, N_FAILURES = 8, 4


def weaknesses(report: Row) -> list[Section]:
    """In the order in which they are read; those of which nothing is known are left out."""
    made = (_hierarchy(report), _order(report), _slices(report), _behaviour(report))
    return [s for s in made if s.lines or s.table]


def is_below(row: Row, whole: object) -> bool:
    """Whether a slice's interval ends before the score of all rows."""
    high = row.get("high")
    return isinstance(whole, float) and isinstance(high, float) and high < whole


def _slices(r: Row) -> Section:
    rows, whole = rows_of(r, "slices") or [], part(r, "sealed", "score")
    below = [row for row in rows if is_below(row, whole)]
    names = [say("{} {}", text(row.get("by")), text(row.get("slice"))) for row in below[:4]]
    kept = rows if len(rows) <= N_SLICES else rows[:N_SLICES]
    return section(
        "Slices, worst first",
        say("{} slices of 20 sealed rows or more{}. Of many slices some look weak by chance: "
            "1 in 40 lies so far below.", count(len(rows)),
            say("; clearly below the whole: {}", ", ".join(n for n in names if n) or None)
            or "; none is clearly below the whole") if rows else None,
        table=table_of(
            [row | {"span": span(row)} for row in kept], ("By", "by", text),
            ("Slice", "slice", text), ("n", "n", count), ("Score", "score", pct),
            ("95 % interval", "span", given),
        ),
    )  # fmt: skip


def _behaviour(r: Row) -> Section:
    b = r.get("behaviour") or {}
    rows = rows_of(b, "tests") or []
    shown = [row | {"span": span(row), "expected": _expected(row)} for row in rows]
    failures = [
        f | {"name": row.get("name")}
        for row in rows
        if row.get("expected") == "same"
        for f in (rows_of(row, "failures") or [])[:1]
    ]
    told = [
        say('{}: "{}" was {}, and "{}" is {}.', text(f.get("name")), quote(f.get("text")),
            quote(f.get("before")), quote(f.get("changed")), quote(f.get("after")))
        for f in failures[:N_FAILURES]
    ]  # fmt: skip
    return section(
        "The same text written otherwise",
        say("{} {} were changed in small ways; the answer is expected to stay. Labels play no part "
            "in this. English phrases and negation say little of other languages.",
            count(b.get("n_texts")), text(b.get("texts_are"))),
        say("Not measured: {}.", text(b.get("error"))),
        *told,
        table=table_of(
            shown, ("Change", "name", text), ("Texts", "n", count),
            ("Answer stays", "share", pct), ("95 % interval", "span", given),
            ("Expected", "expected", text),
        ),
    )  # fmt: skip


def _expected(row: Row) -> str:
    return "stays" if row.get("expected") == "same" else "may change: read as a number only"


def _hierarchy(r: Row) -> Section:
    h = part(r, "sealed", "hierarchy") or {}
    rows = rows_of(h, "levels") or []
    return section(
        "Labels as a hierarchy",
        say("Hierarchical F1 {}: labels that share their beginning are partly right "
            "(Kiritchenko 2006).", pct(h.get("f1"))),
        say("Of {} errors {} stay in the right branch at the first level.", count(h.get("n_wrong")),
            count(h.get("n_inside"))),
        table=table_of(
            [row | {"span": span(row)} for row in rows], ("Level", "level", count),
            ("Labels", "n_labels", count), ("n", "n", count), ("Accuracy", "score", pct),
            ("95 % interval", "span", given),
        ),
    )  # fmt: skip


def _order(r: Row) -> Section:
    o = part(r, "sealed", "ordinal") or {}
    return section(
        "Labels as an order",
        say("From the least to the most: {}.",
            ", ".join(str(text(x)) for x in o.get("order") or []) or None),
        say("An answer is {} ranks from the truth on average; {} of them are off by more than "
            "one.", decimal(o.get("mean_ranks_off")), pct(o.get("far_off"))),
        say("Agreement beyond chance, far errors counting more (quadratic weighted kappa): {}.",
            decimal(o.get("kappa"))),
    )  # fmt: skip

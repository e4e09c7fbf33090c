"""Two lines of a report: what a model was made of, by which leave, and what an answer costs."""

from __future__ import annotations

from mendel.emit.values import Row, count, given, number, rows_of, say, short, size, text


def licence_line(data: Row) -> str | None:
    """Each input with its size, the start of its digest, and its licence."""
    told = [
        say("{} ({}{}{}): {}", text(s.get("name")), text(s.get("file")),
            say(", {}", size(s.get("bytes"))) or "",
            say(", sha256 {}", (text(s.get("sha256")) or "")[:12] or None) or "",
            text(s.get("licence")))
        for s in rows_of(data, "sources") or []
    ]  # fmt: skip
    return say("Licences: {}.", "; ".join(line for line in told if line) or None)


def cost_line(r: Row) -> str | None:
    """One line, with what it assumes."""
    c = r.get("cost") or {}
    beside = say(" A call of {} euro gives {} a euro.", given(c.get("api_price")),
                 count(c.get("api_texts_per_euro")))  # fmt: skip
    return say(
        "Estimated, not measured: {} answers a joule, {} a euro of electricity, if a processor of "
        "{} W ran at full power for the median time of each, at {} euro a kWh; without the machine "
        "and its keep.{}", short(c.get("texts_per_joule")), _millions(c.get("texts_per_euro")),
        given(c.get("tdp_w")), given(c.get("euro_per_kwh")), beside or "",
    )  # fmt: skip


_millions = number(lambda x: f"{x / 1e6:,.0f} million")

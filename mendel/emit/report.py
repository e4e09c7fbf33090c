"""The report of a design run: for a machine (JSON), a reader (Markdown), a browser (HTML).

report --sections--> plain prose and tables --escape--> report.md, report.html (plots inline)

Whatever the report lacks is left out or said to be not measured. Texts and labels come from
users' data and are trusted nowhere: control characters are shown, and what means something in
Markdown or HTML is escaped where it is written, never before.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mendel.emit.plain import plain
from mendel.emit.section import Section
from mendel.emit.sections import sections, title
from mendel.emit.technical import ABOUT, technical
from mendel.emit.values import (
    Row,
    Table,
    count,
    duration,
    ms,
    part,
    pct,
    say,
    short,
    size,
    span,
    text,
    times,
)

MAX_PAD = 40  # of a column in Markdown
PLAIN, TECHNICAL = "report.plain.md", "TECHNICAL.md"


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.json, report.md and report.html; the same report gives the same bytes.

    report  title task metric status data shipped sealed baselines claims latency resources time
            limits ladder judge reproduce; sealed holds sections of measure.py. All may be absent
    folder  made where it is missing
    """
    data: Row = _plain(report)
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    for name, content in (("json", as_json), ("md", markdown(data)), ("html", page(data))):
        # a lone surrogate is left in the JSON only, where \udc80 is how it is written
        (folder / f"report.{name}").write_bytes(content.encode("utf-8", "backslashreplace"))


def write_text(content: str, file: Path) -> None:
    """One of the texts below, as write_report writes them."""
    file.write_bytes(content.encode("utf-8", "backslashreplace"))


def markdown(report: Mapping[str, Any]) -> str:
    """The report to be read in two minutes."""
    data: Row = _plain(report)
    verified, why = _status(data)
    blocks = [f"# {_md(title(data))}"]
    blocks += [] if verified else [f"> **UNVERIFIED**: {_md(why)}."]
    blocks += [f"**{_md(headline(data))}**"]
    blocks += [f"Verified: {_md(why)}."] if verified else []
    return _joined([*blocks, *_blocks(sections(data))])


def plain_markdown(report: Mapping[str, Any]) -> str:
    """For readers who are not engineers."""
    data: Row = _plain(report)
    return _joined([f"# {_md(title(data))}, in plain words", *_blocks(plain(data))])


def technical_markdown(report: Mapping[str, Any]) -> str:
    """The technical file, as a regulator would ask for."""
    data: Row = _plain(report)
    return _joined([f"# Technical file: {_md(title(data))}", ABOUT, *_blocks(technical(data))])


def _blocks(shown: Sequence[Section]) -> list[str]:
    blocks = []
    for section in shown:
        blocks += [f"## {section.title}", *map(_md_line, section.lines)]
        blocks += [_md_table(section.table)] if section.table else []
        blocks += ["\n".join(f"    {line}" for line in section.code)] if section.code else []
    return blocks


def _joined(blocks: Sequence[str]) -> str:
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
        title=title(data),
        headline=headline(data),
        verified=verified,
        why=why,
        facts=_facts(data),
        sections=[(section, section.plot(data) if section.plot else "") for section in shown],
    )


def headline(report: Row) -> str:
    """The main number with its interval, its n, and how often the sealed data was opened."""
    sealed = part(report, "sealed") or {}
    score, metric = pct(sealed.get("score")), text(report.get("metric")) or "accuracy"
    if score is None:
        return f"Sealed {metric}: not measured"
    notes = [
        say("95 % interval {}", span(sealed)),
        say("{} messages", count(sealed.get("n"))),
        say("opened {}", times(sealed.get("opened"))),
    ]
    noted = ", ".join(note for note in notes if note)
    return f"Sealed {metric} {score}" + (f" ({noted})" if noted else "")


def _status(r: Row) -> tuple[bool, str]:
    status = r.get("status") or {}
    reason = (text(status.get("reason")) or "").rstrip(".") or "no reason was recorded"
    return status.get("verified") is True, reason


def _facts(r: Row) -> list[tuple[str, str]]:
    facts = (
        (f"sealed {text(r.get('metric')) or 'accuracy'}", pct(part(r, "sealed", "score"))),
        ("macro F1", pct(part(r, "sealed", "macro_f1"))),
        ("parameters", short(part(r, "shipped", "n_params"))),
        ("model", size(part(r, "shipped", "model_bytes"))),
        ("latency, p95", ms(part(r, "latency", "p95_ms"))),
        ("design time", duration(part(r, "time", "spent_s"))),
    )
    return [(name, value) for name, value in facts if value is not None]


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


def _md_table(table: Table) -> str:
    """Padded, so that it reads well as it is."""
    rows = [table.header, *(tuple(map(_md, row)) for row in table.rows)]
    widths = [min(MAX_PAD, max(2, *map(len, column))) for column in zip(*rows, strict=True)]
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

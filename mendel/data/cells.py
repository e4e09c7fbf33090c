"""From the cell of a row to a text, or to what a model is to answer; every mend is counted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from mendel.data.faults import MAX_CHARS, Log
from mendel.data.targets import Span, Target, TaskKind

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
SEPARATOR = re.compile("[|;]")  # of labels in one cell; commas are common inside of labels
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
TYPES = ("label", "type", "entity", "tag", "entity_group")

Reader = Callable[[Any, str, int, Log], Target | None]


def plain(value: object) -> str:
    """The text of a cell; none of what is null, a list or an object."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list | tuple) or value != value:
        return ""
    return json.dumps(value, default=str)


@lru_cache(maxsize=10_000)
def squeezed(label: str) -> str:
    """The label without control characters and spare white space."""
    return " ".join(CONTROL.sub(" ", label).split())


def clean_text(text: str, row: int, log: Log) -> str:
    """The text, of bounded length; each control character is a space, so that offsets stay."""
    if len(text) > MAX_CHARS:
        log.add("long-text", row)
        text = text[:MAX_CHARS]
    if CONTROL.search(text):
        log.add("control-character", row)
        text = CONTROL.sub(" ", text)
    return text


def label_of(cell: Any, text: str, row: int, log: Log) -> str | None:
    label = plain(cell)
    if CONTROL.search(label):
        log.add("control-character", row)
        label = CONTROL.sub(" ", label)
    squeezed = " ".join(label.split())
    if not squeezed:
        log.add("empty", row)
        return None
    if squeezed != label:
        log.add("label-space", row)
    return squeezed


def labels_of(cell: Any, text: str, row: int, log: Log) -> tuple[str, ...] | None:
    """The labels of a list, or of a text that | or ; part; an empty list or text has none."""
    if cell is None or isinstance(cell, dict) or cell != cell:
        log.add("empty", row)
        return None
    if not isinstance(cell, list):
        return tuple(sorted({*map(squeezed, SEPARATOR.split(plain(cell)))} - {""}))
    labels = [squeezed(plain(item)) for item in cell]
    for _ in range(labels.count("")):
        log.add("odd-label", row)
    return tuple(sorted({*labels} - {""}))


def number_of(cell: Any, text: str, row: int, log: Log) -> float | None:
    """A finite number, with a point for its decimals."""
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    log.add("not-a-number" if plain(cell).strip() else "empty", row)
    return None


def spans_of(cell: Any, text: str, row: int, log: Log) -> tuple[Span, ...] | None:
    """Spans of characters, each an object with start, end and label, or a list of the three.

    returns  sorted, disjoint, inside of the text, without white space at their ends
    """
    if not isinstance(cell, list):
        log.add("empty", row)
        return None
    found = [_span(item) for item in cell]
    for _ in range(found.count(None)):
        log.add("odd-span", row)
    fits = [_fitted(span, text, row, log) for span in found if span is not None]
    return _disjoint([span for span in fits if span is not None], row, log)


READERS: dict[TaskKind, Reader] = {
    "classify": label_of,
    "pair": label_of,
    "multilabel": labels_of,
    "tag": spans_of,
    "regress": number_of,
}


def _span(item: Any) -> Span | None:
    if type(item) is Span:
        return item
    if isinstance(item, dict):
        start, end, label = (_first_of(item, keys) for keys in (STARTS, ENDS, TYPES))
    elif isinstance(item, list | tuple) and len(item) >= 3:
        start, end, label = item[:3]
    else:
        return None
    name = squeezed(plain(label))
    is_whole = type(start) is int and type(end) is int
    return Span(start, end, name) if is_whole and name else None


def _first_of(item: dict[str, Any], keys: Iterable[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _fitted(span: Span, text: str, row: int, log: Log) -> Span | None:
    """The span without white space at its ends; None for one that is not in the text."""
    if not 0 <= span.start <= span.end <= len(text):
        log.add("span-outside", row)
        return None
    piece = text[span.start : span.end]
    if not piece.strip():
        log.add("empty-span", row)
        return None
    if not (piece[0].isspace() or piece[-1].isspace()):
        return span
    log.add("span-space", row)
    start = span.start + len(piece) - len(piece.lstrip())
    return Span(start, start + len(piece.strip()), span.label)


def _disjoint(spans: Sequence[Span], row: int, log: Log) -> tuple[Span, ...]:
    """The longest first, of equals the first, as long as they do not overlap what is kept."""
    ordered = tuple(sorted(spans))
    if all(one.end <= other.start for one, other in pairwise(ordered)):
        return ordered
    kept: list[Span] = []
    taken = bytearray(max((span.end for span in spans), default=0))
    for span in sorted(spans, key=lambda span: span.start - span.end):
        if 1 in taken[span.start : span.end]:
            log.add("overlapping-span", row)
            continue
        taken[span.start : span.end] = b"\1" * (span.end - span.start)
        kept.append(span)
    return tuple(sorted(kept))

"""Records and the texts that say them: values to spans and back, and whether a record fits.

learn: texts, records -> fields, records as answers give them    align: record -> spans
record_of: spans -> record                                       fits: a record beside a reading
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .aliases import aliases, phrases
from .fields import (
    Field,
    Fields,
    Record,
    Value,
    canonical,
    fields_of,
    folded,
    is_of_type,
    key,
    variants,
)
from .spans import Span, Token, tokenize

LONGEST = {"date": 9, "number": 3, "amount": 6}  # tokens of a value
ORDER = ("date", "amount", "text", "choice", "flag", "number")  # a number is in all the others
SIGNS = "-+−"


def learn(
    texts: Sequence[str], records: Sequence[Record]
) -> tuple[dict[str, Field], list[dict[str, Value]]]:
    """The fields as these texts write them, and the records as answers give them."""
    own = fields_of(records)
    told = [canonical(record, own) for record in records]
    fields = fields_of(told)
    fields = {name: _as_written(name, fields[name], texts, told) for name in fields}
    return _with_aliases(fields, texts, told), told


def _with_aliases(
    fields: dict[str, Field], texts: Sequence[str], records: Sequence[Record]
) -> dict[str, Field]:
    """Choices with the phrases that texts have for their values."""
    names = [name for name, found in fields.items() if found.type in ("choice", "flag")]
    if not names:
        return fields
    said = [phrases(text, tokenize(text)) for text in texts]
    for name in names:
        found = fields[name]
        more = aliases(found, said, [record.get(name) for record in records])
        fields[name] = replace(found, forms={**found.forms, **more})
    return fields


def _as_written(name: str, found: Field, texts: Sequence[str], records: Sequence[Record]) -> Field:
    """With the order of dates and the marks of numbers by which more values are in their text."""
    others = variants(found)
    if not others:
        return found
    pairs = zip(texts, records, strict=True)
    rows = [(text, tokenize(text), record[name]) for text, record in pairs if name in record]

    def n_said(field: Field) -> int:
        return sum(locate(*row, field) is not None for row in rows)

    return max([found, *others], key=n_said)


def locate(
    text: str,
    tokens: Sequence[Token],
    value: Value,
    field: Field,
    taken: Sequence[Span] = (),
) -> tuple[int, int] | None:
    """Start and end of the longest piece of the text that says the value, of equals the first.

    taken   spans that the piece must not overlap
    """
    found: Iterator[tuple[int, int]]
    if field.type in LONGEST:
        wanted = key(value)
        pieces = _pieces(text, tokens, LONGEST[field.type])
        found = (p for p in pieces if _is(text[slice(*p)], field, wanted))
    else:
        found = _said(text, tokens, {str(key(value)), *_forms(field, value)})
    free = [(a, b) for a, b in found if all(b <= s.start or s.end <= a for s in taken)]
    return min(free, key=lambda piece: (piece[0] - piece[1], piece[0]), default=None)


def _is(written: str, field: Field, wanted: Value) -> bool:
    read = field.read(written)
    return read is not None and key(read) == wanted


def _forms(field: Field, value: Value) -> Iterator[str]:
    return (form for form, other in field.forms.items() if key(other) == key(value))


def _pieces(text: str, tokens: Sequence[Token], longest: int) -> Iterator[tuple[int, int]]:
    """Runs of tokens that neither begin nor end with a mark, but for a sign before a number."""
    words = [text[t.start : t.end] for t in tokens]
    is_mark = [not folded(word) for word in words]
    for i, first in enumerate(tokens):
        if is_mark[i] and words[i] not in SIGNS:
            continue
        for j in range(i, min(i + longest, len(tokens))):
            if not is_mark[j]:
                yield first.start, tokens[j].end


def _said(text: str, tokens: Sequence[Token], forms: set[str]) -> Iterator[tuple[int, int]]:
    """Runs of tokens that say one of the folded forms."""
    words = [folded(text[t.start : t.end]) for t in tokens]
    for i, first in enumerate(tokens):
        if not words[i]:
            continue
        open_ = {form for form in forms if form.startswith(words[i])}
        longest = max(map(len, open_), default=0)
        for j in range(i, len(tokens) if open_ else i):
            said = folded(text[first.start : tokens[j].end])
            if len(said) > longest:
                break
            if words[j] and said in open_:
                yield first.start, tokens[j].end


def align(text: str, record: Record, fields: Fields) -> list[Span]:
    """The span of each value that is in the text, in order; none over another."""

    def rank(item: tuple[str, Value]) -> tuple[int, int]:
        return ORDER.index(fields[item[0]].type), -len(str(item[1]))

    tokens, spans = tokenize(text), list[Span]()
    for name, value in sorted(record.items(), key=rank):
        if found := locate(text, tokens, value, fields[name], spans):
            spans.append(Span(*found, name))
    return sorted(spans)


def record_of(
    text: str, spans: Sequence[Span], fields: Fields
) -> tuple[dict[str, Value], list[Span]]:
    """What the spans say, and the places that say it: of each field the first that can be read."""
    record: dict[str, Value] = {}
    used = []
    for span in spans:
        if span.label in record or span.label not in fields:  # one that no row of training has
            continue
        for place in _places(text, span, fields[span.label]):
            value = fields[span.label].read(text[place.start : place.end])
            if value is not None:
                record[span.label] = value
                used.append(place)
                break
    return record, used


def _places(text: str, span: Span, field: Field) -> Iterator[Span]:
    """The span, and for dates, numbers and amounts what lies in it, the longest first."""
    yield span
    if field.type in LONGEST:
        inside = text[span.start : span.end]
        pieces = _pieces(inside, tokenize(inside), LONGEST[field.type])
        for start, end in sorted(pieces, key=lambda piece: piece[0] - piece[1]):
            yield Span(span.start + start, span.start + end, span.label)


def fits(text: str, given: Record, read: Record, fields: Fields) -> list[dict[str, Any]]:
    """How each field of a record fits a text, where `read` is what the model reads in it.

    returns   field, value, verdict, reads. The verdict is "fits", or what is wrong: unknown field,
              wrong type, not in the text, read otherwise, missing
    """
    say = partial(_verdict, text, tokenize(text), read, fields)
    names = [*given, *(name for name in read if name not in given)]
    return [
        {"field": name, "value": given.get(name), "verdict": say(name, given.get(name)),
         "reads": read.get(name)}
        for name in names
    ]  # fmt: skip


def _verdict(
    text: str, tokens: Sequence[Token], read: Record, fields: Fields, name: str, value: Value | None
) -> str:
    if name not in fields:
        return "unknown field"
    if value is None:
        return "missing" if name in read else "fits"
    told = canonical({name: value}, fields)[name]
    if name in read and key(read[name]) == key(told):
        return "fits"
    if not is_of_type(value, fields[name]):
        return "wrong type"
    if locate(text, tokens, told, fields[name]) is None:
        return "not in the text"
    return "read otherwise"


def same(one: Mapping[str, Value], other: Mapping[str, Value]) -> set[str]:
    """Fields of which both say the same."""
    return {name for name in one if name in other and key(one[name]) == key(other[name])}

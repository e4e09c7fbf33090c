"""Texts without answers, to learn from beside the labelled ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mendel.data.arrow import PARQUET
from mendel.data.cells import clean_text
from mendel.data.decode import decoded, lines_of, read_bytes
from mendel.data.delimited import is_json_lines
from mendel.data.faults import Fault, Log
from mendel.data.readers import read_examples
from mendel.data.sentences import is_conll
from mendel.types import Digest, digest

TABLES = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class Texts:
    texts: tuple[str, ...]
    faults: tuple[Fault, ...]
    text_column: str  # "" for lines of plain text
    digest: Digest


def read_texts(path: Path, *, text_column: str | None = None) -> Texts:
    """The texts of a file without labels, or with labels that are not looked at.

    path          plain text, one a line; or anything that read_examples reads: CSV and TSV by the
                  suffix, all else by content
    text_column   of a table; None = guess it
    returns       texts in the order of the file, repeated ones too
    raises        InputError when there is no text in it
    """
    log = Log()
    lines = None if text_column or os.path.isdir(path) else _lines(path, log)
    if lines is None:
        found = read_examples(path, text_column=text_column, labelled=False)
        return Texts(found.texts, found.faults, found.text_column, digest(found.texts))
    texts = tuple(_cleaned(lines, log))
    return Texts(texts, log.faults(), "", digest(texts))


def _lines(path: Path, log: Log) -> list[str] | None:
    """The lines of plain text; None for a table."""
    raw = read_bytes(path)
    if path.suffix.lower() in TABLES or path.name == "seq.in" or raw.startswith(PARQUET):
        return None
    content = decoded(path, raw, log)
    is_table = is_json_lines(path, content) or is_conll(path, content, wanted=False)
    return None if is_table else lines_of(content)


def _cleaned(lines: list[str], log: Log) -> Iterator[str]:
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = clean_text(line, number, log)
        if not text or text.isspace():
            log.add("empty-line", number)
            continue
        if text in seen:
            log.add("duplicate", number)
        seen.add(text)
        yield text

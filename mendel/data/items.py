"""A corpus as the items that a writer learns to write: names, speeches, stories, documents.

path --texts--> one string a file --pieces--> items --clean--> Examples
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mendel.data.cells import clean_text
from mendel.data.decode import decoded, read_bytes
from mendel.data.delimited import JSON_SUFFIXES
from mendel.data.faults import MAX_CHARS, Log
from mendel.data.readers import Examples
from mendel.data.texts import TABLES, read_texts
from mendel.types import InputError, digest

BREAK = "\u2424"  # a line break inside of an item: items are lines wherever they go
MARK = "<|endoftext|>"
BLANK = re.compile(r"\n[ \t]*\n\s*")
ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # other systems' line ends
MIN_ITEMS = 20  # fewer of a form, and it is not the form
LONG = 2_000  # characters of a piece of text that has no form


def read_items(path: Path, *, text_column: str | None = None) -> Examples:
    """The distinct items of a text file, of a folder of text files, or of a table's text column.

    path      what an item is, the form says: pieces between <|endoftext|> marks; else between
              blank lines; else lines; of a folder with 20 files or more, a file. A text of none of
              these forms is cut at white space
    returns   items in order; a line break inside of one is BREAK; targets are counts of bytes
    raises    InputError where there is no text
    """
    log, column = Log(), ""
    if os.path.isdir(path):
        items = _of_folder(path, log)
    elif path.suffix.lower() in {*TABLES, *JSON_SUFFIXES}:
        found = read_texts(path, text_column=text_column)
        items, column = list(found.texts), found.text_column
    else:
        items = list(pieces(decoded(path, read_bytes(path), log)))
    texts = tuple(_cleaned(items, log))
    if not texts:
        raise InputError(f"{path} has no text in it. Wanted items to learn from. Give another.")
    targets = tuple(n_bytes(text) for text in texts)
    return Examples(texts, targets, "generate", log.faults(), column or "text", "",
                    digest([texts, targets]), None)  # fmt: skip


def n_bytes(text: str) -> int:
    """Of an item in UTF-8, its end counted as one, as a line's would be."""
    return len(text.replace(BREAK, "\n").encode("utf-8", "replace")) + 1


def pieces(text: str) -> list[str]:
    """The items of one text, by the first form that it has."""
    text = ENDS.sub("\n", text)
    if text.count(MARK) >= 2:
        return text.split(MARK)
    for found in (BLANK.split(text), text.split("\n")):
        if sum(not piece.isspace() and piece != "" for piece in found) >= MIN_ITEMS:
            return found
    return list(_cut(text, max(min(LONG, len(text) // (2 * MIN_ITEMS)), 1)))


def _cut(text: str, size: int) -> Iterator[str]:
    """Pieces of that many characters at most, cut at white space where there is some."""
    at = 0
    while at < len(text):
        end = at + size
        cut = max(text.rfind(" ", at, end), text.rfind("\n", at, end)) if end < len(text) else -1
        end = cut + 1 if cut > at else end
        yield text[at:end]
        at = end


def _of_folder(folder: Path, log: Log) -> list[str]:
    texts = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder)):
        own = Log()
        if not file.resolve().is_relative_to(folder.resolve()):  # a link to what nobody gave
            log.add("no-text-file")
            continue
        try:
            texts.append(decoded(file, read_bytes(file), own))
        except InputError:
            log.add("no-text-file")
            continue
        for kind in own.seen:
            log.add(kind)
    if len(texts) >= MIN_ITEMS:
        return [ENDS.sub("\n", text) for text in texts]
    return [item for text in texts for item in pieces(text)]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _short(items: Sequence[str], log: Log) -> Iterator[tuple[int, str]]:
    for number, item in enumerate(items, 1):
        if len(item) > MAX_CHARS:
            log.add("long-item", number)
        yield from ((number, piece) for piece in _cut(item, MAX_CHARS))


def _cleaned(items: Sequence[str], log: Log) -> Iterable[str]:
    """Each once, without the white space around it, on one line."""
    seen: set[str] = set()
    for number, item in _short(items, log):
        one_line = ENDS.sub("\n", item).strip().replace("\n", BREAK)
        text = clean_text(one_line, number, log)
        if not text.strip(BREAK + " "):
            continue
        if text in seen:
            log.add("repeated-item", number)
            continue
        seen.add(text)
        yield text

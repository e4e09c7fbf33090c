"""A folder of documents as passages: paragraphs below their headings, up to about 120 words.

file -> text -> blocks (paragraphs and headings, with their place) -> passages
"""

from __future__ import annotations

import codecs
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from .passages import Passage
from .words import words

MAX_WORDS = 120  # of a passage
SUFFIXES = {".txt", ".md", ".markdown", ".rst", ".html", ".htm"}
PIECE = re.compile(r"\S{1,80}")  # a word; a run without spaces is cut, as base64 is
MARKDOWN = re.compile(r"#{1,6}\s+\S")
FENCE = re.compile(r"\s*(```|~~~)")
UNDERLINE = re.compile(r"([=\-~^\"'`*+#:.<>_])\1{2,}\s*$")
CONTROL = {*range(32)} - {*b"\t\n\r\f\x1b"}
BLOCKS = {  # tags that break a line
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt",
    "figcaption", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
TITLES = {"h1", "h2", "h3", "h4", "h5", "h6", "title"}
SILENT = {"script", "style", "template", "noscript"}


@dataclass(frozen=True)
class Documents:
    """What a folder holds.

    passages   in the order of file names, then of place
    files      that gave one or more
    odd        what was odd -> the files: binary, unreadable, empty, linked (to
               a file elsewhere) are left out, encoding is not
    others     files of other suffixes, which were not looked at
    """

    passages: tuple[Passage, ...]
    files: tuple[str, ...]
    odd: dict[str, tuple[str, ...]]
    others: int


@dataclass(frozen=True)
class Block:
    """A paragraph or a heading: characters start to end of a file."""

    start: int
    end: int
    text: str
    is_heading: bool = False


def read_documents(folder: Path) -> Documents:
    """The passages of all .txt .md .rst .html files below a folder; hidden ones are left out."""
    passages: list[Passage] = []
    odd: dict[str, list[str]] = {}
    files, others = [], 0
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        if file.suffix.lower() not in SUFFIXES:
            others += 1
            continue
        text, why = (None, "linked") if _leaves(file, folder) else _read(file)
        found = [] if text is None else passages_of(name, text)
        if not found:
            why = why if text is None else "empty"
        if why:
            odd.setdefault(why, []).append(name)
        passages += found
        files += [name] if found else []
    kept = {why: tuple(names) for why, names in odd.items()}
    return Documents(tuple(passages), tuple(files), kept, others)


def passages_of(name: str, text: str) -> list[Passage]:
    """The passages of one document, in order, none over another."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    is_html = name.lower().endswith((".html", ".htm"))
    blocks = _html(text) if is_html else _plain(text, name.lower().endswith((".md", ".markdown")))
    breaks = [i for i, character in enumerate(text) if character == "\n"]
    found = []
    for group in _grouped(piece for block in blocks for piece in _split(block)):
        start, end = group[0].start, group[-1].end
        said = "\n".join(b.text for b in group) if is_html else text[start:end]
        if words(said):
            lines = bisect_right(breaks, start - 1) + 1, bisect_right(breaks, end - 2) + 1
            found.append(Passage(name, *lines, start, end, said))
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            if not name.startswith(".") and (file.is_file() or not file.exists()):
                yield file


def _leaves(file: Path, folder: Path) -> bool:
    """A link to a file elsewhere: nobody asked for what lies there, and passages travel."""
    return file.exists() and not file.resolve().is_relative_to(folder.resolve())


def _read(file: Path) -> tuple[str | None, str]:
    """Its text, and what is odd about it; None for what is no text."""
    try:
        content = file.read_bytes()
    except OSError:
        return None, "unreadable"
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
        return (text, "") if "\0" not in text else (None, "binary")
    except UnicodeDecodeError:
        n_control = sum(byte in CONTROL for byte in content)
        if is_wide or 100 * n_control > len(content):
            return None, "binary"
        return content.decode("cp1252", "replace"), "encoding"


def _plain(text: str, is_markdown: bool) -> Iterator[Block]:
    """Paragraphs between empty lines; headings by # or by a line of marks below them."""
    start, fenced = 0, False
    own: list[tuple[int, str]] = []  # place and text of the lines of a paragraph
    for line in [*text.split("\n"), ""]:
        is_fence = is_markdown and bool(FENCE.match(line))
        if is_markdown and not fenced and MARKDOWN.match(line):
            yield from _paragraph(own)
            own = []
            yield Block(start, start + len(line.rstrip()), line.strip(), True)
        elif not fenced and len(own) in (1, 2) and _underlines(line, own):
            yield Block(own[0][0], start + len(line.rstrip()), own[-1][1].strip(), True)
            own = []
        elif line.strip():
            own.append((start, line))
        else:
            yield from _paragraph(own)
            own = []
        fenced ^= is_fence
        start += len(line) + 1
    yield from _paragraph(own)


def _underlines(line: str, own: list[tuple[int, str]]) -> bool:
    """Whether a line of marks makes the line above it a heading, as in reStructuredText."""
    above = own[-1][1]
    is_line = bool(UNDERLINE.match(line)) and len(line.rstrip()) >= min(len(above.rstrip()), 8)
    is_framed = len(own) == 1 or bool(UNDERLINE.match(own[0][1]))
    return is_line and is_framed and bool(words(above)) and not above.startswith((" ", "|"))


def _paragraph(lines: list[tuple[int, str]]) -> Iterator[Block]:
    if lines:
        first, last = lines[0], lines[-1]
        indent = len(first[1]) - len(first[1].lstrip())
        end = last[0] + len(last[1].rstrip())
        yield Block(first[0] + indent, end, "\n".join(line for _, line in lines).strip())


class _Html(HTMLParser):
    """Text between tags that break lines; scripts and styles say nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._begins = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
        self._said: list[str] = []
        self._place = (0, 0)
        self._silent = 0
        self.feed(text)
        self.close()
        self._flush(False)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS or tag in TITLES:
            self._flush(False)
        self._silent += tag in SILENT

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS or tag in TITLES:
            self._flush(tag in TITLES)
        self._silent = max(self._silent - (tag in SILENT), 0)

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if not data.strip():
            self._said += [" "] if self._said else []
            return
        line, column = self.getpos()
        start = self._begins[line - 1] + column
        begin, end = start + len(data) - len(data.lstrip()), start + len(data.rstrip())
        self._place = (self._place[0] if self._said else begin, end)
        self._said.append(data)

    def _flush(self, is_heading: bool) -> None:
        said = " ".join("".join(self._said).split())  # a tag inside a word does not part it
        if said:
            self.blocks.append(Block(*self._place, said, is_heading))
        self._said = []


def _html(text: str) -> list[Block]:
    return _Html(text).blocks


def _split(block: Block) -> Iterator[Block]:
    """A block of more words than a passage holds, in pieces."""
    pieces = list(PIECE.finditer(block.text))
    if len(pieces) <= MAX_WORDS:
        yield block
        return
    for i in range(0, len(pieces), MAX_WORDS):
        begin, end = pieces[i].start(), pieces[min(i + MAX_WORDS, len(pieces)) - 1].end()
        last = min(block.start + end, block.end)  # of HTML, whose text is shorter, about there
        yield Block(min(block.start + begin, last), last, block.text[begin:end])


def _grouped(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks that make a passage: headings go with what follows them."""
    group: list[Block] = []
    n_words = 0
    for block in blocks:
        n = len(PIECE.findall(block.text))
        opens = block.is_heading and not all(b.is_heading for b in group)
        is_full = n_words + n > MAX_WORDS and not all(b.is_heading for b in group)
        if group and (opens or is_full):
            yield group
            group, n_words = [], 0
        group.append(block)
        n_words += n
    if group:
        yield group

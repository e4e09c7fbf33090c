"""Sentences whose tokens are tagged: CoNLL files, and folders of seq.in, seq.out and label.

text --read_conll, read_seq--> Table of tokens and tags --with_spans--> Table of texts and spans
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mendel.data.bio import n_broken, scheme_of, spans_of_tags
from mendel.data.decode import decoded, lines_of, read_bytes
from mendel.data.delimited import Table
from mendel.data.faults import Log
from mendel.types import InputError

SUFFIXES = {".conll", ".conll03", ".bio", ".iob", ".iob2", ".bioes"}
SEQ = ("seq.in", "seq.out", "label")
TAG = re.compile(r"O|[BIESLUM][-_]\S+")
SENTENCE = re.compile(r"^(?:[^\S\n]*\S[^\n]*\n?)+", re.MULTILINE)  # lines up to a blank one
DOCUMENT = re.compile(r"^-DOCSTART-[^\n]*", re.MULTILINE)
N_LOOK = 400  # lines that tell a CoNLL file
NOTE = {
    "IO": "no tag begins a span: tokens with the same tag are one span while they touch",
    "IOB1": "tags are IOB1, where B only parts spans that touch",
    "BIOES": "tags are BIOES (or BILOU, BMES)",
}


def is_conll(path: Path, content: str, *, wanted: bool) -> bool:
    """By the suffix, or by lines that end with a tag.

    wanted  True = the user asks for tags: half of the lines are enough, else nearly all must do
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    lines = [line for line in lines_of(content[:60_000]) if line.strip()]
    if len(lines) > 1 and len(content) > 60_000:
        lines.pop()  # it is cut
    fields = _fields(lines[:N_LOOK])
    n_tagged = sum(len(line) > 1 and bool(TAG.fullmatch(line[-1])) for line in fields)
    has_outside = any(line[-1] == "O" for line in fields)
    return has_outside and n_tagged >= (0.5 if wanted else 0.95) * len(fields)


def read_conll(content: str, labelled: bool, log: Log) -> Table:
    """Token first, tag last, blank lines between sentences; rows are numbered by their first line.

    labelled  False = there may be one column only
    log       sentences with a line of another width than most are counted and left out
    """
    blocks = list(_blocks(content))
    widths: Counter[int] = Counter()
    for _, block in blocks:
        widths.update(map(len, block))
    width = max(widths, key=lambda n: widths[n], default=0)
    n_needed = 2 if labelled else 1
    found = {}
    for number, block in blocks:
        columns = list(zip(*block, strict=False))
        if {*map(len, block)} == {width} and all(columns[0]) and width >= n_needed:
            found[number] = [*columns[0]], [*columns[-1]]
        else:
            log.add("ragged-sentence", number)
    return Table(("tokens", "tags"), [*found.values()], [*found])


def is_seq(folder: Path) -> bool:
    return (folder / SEQ[0]).is_file()


def read_seq(folder: Path, log: Log) -> Table:
    """Columns named as the files are: tokens, tags where there are any, and a label of the whole.

    raises  InputError when the files have not one line for each sentence
    """
    names = [name for name in SEQ if (folder / name).is_file()]
    files = [folder / name for name in names]
    columns = [lines_of(decoded(file, read_bytes(file), log)) for file in files]
    if len({len(lines) for lines in columns}) > 1:
        got = ", ".join(f"{len(c):,} of {n}" for n, c in zip(names, columns, strict=True))
        raise InputError(
            f"the files of {folder} do not fit together. Got lines: {got}. Wanted one line for "
            "each sentence in every file. Write them anew from one source."
        )
    is_split = [name != "label" for name in names]
    rows = [
        [cell.split() if split else cell for cell, split in zip(row, is_split, strict=True)]
        for row in zip(*columns, strict=True)
    ]
    return Table(tuple(names), rows, range(1, len(rows) + 1))


def with_texts(table: Table, column: str) -> Table:
    """The table with the tokens of a column joined by spaces; other cells stay as they are."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in _tuples(table)]
    for row in rows:
        row[column] = _text(row[column])
    return Table(table.columns, rows, table.numbers)


def with_spans(table: Table, tokens: str, tags: str, log: Log) -> Table:
    """The table with texts for tokens and spans of characters for tags.

    log  sentences whose tokens and tags do not pair up are left out, broken tags are mended;
         a scheme other than BIO is noted
    """
    found = {}
    for number, row in zip(table.numbers, _tuples(table), strict=True):
        cells = dict(zip(table.columns, row, strict=True))
        if _pairs_up(cells[tokens], cells[tags]):
            found[number] = cells
        else:
            log.add("ragged-sentence", number)
    scheme, n_wrong = scheme_of(cells[tags] for cells in found.values())
    if scheme in NOTE and found:
        log.notes.append(NOTE[scheme])
    for number, cells in found.items():
        for _ in range(n_broken(cells[tags], scheme) if n_wrong else 0):
            log.add("broken-tags", number)
        cells[tags] = spans_of_tags(cells[tokens], cells[tags])
        cells[tokens] = " ".join(cells[tokens])
    return Table(table.columns, [*found.values()], [*found])


def _blocks(content: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Number of the first line, and the fields of each line, of every sentence."""
    text = DOCUMENT.sub("", "\n".join(lines_of(content)))
    number = at = 0
    for match in SENTENCE.finditer(text):
        number += text.count("\n", at, match.start())
        at = match.start()
        lines = _fields(match[0].removesuffix("\n").split("\n"))
        if "\t" in match[0] and " " in match[0]:
            lines = [[*map(str.strip, fields)] for fields in lines]
        if "#" in match[0]:
            lines = [fields for fields in lines if not _is_comment(fields)]
        if lines:
            yield number + 1, lines


def _fields(lines: Iterable[str]) -> list[list[str]]:
    """Of a line with tabs what they part, else what white space parts."""
    return [line.rstrip().split("\t") if "\t" in line else line.split() for line in lines]


def _is_comment(fields: Sequence[str]) -> bool:
    """A line such as "# id = 7"; a token # has a tag."""
    is_hash = fields[0] == "#" or fields[0].startswith("# ")
    return is_hash and not TAG.fullmatch(fields[-1])


def _tuples(table: Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(table.values(column) for column in table.columns), strict=True)


def _pairs_up(tokens: Any, tags: Any) -> bool:
    return _is_words(tokens) and _is_words(tags) and len(tokens) == len(tags)


def _is_words(cell: Any) -> bool:
    return isinstance(cell, list) and {*map(type, cell)} <= {str}


def _text(tokens: Any) -> Any:
    return " ".join(tokens) if _is_words(tokens) else tokens

"""What people asked of documents: queries, each with the passages that answer it.

file -> (query, file, answer) -> numbers of passages; what cannot be found is counted
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mendel.data.cells import clean_text, plain
from mendel.data.columns import known
from mendel.data.delimited import TEXT_NAMES, Table
from mendel.data.faults import Log, no_rows
from mendel.data.readers import Examples
from mendel.data.tables import read_table
from mendel.parts.search.passages import Passage
from mendel.parts.search.words import words
from mendel.types import InputError, digest

QUERY_NAMES = ["query", "question", *TEXT_NAMES]
FILE_NAMES = ["file", "document", "doc", "path", "source"]
ANSWER_NAMES = ["answer", "passage", "answer_text", "passage_text"]
ENOUGH = 0.8  # share of an answer's words that the passage with most of them must have


class Asked(NamedTuple):
    number: int  # row of the file
    query: str
    file: str
    answer: str
    origin: str


def read_queries(
    path: Path, passages: Sequence[Passage], *, text_column: str | None = None
) -> Examples:
    """Queries of a CSV or JSON lines file, with the numbers of the passages that are right.

    path       columns query and file, and answer or passage where the place in it is known; of
               answer alone, any file will do
    raises     InputError where the columns are not there, or no row can be used
    """
    log = Log()
    table = read_table(path, {text_column} if text_column else set(), True, log)
    columns = _columns(path, table, text_column)
    search = _Places(passages)
    found: dict[str, set[int]] = defaultdict(set)  # a query with several right files has many rows
    origins = set()
    for asked in _rows(table, columns, log):
        target = search.of(asked, log)
        if target:
            found[asked.query] |= set(target)
            origins.add(asked.origin)
    if not found:
        raise _none(path, log, search)
    texts, targets = tuple(found), tuple(tuple(sorted(right)) for right in found.values())
    return Examples(
        texts,
        targets,
        "retrieve",
        log.faults(),
        columns["query"],
        columns["file"] or columns["answer"],
        digest([texts, targets, [*passages]]),
        "mixed" if len(origins) > 1 else origins.pop() or None,
    )


def _columns(path: Path, table: Table, text_column: str | None) -> dict[str, str]:
    query = text_column or known(table.columns, QUERY_NAMES)
    found = {
        "query": query,
        "file": known(table.columns, FILE_NAMES, query),
        "answer": known(table.columns, ANSWER_NAMES, query),
    }
    if query not in table.columns or not (found["file"] or found["answer"]):
        names = ", ".join(table.columns[:20])
        raise InputError(
            f"{path.name} does not say what is asked of which file. Got columns {names}. Wanted "
            "query, and file or answer. Rename the columns, or say --text-column NAME."
        )
    return found


def _rows(table: Table, columns: Mapping[str, str], log: Log) -> Iterator[Asked]:
    origin = next((c for c in table.columns if c.lower() == "provenance"), "")

    def cells(name: str) -> list[Any]:
        return [*table.values(name)] if name else [""] * len(table.rows)

    wanted = (*columns.values(), origin)
    for number, *row in zip(table.numbers, *map(cells, wanted), strict=False):
        query, file, answer, source = map(plain, row)
        text = " ".join(clean_text(query, number, log).split())
        if not words(text) or not (file.strip() or answer.strip()):
            log.add("empty", number)
            continue
        yield Asked(number, text, file.strip(), answer.strip(), source)


class _Places:
    """Which passages a row means."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._words = [f" {' '.join(words(p.text))} " for p in passages]
        self.by_file: dict[str, list[int]] = defaultdict(list)
        by_name: dict[str, set[str]] = defaultdict(set)
        for i, passage in enumerate(passages):
            self.by_file[passage.file].append(i)
            by_name[PurePosixPath(passage.file).name].add(passage.file)
        self._only = {name: files.pop() for name, files in by_name.items() if len(files) == 1}

    def of(self, asked: Asked, log: Log) -> tuple[int, ...]:
        """The passages that hold the answer; where none does, all of the file, and it is said."""
        name = asked.file.replace("\\", "/").removeprefix("./")
        own = self.by_file.get(name) or self.by_file.get(self._only.get(name, ""), [])
        if asked.file and not own:
            log.add("unknown-file", asked.number)
            return ()
        if not asked.answer:
            return tuple(own)
        found = self._holding(asked.answer, own or range(len(self._words)))
        if not found:
            log.add("answer-elsewhere" if own else "answer-nowhere", asked.number)
        return tuple(found or own)

    def _holding(self, answer: str, places: Sequence[int]) -> list[int]:
        said = words(answer)
        whole = [i for i in places if said and f" {' '.join(said)} " in self._words[i]]
        if whole or not said:
            return whole
        own = set(said)  # it may go over the end of a passage
        shares = {i: len(own & set(self._words[i].split())) / len(own) for i in places}
        best = max(shares, key=lambda i: shares[i])
        return [best] if shares[best] >= ENOUGH else []


def _none(path: Path, log: Log, search: _Places) -> InputError:
    if "unknown-file" not in log.seen:
        return no_rows(path, log)
    some = difflib.get_close_matches(path.name, search.by_file, 3, 0)
    return InputError(
        f"{path.name} names no file that is there. Wanted names below the folder of documents, "
        f"such as {', '.join(some)}. Mend its column of files."
    )

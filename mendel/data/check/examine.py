"""Every check of a file, one after another; one that cannot be made is skipped and said so."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mendel.data.check.classes import sizes, spelling, unseen
from mendel.data.check.languages import languages
from mendel.data.check.leaks import straddling
from mendel.data.check.personal import KINDS, find
from mendel.data.check.report import (
    N_EXAMPLES,
    N_ROWS,
    Finding,
    Report,
    SkippedError,
    example,
    finding,
    of_fault,
    on_one_line,
    shown,
)
from mendel.data.check.rows import Row, Rows, read_rows
from mendel.data.faults import as_error

if TYPE_CHECKING:
    from mendel.data.splits import Ints

MAX_JUDGED = 20_000  # rows whose label and language are judged; of more, as many by chance
COVERED = {"label-case": "label-spelling", "single-row-class": "small-class"}
Progress = Callable[[str, float], None]  # what is looked at, share of it that is done


def check_data(
    path: Path,
    *,
    test: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    strict: bool = False,
    progress: Progress = lambda stage, share: None,
) -> Report:
    """What is wrong with a file of texts; what is about classes only where the task has them.

    test      the file that a model is to be tested on; without it, a column named split or fold
    strict    refuse a file that could be read only by mending it
    raises    InputError where a file cannot be read, and under strict for soft faults too
    cost      10,000 rows of 77 classes take 20 s of one core, 12 s of them for suspicious labels
    """
    progress("reading", 0.0)
    read = partial(read_rows, text_column=text_column, label_column=label_column)
    data = read(path)
    asked = None if test is None else read(test, kind=data.kind)
    if strict and (faults := (*data.faults, *(asked.faults if asked else ()))):
        raise as_error(faults)
    return _Examination(data, asked, progress).report(path)


class _Examination:
    """The checks of one file, in the order in which they are told."""

    def __init__(self, data: Rows, test: Rows | None, progress: Progress) -> None:
        self._data, self._test, self._progress = data, test, progress
        self._parted = _parted(data, test)  # the file's own rows first
        self._chosen = _sample(len(data.rows))
        self._languages: dict[str, float] = {}

    def report(self, path: Path) -> Report:
        found, skipped = self._faults_and_classes(), {}
        checks: dict[str, Callable[[], list[Finding]]] = {
            "near-duplicate": self._straddling,
            "suspicious-label": self._suspicious,
            "mixed-language": self._mixed,
        }
        for kind, check in checks.items():
            try:
                found += check()
            except SkippedError as error:
                skipped[kind] = str(error)
            except ModuleNotFoundError as error:
                package = str(error.name).split(".")[0]
                skipped[kind] = f"{package} is not installed; `mendel doctor` says how to get it"
        self._progress("personal data", 0.0)
        found += _personal(self._data.rows)
        facts = {**_facts(self._data), "languages": self._languages}
        return Report(shown(path.name), facts, tuple(found), skipped)

    def _faults_and_classes(self) -> list[Finding]:
        rows, own = self._data.rows, []
        if self._data.has_classes:
            own = [*spelling(rows), *sizes(rows), *unseen(self._parted)]
        mine = {found.kind for found in own}
        faults = [f for f in self._data.faults if COVERED.get(f.kind) not in mine]
        return [*map(of_fault, faults), *own]

    @cached_property
    def _groups(self) -> Ints:
        from mendel.data.splits import near_duplicate_groups

        self._progress("near-duplicates", 0.0)
        return near_duplicate_groups([row.text for row in self._parted])

    def _straddling(self) -> list[Finding]:
        if len({row.part for row in self._parted}) < 2:
            raise SkippedError("there is no --test file, and no column named split or fold")
        return straddling(self._parted, self._groups.tolist())

    def _suspicious(self) -> list[Finding]:
        if not self._data.has_classes:
            raise SkippedError(f"the task is {self._data.kind}: its labels are no classes")
        from mendel.data.check.suspicious import suspicious

        rows = [self._data.rows[i] for i in self._chosen]
        groups = self._groups[self._chosen]
        return suspicious(rows, groups, lambda share: self._progress("labels", share))

    def _mixed(self) -> list[Finding]:
        rows = [self._data.rows[i] for i in self._chosen]
        self._languages, found = languages(rows, lambda s: self._progress("languages", s))
        return found


def _parted(data: Rows, test: Rows | None) -> list[Row]:
    """All rows, each with the part of the split that it is in."""
    if test is None:
        return [*data.rows]
    mine = [row._replace(part="train") for row in data.rows]
    return [*mine, *(row._replace(part="test") for row in test.rows)]


def _sample(n: int) -> list[int]:
    chosen = range(n) if n <= MAX_JUDGED else random.Random(0).sample(range(n), MAX_JUDGED)
    return sorted(chosen)


def _personal(rows: Sequence[Row]) -> list[Finding]:
    """One finding for each kind of personal data or secret, by rows."""
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for kind in {secret.kind for secret in find(on_one_line(row.text))}:
            by_kind[kind].append(row)
    return [
        finding(
            kind,
            f"rows with {KINDS[kind]}",
            len(by_kind[kind]),
            [row.number for row in by_kind[kind][:N_ROWS]],
            [example(row.number, row.text) for row in by_kind[kind][:N_EXAMPLES]],
        )
        for kind in KINDS
        if kind in by_kind
    ]


def _facts(data: Rows) -> dict[str, Any]:
    """What the file is like: size, classes, lengths, parts of its split."""
    facts: dict[str, Any] = {
        "kind": data.kind,
        "columns": {"text": shown(data.text_column), "label": shown(data.label_column)},
        "rows": len(data.rows),
        "words": _spread([len(row.text.split()) for row in data.rows]),
        "characters": _spread([len(row.text) for row in data.rows]),
    }
    if data.has_classes:
        counts = Counter(row.label for row in data.rows).most_common()
        ends = {"largest": counts[0], "smallest": counts[-1]}
        facts["classes"] = len(counts)
        facts |= {end: {"label": shown(name), "rows": n} for end, (name, n) in ends.items()}
    if data.split_column:
        parts = Counter(row.part for row in data.rows)
        facts["parts"] = {shown(part): n for part, n in parts.most_common(20)}
    return facts


def _spread(values: Sequence[int]) -> dict[str, int]:
    """By nearest rank."""
    ranked = sorted(values)
    at = {"median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: ranked[math.ceil(share * len(ranked)) - 1] for name, share in at.items()}

"""What a check found, as data: for the screen and, by to_dict, for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mendel.data.check.advice import ADVICE, FAULTY
from mendel.data.check.personal import mask
from mendel.data.faults import Fault

N_ROWS = 5  # row numbers that a finding names
N_EXAMPLES = 3
MAX_SHOWN = 80  # characters of a text that are shown


class SkippedError(Exception):
    """A check that cannot be made of this file, and why."""


@dataclass(frozen=True)
class Example:
    """One row of a finding, fit to be shown: `shown` made its text and whatever is in `more`."""

    row: int
    text: str
    more: Mapping[str, str | int | float]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    count     of rows, of classes where `what` says so
    rows      the first 5 (20 of suspicious labels): data rows from 1, of JSON lines line numbers
    """

    kind: str
    what: str
    count: int
    rows: tuple[int, ...]
    why: str
    do: str
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that was found in one file.

    facts     rows, classes, lengths, languages: what the file is like
    skipped   check -> why it was not made
    """

    file: str
    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]
    skipped: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": not self.findings}


def finding(
    kind: str,
    what: str,
    count: int,
    rows: Sequence[int] = (),
    examples: Sequence[Example] = (),
) -> Finding:
    """A finding with the advice for its kind; faults of reading share theirs."""
    why, do = ADVICE.get(kind, FAULTY)
    return Finding(kind, what, count, tuple(rows), why, do, tuple(examples))


def of_fault(fault: Fault) -> Finding:
    return finding(fault.kind, fault.note, fault.count, fault.rows)


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def shown(text: str) -> str:
    """A text or a name as it may be printed: on one line, masked, and only then cut."""
    line = mask(on_one_line(text))
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."


def example(row: int, text: str, **more: str | int | float) -> Example:
    """One row to show; each text in it is masked and cut."""
    masked = {key: shown(value) if isinstance(value, str) else value for key, value in more.items()}
    return Example(row, shown(text), masked)

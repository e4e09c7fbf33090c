"""One design run as a folder: its spec, its rows, its lock, and how much time it has used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mendel.blobs import locked, write_atomically
from mendel.clocks.workers import spent_s
from mendel.ledger import Ledger
from mendel.propose import Start, Traits
from mendel.spec import FoldSpec, Spec, TaskSpec, TextSpec
from mendel.types import Digest, InputError, Line

SHIPPED, REFUSED = "shipped", "refused.json"  # files of a run's folder: how it ended


class After(Spec):
    """The design that a run goes on from: they share their sealed rows."""

    run: str
    project: str  # the folder that it shipped
    task: Digest  # of its line: the same sealed rows draw on one error budget
    first: TextSpec  # what shipped, which is tried first
    form: str  # in which it shipped, as the builder names it
    times: tuple[int, ...] = ()  # to mend errors: how often candidates learn from them; 0 = never
    margin: float = 0.0  # by which mending may cost other rows


class RunSpec(Spec):
    """What was asked for, as it was asked; written once, before the first trial."""

    id: str
    task: TaskSpec
    train: FoldSpec
    budget_s: float
    out: str  # where the project goes
    command: str
    started: float  # unix seconds
    sealed: Digest
    n_sealed: int
    sealed_from: str
    outside_label: str | None = None  # rows with it have none of the labels
    n_validation: int = 0  # rows that choose; 0 = folds of the others do
    near_duplicates: tuple[int, ...]  # sealed rows, by place, that have one in training
    origin: str  # of the rows, in the words of the user or of the files
    faults: tuple[dict[str, Any], ...] = ()
    sources: tuple[dict[str, Any], ...] = ()  # name file bytes sha256 licence of each input
    prices: dict[str, Any] = Field(default_factory=dict)  # tdp_w euro_per_kwh api_price
    after: After | None = None
    traits: Traits | None = None  # None: of a mendel that did not record them
    start: Start = Start()

    @property
    def mends(self) -> bool:
        """Is it to mend errors of the design that it goes on from?"""
        return self.after is not None and bool(self.after.times)


@dataclass(frozen=True)
class Run:
    """A run's folder in MENDEL_HOME; workers and a later --resume find everything in it."""

    folder: Path
    spec: RunSpec

    @property
    def line(self) -> Line:
        after = self.spec.after
        return Line("design", after.task if after else self.spec.task.line_digest, self.spec.id)

    @classmethod
    def create(cls, ledger: Ledger, spec: RunSpec) -> Run:
        folder = ledger.folder / "runs" / spec.id
        folder.mkdir(parents=True)
        return cls(folder, spec)

    def commit(self) -> None:
        """The spec is written last: a folder without one is no run."""
        write_atomically(self.folder / "run.json", self.spec.to_json().encode())

    @classmethod
    def load(cls, folder: Path) -> Run:
        return cls(folder, RunSpec.from_json((folder / "run.json").read_text(encoding="utf-8")))

    @classmethod
    def of(cls, ledger: Ledger, out: Path) -> Run | None:
        """The newest run that was to write to `out`."""
        found = []
        for file in (ledger.folder / "runs").glob("*/run.json"):
            told = json.loads(file.read_text(encoding="utf-8"))  # of whichever version
            if told.get("out") == str(out.resolve()):
                found.append((told["started"], file.parent))
        return cls.load(max(found)[1]) if found else None

    @classmethod
    def that_made(cls, ledger: Ledger, project: Path) -> Run | None:
        """The run that a project's report names; None where there is no such run here."""
        try:
            told = json.loads((project / "report.json").read_text(encoding="utf-8"))
            line = str(told["reproduce"]["line"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        folder = ledger.folder / "runs" / Path(line).name
        found = cls.load(folder) if (folder / "run.json").exists() else None
        return found if found is not None and str(found.line) == line else None

    @property
    def state(self) -> Literal["open", "refused", "shipped"]:
        """Shipped also where it was killed between its last two steps."""
        report = Path(self.spec.out) / "report.json"
        if (self.folder / SHIPPED).exists():
            return "shipped"
        if report.exists():
            told = json.loads(report.read_text(encoding="utf-8"))
            if told.get("reproduce", {}).get("line") == str(self.line):
                return "shipped"
        return "refused" if (self.folder / REFUSED).exists() else "open"

    def is_locked(self) -> bool:
        """Is a process working on it?"""
        try:
            with self.lock():
                return False
        except InputError:
            return True

    def ship(self) -> None:
        (self.folder / SHIPPED).touch()

    def refuse(self, report: Mapping[str, Any]) -> None:
        """It is over and ships nothing: what was found stays here, for there is no other folder."""
        write_atomically(self.folder / REFUSED, json.dumps(report).encode())

    def refusal(self) -> dict[str, Any]:
        """What `refuse` was given."""
        told: dict[str, Any] = json.loads((self.folder / REFUSED).read_bytes())
        return told

    def spent_s(self) -> float:
        """Seconds of work in all sessions so far, a killed one's included."""
        return spent_s(self.folder)

    def lock(self) -> AbstractContextManager[None]:
        """One process works on a run; raises InputError where another one does."""
        return locked(
            self.folder / "lock",
            f"run {self.spec.id} is being worked on by another process. "
            "Wait for it, or give another --out.",
        )


def has_ended(folder: Path) -> bool:
    """Did the run of a folder ship, or was refused? It may be of whichever version."""
    return any((folder / name).exists() for name in (SHIPPED, REFUSED))

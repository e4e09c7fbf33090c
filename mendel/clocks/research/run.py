"""One research run as a folder: what was asked, its lock, its scores, how much time it has used."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from mendel.blobs import locked, write_atomically
from mendel.clocks.research.suite import Suites
from mendel.clocks.workers import spent_s
from mendel.ledger import Ledger
from mendel.propose.matching import Caps
from mendel.propose.menu import Named
from mendel.spec import Recipe, Spec, SpecError
from mendel.types import Digest, InputError, Line, digest

ProposerName = Literal["builtin", "random", "evolution", "tpe"]


class RunSpec(Spec):
    """What was asked for; a resumed run may only be given more time or trials."""

    id: str
    suites: Suites
    caps: Caps
    start: Recipe
    menu: tuple[Named, ...]  # as it was when the run began: a recipe verified since is not in it
    given: bool  # the start is the user's, and the menu has to beat it as any other does
    proposer: ProposerName = "builtin"
    seed: int = Field(0, ge=0)
    null: bool = False
    budget_s: float | None = Field(None, gt=0)
    trials: int | None = Field(None, gt=0)
    n_workers: int = Field(gt=0)
    command: str
    started: float  # unix seconds
    number: int = Field(0, ge=0)  # in the order of beginning, whatever clocks and zones say

    @property
    def task(self) -> Digest:
        return digest([self.suites.to_dict(), self.caps.to_dict(), self.null])


@dataclass(frozen=True)
class Run:
    """A run's folder in MENDEL_HOME; workers and a later --resume find everything in it."""

    folder: Path
    spec: RunSpec

    @property
    def line(self) -> Line:
        return Line("research", self.spec.task, self.spec.id)

    @classmethod
    def create(cls, ledger: Ledger, spec: RunSpec) -> Run:
        number = 1 + max(map(_number, _folder(ledger).glob("*/run.json")), default=0)
        run = cls(_folder(ledger) / spec.id, spec.model_copy(update={"number": number}))
        run.folder.mkdir(parents=True)
        run.commit()
        return run

    def commit(self) -> None:
        write_atomically(self.folder / "run.json", self.spec.to_json().encode())

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Raises InputError for a run of another version."""
        try:
            return cls(folder, RunSpec.from_json((folder / "run.json").read_text(encoding="utf-8")))
        except SpecError as error:
            raise InputError(
                f"run {folder.name} was begun by another mendel: {error} "
                "Wanted one of this version. Leave out --resume to begin anew."
            ) from None

    @classmethod
    def newest(cls, ledger: Ledger) -> Run:
        """The one that --resume goes on with; raises InputError where there is none."""
        found = sorted(_folder(ledger).glob("*/run.json"), key=lambda f: (_number(f), f))
        if not found:
            raise InputError(
                f"no research run is in {ledger.folder}. Wanted one to go on with. "
                "Leave out --resume, or set MENDEL_HOME to where it was begun."
            )
        return cls.load(found[-1].parent)

    def extended(
        self, budget_s: float | None, trials: int | None, n_workers: int | None = None
    ) -> Run:
        """The same run with another end or more workers, where they are given; it is noted.

        Ask for it under the lock: another process may have noted something since we read it.
        """
        update: dict[str, float | None] = {}
        if budget_s is not None or trials is not None:
            update |= {"budget_s": budget_s, "trials": trials}
        if n_workers is not None:
            update["n_workers"] = n_workers
        now = Run.load(self.folder)
        if not update:
            return now
        run = Run(self.folder, now.spec.model_copy(update=update))
        run.commit()
        return run

    def spent_s(self) -> float:
        """Seconds of work in all sessions so far, a killed one's included."""
        return spent_s(self.folder)

    def lock(self) -> AbstractContextManager[None]:
        """One process works on a run; raises InputError where another one does."""
        return locked(
            self.folder / "lock",
            f"research run {self.spec.id} is being worked on by another process. "
            "Wait for it, or leave out --resume to begin another beside it.",
        )


def _number(file: Path) -> int:
    """0 for a run of a mendel that did not number them, and for a file that is spoiled."""
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["number"])
    except (KeyError, TypeError, ValueError):
        return 0


def _folder(ledger: Ledger) -> Path:
    return ledger.folder / "research"

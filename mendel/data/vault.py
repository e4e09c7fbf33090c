"""Sealed data: kept apart, opened in a fresh process for the judge alone, each opening a turn.

seal: texts, labels -> Sealed (a name, not the data)
open: candidate's command <- texts without labels; -> predictions beside labels, and a turn
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.blobs import write_atomically
from mendel.ledger import Ledger
from mendel.types import (
    TRIAL,
    Candidate,
    Decision,
    Digest,
    Kind,
    Line,
    Result,
    SealedError,
    Turn,
    Verdict,
    digest,
)

Rate = Callable[[Mapping[str, Any], Any], float]
BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # one a space: spans stay in place
KEPT = ("PATH", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")


def same_label(answer: Mapping[str, Any], target: Any) -> float:
    return float(answer["label"] == target)


@dataclass(frozen=True)
class Sealed:
    """Names a sealed set. There is nothing in it to read."""

    digest: Digest
    n_rows: int


@dataclass(frozen=True)
class Opening:
    """What one opening showed: the rows at last, and each command's answers to them."""

    texts: tuple[str, ...]
    targets: tuple[Any, ...]
    answers: Mapping[str, tuple[Mapping[str, Any], ...]]
    turn: Turn
    n_openings: int  # of this set, this one included
    besides: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the user's other columns

    def scores(self, name: str, rate: Rate, without: Collection[int] = ()) -> list[float]:
        """How right each answer is, in order; rows of those places are left out."""
        left_out = set(without)
        pairs = enumerate(zip(self.answers[name], self.targets, strict=True))
        return [rate(answer, target) for i, (answer, target) in pairs if i not in left_out]


class Vault:
    """Lives beside the ledger.

    raises   SealedError in a process that runs a trial: it has no business here
    """

    def __init__(self, ledger: Ledger) -> None:
        if os.environ.get(TRIAL):
            raise SealedError(
                "a trial reached for sealed data. Wanted the judge. Measure on the folds instead."
            )
        self._ledger = ledger
        self._folder = ledger.folder / "vault"

    def seal(
        self,
        texts: Sequence[str],
        targets: Sequence[Any],
        besides: Mapping[str, Sequence[str]] | None = None,
    ) -> Sealed:
        """Put a test set away, its targets as plain JSON; the same rows twice are one set.

        besides   the rows' other columns, to slice a report by; the set is not named by them
        """
        rows = {"texts": list(texts), "labels": list(targets)}
        name = digest(rows)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if besides or not self._path(name).exists():
            content = json.dumps({**rows, "besides": dict(besides or {})})
            write_atomically(self._path(name), content.encode())  # mode 0600
        return Sealed(name, len(texts))

    def near(self, sealed: Sealed, texts: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) Which texts say nearly what a sealed one says: no more than that leaves the vault.

        raises   SealedError where the set is not in this vault
        """
        # imported here: it needs a package that opening does not
        from mendel.data.splits import near_duplicate_groups

        file = self._path(sealed.digest)
        if not file.exists():
            raise SealedError(
                f"the sealed rows {sealed.digest[:12]} are gone. Wanted them beside the ledger. "
                "Design anew with all rows."
            )
        mine = json.loads(file.read_bytes())["texts"]
        groups = near_duplicate_groups([*mine, *texts])
        return np.isin(groups[len(mine) :], groups[: len(mine)])

    def n_openings(self, sealed: Sealed) -> int:
        turns = self._ledger.turns(kinds=[Kind.OPENING])
        return sum(turn.result.facts["sealed"] == sealed.digest for turn in turns)

    def open(
        self,
        sealed: Sealed,
        commands: Mapping[str, Sequence[str]],
        *,
        line: Line,
        candidate: Candidate,
        rate: Rate = same_label,
        timeout_s: float = 600.0,
    ) -> Opening:
        """Run each command on the sealed texts in a fresh process, and write the turn.

        commands   name -> argv that reads a text a line and prints a JSON object each
        rate       how right an answer is, 0 to 1; the turn has the means
        raises     SealedError when a command fails; that opening is a turn all the same
        """
        rows = json.loads(self._path(sealed.digest).read_bytes())
        opening = Turn(
            line,
            Kind.OPENING,
            candidate,
            Result(facts={"sealed": sealed.digest, "n": sealed.n_rows}),
            Verdict(Decision.DISCARD, f"sealed set opened for {', '.join(commands)}"),
        )
        try:
            answers = {
                name: _ask(name, argv, rows["texts"], timeout_s) for name, argv in commands.items()
            }
        except SealedError as error:
            self._write(replace(opening, verdict=Verdict(Decision.DISCARD, str(error))))
            raise
        targets = tuple(rows["labels"])
        scores = {name: _mean(found, targets, rate) for name, found in answers.items()}
        turn = self._write(replace(opening, sealed={"score": scores}))
        n_openings, besides = self.n_openings(sealed), rows.get("besides", {})
        return Opening(tuple(rows["texts"]), targets, answers, turn, n_openings, besides)

    def _write(self, turn: Turn) -> Turn:
        with self._ledger.writing(turn.line) as connection:
            champion = self._ledger.champion(turn.line, connection)
            return self._ledger.append(
                connection, replace(turn, champion=champion.turn if champion else 0)
            )

    def _path(self, name: Digest) -> Path:
        return self._folder / f"{name}.json"


def _ask(
    name: str, argv: Sequence[str], texts: Sequence[str], timeout_s: float
) -> tuple[Mapping[str, Any], ...]:
    """The command sees the texts, an empty folder and little else."""
    lines = "".join(BREAK.sub(" ", text) + "\n" for text in texts)
    kept = {k: v for k, v in os.environ.items() if k in KEPT}
    environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", TRIAL: "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory(prefix="mendel-open-") as folder:
        try:
            done = subprocess.run(
                list(argv),
                input=lines.encode("utf-8", "replace"),
                capture_output=True,
                cwd=folder,
                env={**environment, "HOME": folder},
                timeout=timeout_s,
                check=True,
                start_new_session=True,  # Ctrl-C is for us to answer
            )
            answers = tuple(json.loads(line) for line in done.stdout.splitlines())
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            said = getattr(error, "stderr", None) or str(error).encode()
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise SealedError(f"{name} failed on the sealed set: {' '.join(last)}") from error
    if len(answers) != len(texts):
        raise SealedError(f"{name} gave {len(answers)} answers to {len(texts)} sealed texts.")
    return answers


def _mean(answers: Sequence[Mapping[str, Any]], targets: Sequence[Any], rate: Rate) -> float:
    rated = [rate(answer, target) for answer, target in zip(answers, targets, strict=True)]
    return sum(rated) / max(len(rated), 1)

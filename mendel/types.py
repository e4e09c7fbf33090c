"""Every noun but the specs, and the Clock protocol.

champion --ask--> Candidate --trial--> Result --tell--> Verdict --keep--> promote --> champion'
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

Json = Mapping[str, Any]
Digest = str  # 64 hex digits of sha256
TRIAL = "MENDEL_TRIAL"  # set in the environment of processes that propose or measure


class MendelError(Exception):
    """A mistake that a person can mend. The message says what, got, wanted, do."""


class InputError(MendelError, ValueError):
    """The user's data, flags or files are not what was asked for."""


class LedgerError(MendelError, RuntimeError):
    """The ledger cannot be opened, is of another version, or lost a blob."""


class SealedError(MendelError, PermissionError):
    """Somebody other than the judge reached for sealed data."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known words; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def is_out_of_memory(error: Exception) -> bool:
    """Python's own error, torch's on a GPU, or the plain RuntimeError of torch on a CPU."""
    text = str(error)
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return short or "allocate memory" in text or "not enough memory" in text


def digest(value: Json | Sequence[Any] | str) -> Digest:
    """sha256 of the canonical JSON, so that equal values have equal names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Line:
    """A clock and the digest of its task; runs of one task share one error budget."""

    clock: str
    task: Digest
    run: str = "main"  # a second run on the task is a sub-line with its own champion

    def __str__(self) -> str:
        return f"{self.clock}/{self.task[:12]}/{self.run}"


@dataclass(frozen=True)
class Cost:
    seconds: float = 0.0
    flops: float = 0.0
    n_params: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Candidate:
    """A whole new state that someone wants to try, never a patch in place."""

    state: Json
    motivation: str = ""
    links: tuple[str, ...] = ()  # turns and knowledge notes that it came from

    @cached_property
    def id(self) -> Digest:
        return digest(self.state)


@dataclass(frozen=True)
class Result:
    """What one trial measured. Higher scores are better; an error is a result too."""

    scores: tuple[float, ...] = ()  # one per pair: a seed, or an example
    baseline: tuple[float, ...] = ()  # the champion's on the same pairs, measured beside them
    cost: Cost = Cost()
    artifacts: Mapping[str, Digest] = field(default_factory=dict)  # blobs that the trial made
    facts: Json = field(default_factory=dict)  # whatever else was measured
    error: str | None = None  # why the trial failed; then nothing above counts


@dataclass(frozen=True)
class Champion:
    """What is live on a line, and the turn that made it so."""

    candidate: Candidate
    result: Result = Result()
    turn: int = 0  # 0 = not in a ledger yet

    @property
    def identity(self) -> tuple[Digest, Json]:
        """Two champions are the same when state and artifacts are."""
        return self.candidate.id, dict(self.result.artifacts)


class Decision(StrEnum):
    KEEP = "keep"
    DISCARD = "discard"
    CONTINUE = "continue"  # promising, or undecided: measure another round of fresh pairs


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    reason: str  # one line, for people
    level: float | None = None  # the error level that this candidate's confirmation was given
    evidence: float | None = None  # e-value so far; it keeps at 1/level

    @property
    def keep(self) -> bool:
        return self.decision is Decision.KEEP


@dataclass(frozen=True)
class Account:
    """The error budget of a clock and task: all its runs draw on it."""

    alpha: float = 0.05
    n_begun: int = 0  # confirmations that were given a level
    n_kept: int = 0  # of them, kept


@dataclass(frozen=True)
class Trial:
    """One candidate on its way: leased to one worker for one round of measuring."""

    id: str
    line: Line
    candidate: Candidate
    champion: Champion  # what it is measured against
    results: tuple[Result, ...] = ()  # of the rounds told so far; the policy sees the newest too
    level: float | None = None  # set once a confirmation has begun
    deadline: float = 0.0  # unix seconds; after it, someone else may take the round

    @property
    def round(self) -> int:
        return len(self.results)


class Kind(StrEnum):
    START = "start"  # the first champion of a line
    TRIAL = "trial"
    OPENING = "opening"  # sealed data was looked at
    CLAIM = "claim"  # "better than" or "no worse than" was asked for outside the loop
    ROLLBACK = "rollback"  # an earlier champion is live again
    INSIGHT = "insight"  # what an analyst read out of the turns before it


@dataclass(frozen=True)
class Turn:
    """One record of the ledger. Turns are only ever appended."""

    line: Line
    kind: Kind
    candidate: Candidate
    result: Result
    verdict: Verdict
    champion: int = 0  # the turn of the champion before this one; 0 = none
    trial: str = ""
    round: int = 0
    id: int = 0  # given by the ledger
    at: float = 0.0  # unix seconds, given by the ledger
    sealed: Json | None = None  # scores of an opening; proposers and learners get None


class History(Protocol):
    """What a proposer may know of its own line: no sealed score is in it."""

    def turns(self, *, limit: int | None = None, kept: bool = False) -> Sequence[Turn]:
        """The newest `limit` trial turns, oldest first; only those kept, if asked."""

    def told(self, *, after: int = 0) -> Sequence[Turn]:
        """Trial and insight turns behind that turn, oldest first."""

    def pending(self) -> Sequence[Candidate]:
        """Candidates in flight."""


class Clock(Protocol):
    """The five things that a clock supplies; the driver does the rest."""

    line: Line

    def champion(self) -> Champion:
        """What is live now: before the first turn, what the line starts from."""

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        """The next candidate, or None where there is nothing to try now."""

    def trial(self, trial: Trial) -> Result:
        """Measure one round of a candidate, anywhere. May raise: the driver makes it a result."""

    def policy(self, trial: Trial, account: Account) -> Verdict:
        """Decide on all rounds so far. Runs under the line's lock: be quick, change nothing."""

    def promote(self, champion: Champion) -> None:
        """Make it live, atomically. May be called twice with the same champion."""

"""What an audit found, as data: findings with their evidence, and what was not looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mendel.types import Json

Level = Literal["error", "warning"]

# in the order in which they run; a later check is told what the earlier ones found
CHECKS: dict[str, str] = {
    "shapes": "any batch, any length, any width, any memory layout",
    "state": "a forward in eval mode leaves nothing behind and draws nothing",
    "batch": "a row's output does not depend on the rows beside it",
    "causality": "no output reads a later input",
    "length": "no output knows how long the sequence is",
    "mode": "train and eval differ by dropout only",
    "step": "token by token equals all at once",
    "gradients": "finite, alive, and not exploding with length",
    "numerics": "extreme inputs give finite outputs; a NaN is never swallowed",
    "cost": "FLOPs, memory and time grow as claimed",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with what one needs to see it oneself."""

    check: str
    level: Level
    what: str  # one sentence
    sure: str  # how the decision was made, and by what margin
    cause: str  # the likely one
    reproduce: str  # seed, shape, positions
    evidence: Json = field(default_factory=dict)  # numbers


@dataclass(frozen=True)
class AuditReport:
    """All of an audit. Equal modules, profile and seed give equal findings."""

    subject: str
    profile: str
    findings: tuple[Finding, ...]
    ran: Mapping[str, str]  # check -> clean | error | warning | skipped | failed; a note says why
    notes: tuple[str, ...]  # what a reader should know, but nobody is accused of
    facts: Json  # parameters, precision, exponents
    seconds: float
    sandbox: str = "none"  # which backend kept the module: none = this very process
    scan: tuple[str, ...] = ()  # what stands out in the text of a file; advice

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def clean(self) -> bool:
        """No error, and nothing left undecided; warnings do not accuse."""
        return not self.errors and not self.undecided

    @property
    def undecided(self) -> tuple[str, ...]:
        """Checks that broke down on this module."""
        return tuple(name for name, how in self.ran.items() if how == "failed")

    def failed(self, fail_on: Level = "error") -> bool:
        return bool(self.findings if fail_on == "warning" else self.errors)

    def to_dict(self) -> dict[str, Any]:
        """Of JSON's own values: what is not finite is its name."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AuditReport:
        found = tuple(Finding(**finding) for finding in data["findings"])
        texts = {name: tuple(data[name]) for name in ("notes", "scan")}
        return cls(**{**data, **texts, "findings": found})


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

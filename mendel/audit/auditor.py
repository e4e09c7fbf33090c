"""The auditor: what the checks share. It asks a subject for calls and decides on the answers.

A difference counts where it is far above what rounding alone does to the same numbers. Rounding is
measured, not assumed: weights and inputs are moved by a tiny step there and back, and what is left
of y(+) - 2 y + y(-) is noise, in whatever precision the module computes inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from mendel.audit.claims import Claims
from mendel.audit.inputs import InputSpec
from mendel.audit.measures import Cost
from mendel.audit.report import Finding, Level
from mendel.audit.subject import Answer, Call, Facts
from mendel.audit.training import Steps

STEPS = (3e-7, 1e-5, 1e-3, 3e-2)  # of the jitter: the first that the module's own precision shows
WIDE = 2_000_000
# a difference is real above this many times the noise, and above this many roundings of the row's
# largest output; bfloat16 rounds so coarsely that 64 roundings are half of the number
MARGIN = {"float64": 64.0, "float32": 64.0, "bfloat16": 8.0}
ROUNDING = {"float64": 64.0, "float32": 64.0, "bfloat16": 4.0}
# and noise is never taken for more than this share of the row's largest output, about eight
# roundings of bfloat16: whoever computes more coarsely, or makes noise of the jitter, cannot hide
COARSEST = {"float64": 2**-5, "float32": 2**-5, "bfloat16": 2**-3}
Profile = Literal["quick", "full"]


class Asked(Protocol):
    """A module that answers calls: in this process (Subject), or in the sandbox (Remote)."""

    def facts(self) -> Facts: ...
    def calls(
        self, calls: Sequence[Call], dtype: str = "float64", fresh: bool = True
    ) -> list[Answer]: ...
    def train_steps(self, B: int, T: int, dtype: str, n: int = 3, seed: int = 0) -> Steps: ...
    def cost(self, T: int, repeats: int = 0) -> Cost: ...
    def widened(self, width: int) -> str | None: ...


@dataclass(frozen=True)
class Pair:
    """Two runs that ought to agree on a region, and by how much they do not."""

    gap: Tensor  # (P,) largest difference of each row inside its region
    floor: Tensor  # (P,) what is noise
    broken: Tensor  # (P,) bool: one of the two is not finite there, and the other is
    worst: tuple[int, int]  # row and position of the largest gap above its floor

    @property
    def real(self) -> Tensor:
        return (self.gap > self.floor) & ~self.broken

    def clearest(self, n: int) -> Tensor:
        """Indices of at most n rows that are furthest above their floor, ascending."""
        ratio = torch.where(self.real, self.gap / self.floor.clamp_min(1e-300), 0)
        order = ratio.argsort(descending=True)[: min(n, int(self.real.sum()))]
        return order.sort().values

    def at(self, rows: Tensor, n: int) -> Pair:
        """The same rows in a batch of n, of which the others are equal."""
        gap, floor = torch.zeros(n, dtype=self.gap.dtype), torch.zeros(n, dtype=self.gap.dtype)
        broken = torch.zeros(n, dtype=torch.bool)
        gap[rows], floor[rows], broken[rows] = self.gap, self.floor, self.broken
        return Pair(gap, floor, broken, (int(rows[self.worst[0]]), self.worst[1]))

    @property
    def margin(self) -> float:
        """Times the floor, of the clearest row."""
        ratio = torch.where(self.real, self.gap / self.floor.clamp_min(1e-300), 0)
        return float(ratio.max()) if len(ratio) else 0.0


@dataclass
class Auditor:
    """One audit on its way."""

    subject: Asked
    spec: InputSpec
    claims: Claims
    profile: Profile
    seed: int
    facts: Facts
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: dict[str, object] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    lengths: list[int] = field(default_factory=list)  # that work, ascending; set by `shapes`
    alone: bool = False  # rows disturb one another: one row a call from now on
    precision: str | None = None  # set by `using`
    settled: bool = False  # calls leave nothing behind, so that one copy serves all
    unstable: bool = False  # equal calls differ, and a fresh copy does not help
    noisy: bool = False  # it draws random numbers in eval mode

    @property
    def dtype(self) -> str:
        """The finest that the module can run in, unless a check asks for another."""
        if self.precision is not None:
            return self.precision
        return "float32" if "float64" in self.facts.dtypes else "float64"

    @contextmanager
    def using(self, dtype: str | None) -> Iterator[None]:
        """Ask in another precision; None: in the finest."""
        self.precision, before = dtype, self.precision
        try:
            yield
        finally:
            self.precision = before

    @property
    def rounding(self) -> float:
        """What rounding may change of a number of size 1, before any is measured."""
        eps = float(torch.finfo(getattr(torch, self.dtype)).eps)
        return ROUNDING[self.dtype] * eps

    @property
    def full(self) -> bool:
        return self.profile == "full"

    @property
    def wide(self) -> bool:
        """So large that rows and lengths are chosen sparingly: one token takes a millisecond."""
        return self.facts.n_params > WIDE

    @property
    def short(self) -> int:
        """A length at which much can be asked: the longest up to 17 that works."""
        return max((T for T in self.lengths if T <= 17), default=self.lengths[0])

    def found(self, check: str) -> bool:
        return any(f.check == check and f.level == "error" for f in self.findings)

    def fits(self, *lengths: int) -> list[int]:
        """Those that the module can take."""
        known = set(self.lengths)
        return [T for T in lengths if T in known]

    def skip(self, check: str, why: str) -> None:
        self.skipped.add(check)
        self.note(f"{check} was not looked at: {why}")

    def note(self, text: str) -> None:
        """Once."""
        self.notes += [text] if text not in self.notes else []

    def comparable(self, check: str) -> bool:
        """Calls of other shapes compare only where equal calls give equal outputs."""
        if self.unstable or self.noisy:
            self.skip(check, "equal calls give other outputs (see state)")
        return not (self.unstable or self.noisy)

    def draw(self, B: int, T: int, salt: int = 0) -> Tensor:
        return self.spec.draw(B, T, self.seed * 1_000_003 + salt)

    def ask(self, x: Tensor, **how: object) -> Answer:
        """One call, on a fresh copy unless `state` has found that there is no need."""
        call = Call(x, **how)  # type: ignore[arg-type]
        fresh = call.train or not self.settled  # a counter of train mode is at its start each time
        return self.subject.calls([call], self.dtype, fresh)[0]

    def rows(self, x: Tensor, **how: object) -> Answer:
        """As `ask`, but a row at a time where rows disturb one another."""
        if not self.alone or len(x) == 1:
            return self.ask(x, **how)
        cotangent = how.pop("cotangent", None)
        split = [None] * len(x) if cotangent is None else list(torch.as_tensor(cotangent).split(1))
        answers = [
            self.ask(row, cotangent=part, **how)
            for row, part in zip(x.split(1), split, strict=True)
        ]
        wrong = next((a for a in answers if a.error is not None), None)
        if wrong is not None:
            return wrong
        ys = [a.y for a in answers if a.y is not None]
        gradients = [a.gradient for a in answers if a.gradient is not None]
        return replace(
            answers[0], y=torch.cat(ys), gradient=torch.cat(gradients) if gradients else None
        )

    def noise(self, x: Tensor, field: str = "y", **how: object) -> Tensor:
        """What rounding does to each number of the answer; y's shape."""
        plain = _numbers(self.rows(x, **how), field)
        for step in STEPS:
            up = _numbers(self.rows(x, jitter=step, **how), field)
            moved = (up != plain) & plain.isfinite()
            if moved.float().mean() > 0.5 * (plain != 0).float().mean() or step == STEPS[-1]:
                down = _numbers(self.rows(x, jitter=-step, **how), field)
                return ((up - plain) - (plain - down)).abs()
        raise AssertionError("the last step returns")

    def compare(self, first: Tensor, second: Tensor, mask: Tensor, noises: list[Tensor]) -> Pair:
        """Two outputs (P, T, ...) on the region `mask` (P, T), above the noise of both."""
        P, T = mask.shape
        if first.shape != second.shape:
            raise CallFailed(f"outputs have shapes {tuple(first.shape)}, {tuple(second.shape)}")
        a, b = first.reshape(P, T, -1), second.reshape(P, T, -1)
        bad = ((a.isfinite() != b.isfinite()).any(-1) & mask).any(1)
        gap = (a - b).abs().nan_to_num(0, 0, 0).amax(-1) * mask
        size = torch.maximum(a, b).abs().nan_to_num(0, 0, 0).amax(-1)
        # of the whole row: an FFT rounds every output by what the largest needs, always alike
        base = self.rounding * size.amax(1)
        for noise in noises:
            measured = MARGIN[self.dtype] * quantile(noise.reshape(P, T, -1), mask)
            base = base.maximum(measured.minimum(COARSEST[self.dtype] * size.amax(1)))
        over = gap / base.clamp_min(1e-300)[:, None]
        worst = divmod(int(over.argmax()), T)
        return Pair(gap.amax(1), base, bad, worst)

    def apart(
        self, first: Tensor, second: Tensor, noise: Callable[[], list[Tensor]], broken: bool = False
    ) -> Pair | None:
        """How two outputs (P, T, ...) differ beyond rounding; None where they agree.

        noise    of both, asked for only where a few roundings do not explain the difference
        broken   a NaN in one alone is a difference too
        """
        everywhere = torch.ones(first.shape[:2], dtype=torch.bool)
        pair = self.compare(first, second, everywhere, [])
        if (pair.real | pair.broken).any():
            pair = self.compare(first, second, everywhere, noise())
        return pair if pair.real.any() or (broken and pair.broken.any()) else None

    def report(
        self,
        check: str,
        what: str,
        *,
        sure: str,
        cause: str,
        reproduce: str,
        level: Level = "error",
        **evidence: object,
    ) -> None:
        self.findings.append(Finding(check, level, what, sure, cause, reproduce, evidence))

    def recipe(self, B: int, T: int, salt: int, then: str, dtype: str = "") -> str:
        """How to see it: which numbers, which change."""
        drawn = f"spec.draw({B}, {T}, seed={self.seed * 1_000_003 + salt})"
        return (
            f"from mendel.audit import InputSpec; spec = InputSpec.parse({str(self.spec)!r}); "
            f"x = spec.lay_out({drawn})  # {dtype or self.dtype}, eval unless said; {then}"
        )


def _numbers(answer: Answer, field: str) -> Tensor:
    value = answer.gradient if field == "gradient" else answer.y
    if value is None:
        raise CallFailed(answer.error or "no answer")
    return value


class CallFailed(Exception):
    """A call that worked with another input does not work with this one."""


def quantile(noise: Tensor, mask: Tensor) -> Tensor:
    """(P,) the 99th percentile of each row inside its region: flips of a rounding are rare."""
    worst = noise.nan_to_num(0, 0, 0).abs()
    found = []
    for row, inside in zip(worst, mask, strict=True):
        values = row[inside].reshape(-1)
        if not len(values):
            found.append(torch.zeros((), dtype=worst.dtype))
            continue
        k = max(1, int(0.99 * len(values)))
        found.append(values.kthvalue(k).values)
    return torch.stack(found)

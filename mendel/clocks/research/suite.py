"""Which proxies a line is judged on, and in which order a race goes through them.

suites, preset -> Suites -> legs: each a proxy, its suite, and how far into a trial it is asked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, field_validator

from mendel.data.proxies import SUITES, AnyProxy, make
from mendel.data.proxies.proxy import Preset
from mendel.spec import Spec
from mendel.types import InputError, did_you_mean

Name = Literal["recall", "states", "text"]

# Seconds of one core that a seed takes at the seconds preset (two delta_net layers of width 32, a
# machine that others used too), and what it tells apart, decide. The first of each suite is where
# the learning rate is swept. Suites take turns, so that no mean is of one suite alone for long.
RACE: tuple[str, ...] = (
    "word_z60",  # 7 s; delta .55, decay .85
    "overwritten_recall",  # 12 s
    "compression",  # 6 s
    "word_a5",  # 8 s
    "memorisation",  # 6 s
    "parity",  # 14 s; 1 where eigenvalues may be negative, else 0
    "mqar",  # 14 s
    "selective_copying",  # 13 s
    "char_lm",
)
# what costs as much again and ranks as the above do: a confirmation asks it too
LATE: tuple[str, ...] = (
    "word_s5", "in_context_recall", "noisy_recall", "fuzzy_recall", "regbench",
)  # fmt: skip


@dataclass(frozen=True)
class Leg:
    """One proxy of a race."""

    proxy: AnyProxy
    suite: str
    swept: bool  # here the learning rate is chosen for its suite

    @property
    def name(self) -> str:
        return self.proxy.name


class Suites(Spec):
    """What a line is judged on; part of its identity."""

    names: tuple[Name, ...] = Field(("states", "recall"), min_length=1)
    preset: Preset = "seconds"
    text: str | None = None  # a file or folder for char_lm to learn; None: Python's own
    share: float = Field(1.0, gt=0, le=1)  # of steps and tests; below 1 to try things out

    @field_validator("names")
    @classmethod
    def _once(cls, names: tuple[Name, ...]) -> tuple[Name, ...]:
        return tuple(sorted(set(names)))

    @classmethod
    def named(
        cls, given: str, preset: str = "seconds", text: Path | None = None, share: float = 1.0
    ) -> Suites:
        """Of `recall,states` or `all`; raises InputError that names the nearest."""
        names = [name.strip() for name in given.split(",") if name.strip()]
        known = [name for name in SUITES if name != "all"]
        for name in names:
            if name not in SUITES:
                hint = did_you_mean(name, SUITES) or f"There are {', '.join(SUITES)}."
                raise InputError(f"no suite is called {name!r}. {hint}")
        if not names:
            raise InputError(f"--suite {given!r} names none. Wanted {', '.join(known)} or all.")
        chosen = known if "all" in names else names
        where = None if text is None else str(text.resolve())
        return cls.parse({"names": chosen, "preset": preset, "text": where, "share": share})

    @cached_property
    def race(self) -> tuple[Leg, ...]:
        """The legs of race and screen."""
        return self._legs(RACE)

    @cached_property
    def whole(self) -> tuple[Leg, ...]:
        """All legs: those of a confirmation."""
        return self.race + self._legs(LATE)

    @property
    def n_tokens(self) -> int:
        """The longest text that is asked about."""
        return max(leg.proxy.longest for leg in self.whole)

    @property
    def vocab(self) -> int:
        return max(leg.proxy.vocab for leg in self.whole)

    def leg(self, name: str) -> Leg:
        return next(leg for leg in self.whole if leg.name == name)

    def _legs(self, order: Sequence[str]) -> tuple[Leg, ...]:
        suite_of = {proxy: name for name in self.names for proxy in SUITES[name]}
        mine = [name for name in order if name in suite_of]
        first = {suite_of[name]: name for name in reversed([n for n in RACE if n in suite_of])}
        text = None if self.text is None else Path(self.text)
        return tuple(
            Leg(
                self._shortened(make(name, self.preset, text=text)),
                suite_of[name],
                name in first.values(),
            )
            for name in mine
        )

    def _shortened(self, proxy: AnyProxy) -> AnyProxy:
        if self.share == 1:
            return proxy
        return replace(
            proxy,
            n_steps=max(2, round(self.share * proxy.n_steps)),
            n_test=max(16, round(self.share * proxy.n_test)),
        )

    def by_suite(self, scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Scores a seed of each proxy -> of each suite that has any: the mean of its proxies."""
        found: dict[str, list[Sequence[float]]] = {}
        for proxy, seeds in scores.items():
            found.setdefault(self.leg(proxy).suite, []).append(seeds)
        return {suite: _means(rows) for suite, rows in sorted(found.items())}

    def mean(self, scores: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
        """Scores a seed of each proxy -> one a seed: the mean of the suites."""
        return tuple(_means(list(self.by_suite(scores).values())))


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each seed over the rows; a row cut short ends them all."""
    return [fmean(at) for at in zip(*rows, strict=False)]


def normalised(proxy: AnyProxy, raw: float) -> float:
    """0 is a guess, 1 all that there is: accuracy above chance, or the share of bits saved."""
    if proxy.unit == "accuracy":
        return (raw - proxy.chance) / (1 - proxy.chance)
    return 1 + raw / proxy.chance  # raw is minus the bits, chance those of a guess


def rounded(value: Any) -> Any:
    """Numbers of facts to 6 digits, so that a turn stays small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value

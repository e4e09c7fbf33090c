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

# What a seed costs decides, at the seconds preset (CPU seconds of two delta_net layers of width 32
# on a machine that others used too; all of recall and states take 130), and what it tells apart
# (scores of delta_net, mamba2, delta_net_signed). A race asks the quick and telling ones for half
# of their steps, a screen the same in full, a confirmation more of each suite, a verification all:
# so that an hour of two cores holds 150 trials. The first of each suite is where the learning rate
# is swept: after a third of a race compression tells rates apart (2.40 2.57 2.71 nats at 1e-2,
# 3e-2, 9e-2); overwritten recall, still on its plateau, does not (2.49 2.50 2.49; by the end 9e-2
# has learned nothing).
RACE: tuple[str, ...] = (
    "word_z60",  # 7 s; .55 .85 .68, with half of the steps .51 .67 .64
    "compression",  # 6 s; .23 .33 .22, half: .17 .28 .17
    "overwritten_recall",  # 12 s; .99 .02 .99, half: 1.00 .01 .66
    "parity",  # 14 s; .00 .00 .94
    "char_lm",
)
CONFIRM: tuple[str, ...] = (
    "memorisation",  # 8 s; .94 1.00 .81
    "word_a5",  # 7 s; .67 .67 .69
)
VERIFY: tuple[str, ...] = (
    "selective_copying",  # 13 s; .35 .21 .25
    "mqar",  # 13 s; 1.00 .02 .99
    "word_s5",  # 7 s
    "in_context_recall",  # 11 s; 1.00 .25 .98
    "noisy_recall",  # 14 s
    "fuzzy_recall",  # 17 s
    "regbench",
)
RACED = 0.5  # of the steps
# Trainings whose mean is a proxy's score on one pair, behind the race: parity is learned or not,
# its pairs differ by .4 to .8 where others do by .02 to .07, so a second training is worth more
# there than any other proxy. It takes the time that a confirmation gave to selective copying.
TRAININGS: dict[str, int] = {"parity": 2}


@dataclass(frozen=True)
class Leg:
    """One proxy of a race."""

    proxy: AnyProxy
    suite: str
    swept: bool  # here the learning rate is chosen for its suite
    n_trainings: int = 1  # of a side on a pair, whose mean is its score

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
        """The quick ones, cut short."""
        return tuple(
            replace(leg, proxy=_cut_short(leg.proxy), n_trainings=1) for leg in self.screen
        )

    @cached_property
    def screen(self) -> tuple[Leg, ...]:
        """The same in full."""
        return self._legs(RACE)

    @cached_property
    def confirm(self) -> tuple[Leg, ...]:
        """What a promotion is decided on."""
        return self.screen + self._legs(CONFIRM)

    @cached_property
    def whole(self) -> tuple[Leg, ...]:
        """All that the suites have; those behind the ones above are for verification."""
        return self.confirm + self._legs(VERIFY)

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
                TRAININGS.get(name, 1),
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


def _cut_short(proxy: AnyProxy) -> AnyProxy:
    return replace(proxy, n_steps=max(2, int(RACED * proxy.n_steps)))


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

"""What a verification is held to: fixed when it begins, before anything sealed is seen.

the line's own trials -> noise of each proxy -> how often each is asked; the level, and its shares
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mendel.clocks.research.suite import VERIFY, Leg, Suites
from mendel.clocks.research.verdict import believed
from mendel.data.proxies import TWINS
from mendel.evidence import next_level
from mendel.types import Account, Turn

# Shares of the level: of a look at the first pair alone, and of each look at the pairs. They
# sum to 1, so a design that is level is taken for beaten with at most that chance, by whichever;
# and since every design has to be beaten, and each condition won, the claim has no larger one.
FAR = 0.2
LOOKS: Mapping[int, float] = {  # pairs -> share
    4: 0.3, 6: 0.15, 8: 0.1, 12: 0.1, 16: 0.1, 32: 0.05,
}  # fmt: skip

PRIOR_SD = {"parity": 0.4}  # of a pair, where fewer than N_KNOWN of the line are known
KNOWN_SD, UNKNOWN_SD = 0.05, 0.1  # of other proxies: seen before; asked by a verification alone
N_KNOWN = 8
LEAST_SD = 0.03  # whatever a line says: its own pairs are of recipes that are much alike
TORN = 0.15  # from here on a proxy is learned or not, rather than a little better or worse
TORN_LEAST_SD = 0.5  # in a bound that is told: a few seeds that agree say little of the next
MOST = 8  # seeds of one proxy in a pair

# CPU seconds of a seed at the seconds preset; only their ratios count
SECONDS = {
    "compression": 5.5, "memorisation": 7, "word_z60": 7, "word_a5": 8, "word_s5": 7,
    "overwritten_recall": 12, "selective_copying": 13, "mqar": 14, "parity": 14,
    "noisy_recall": 14, "in_context_recall": 15, "fuzzy_recall": 17,
}  # fmt: skip
USUAL_S = 12.0


@dataclass(frozen=True)
class Terms:
    """Of one verification.

    account  of the line: one level for all that is claimed
    repeats  seeds of a proxy's twin in one pair, where more than one
    """

    account: Account
    repeats: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def told(cls, told: Mapping[str, Any]) -> Terms:
        """As an opening has them; earlier ones had bars besides, which nobody is held to now."""
        return cls(Account(**told["account"]), dict(told["repeats"]))

    @property
    def level(self) -> float:
        return next_level(self.account)

    @property
    def first_level(self) -> float:
        """Of the look at the first pair alone."""
        return FAR * self.level


def terms(turns: Sequence[Turn], suites: Suites, account: Account) -> Terms:
    """As the trials of a line have it."""
    return terms_of(noise_of(turns, suites.whole), suites, account)


def terms_of(noise: Mapping[str, float], suites: Suites, account: Account) -> Terms:
    """Of the deviation of a pair on each proxy."""
    return Terms(account, repeats(suites, noise))


def noise_of(turns: Iterable[Turn], legs: Sequence[Leg]) -> dict[str, float]:
    """Of each proxy, the deviation of a difference of one seed a side, pooled within rounds.

    A pair of a trial may be the mean of several trainings, which spread less than one.
    A proxy that spreads by chance alone, learned or not, spreads more on some designs than on
    others; what is pooled is between them.
    """
    spread, freedom = defaultdict[str, float](float), defaultdict[str, int](int)
    for result in (believed(turn).result for turn in turns):
        if result.error is not None or result.facts.get("stage") not in ("screen", "confirm"):
            continue
        for name, mine in result.facts.get("proxies", {}).items():
            its = result.facts.get("champion", {}).get(name, ())
            pairs = [a - b for a, b in zip(mine, its, strict=False)]
            if len(pairs) > 1:
                one = 2 / sum(1 / n for n in result.facts.get("trained", {}).get(name, (1, 1)))
                spread[name] += one * sum((each - fmean(pairs)) ** 2 for each in pairs)
                freedom[name] += len(pairs) - 1
    found = dict[str, float]()
    for name in (leg.name for leg in legs):
        sd = UNKNOWN_SD if name in VERIFY else KNOWN_SD
        sd = PRIOR_SD.get(name, sd)
        if freedom[name] >= N_KNOWN:
            sd = math.sqrt(spread[name] / freedom[name])
        found[name] = max(sd, LEAST_SD)
    return found


def repeats(suites: Suites, noise: Mapping[str, float]) -> dict[str, int]:
    """How many seeds of a proxy's twin one pair asks: 1 to MOST, named where more than 1.

    With k seeds of a proxy of weight w, deviation s and cost c beside others that have the
    variance V and cost C, variance times cost, (V + w^2 s^2 / k) (C + c k), is least at
    k = w s sqrt(C / (c V)): Neyman's allocation. Parity, learned or not, is 14 s of 134 and nine
    tenths of the variance: seven seeds of it in a pair cost two
    thirds of a pair more and leave a seventh of that.
    """
    weight = weights(suites)
    parts = {name: (weight[name] * noise[name]) ** 2 for name in weight}
    costs = {name: SECONDS.get(name, USUAL_S) for name in weight}
    found = {}
    for name, part in parts.items():
        if noise[name] < TORN:
            continue
        others, beside = sum(parts.values()) - part, sum(costs.values()) - costs[name]
        best = math.sqrt(part * beside / (costs[name] * others)) if others else 1.0
        if (k := min(MOST, round(best))) > 1:
            found[TWINS[name][0]] = k
    return found


def weights(suites: Suites) -> dict[str, float]:
    """Of each proxy in the mean of the suites."""
    names = [leg.name for leg in suites.whole]
    return {name: suites.mean({n: [float(n == name)] for n in names})[0] for name in names}

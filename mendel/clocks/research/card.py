"""One design on one seed of all sealed proxies: what is asked of a worker, and what it showed.

job -> leg by leg, the most telling a second first -> card; who cannot come near any more gives up
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from mendel import judge
from mendel.clocks.research.bench import Bench, number
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.suite import Leg, Suites
from mendel.clocks.research.terms import weights
from mendel.clocks.research.twins import Twins
from mendel.evidence import Stratum
from mendel.spec import Recipe
from mendel.types import TRIAL, InputError, SealedError

USUAL = 0.5  # of the recipe's score, what a design of the menu is thought to have: it orders only


@dataclass(frozen=True)
class Job:
    """For a worker process.

    level    at which it gives up, being worse than the recipe beside it; 0: never
    beside   the recipe's scores on these seeds
    repeats  how many seeds of a proxy it asks, where more than one
    order    of the proxies, behind those that sweep a rate
    """

    design: str
    recipe: Recipe
    twins: Twins
    folder: Path  # in the vault: what was measured is kept there, and not measured again
    seed: int
    tuning: int  # the seed that rates are swept on, which is the screen's
    level: float = 0.0
    beside: Mapping[str, Sequence[float]] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    order: Sequence[str] = ()

    @property
    def screens(self) -> bool:
        return self.seed == self.tuning

    @property
    def legs(self) -> list[Leg]:
        """As they are asked."""
        place = {name: i for i, name in enumerate(self.order)}
        known = self.twins.heaviest
        return sorted(known, key=lambda leg: (not leg.swept, place.get(leg.name, len(place))))


@dataclass(frozen=True)
class Card:
    """What a job showed. An error, or a score that is none, counts as a guess."""

    design: str
    seed: int
    proxies: Mapping[str, float]  # normalised, the mean of its seeds; those that were asked
    mean: float  # of the suites; what was left when it gave up counts in full
    gave_up: bool = False  # it is far behind, and was not asked all
    error: str | None = None
    seconds: float = 0.0  # of training, in whichever sitting
    by_seed: Mapping[str, Sequence[float]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)  # seconds of a seed

    def scores(self, proxy: str) -> Sequence[float]:
        return self.by_seed.get(proxy) or [self.proxies[proxy]]


def measured(job: Job) -> Card:
    """Train and ask, leg by leg; raises SealedError in a process that runs a trial."""
    if os.environ.get(TRIAL):
        raise SealedError("a trial reached for sealed proxies. Wanted the judge.")
    bench, scores = Bench(job.twins, job.folder), dict[str, list[float]]()
    asks = sorted(
        ((leg, i) for leg in job.legs for i in range(job.repeats.get(leg.name, 1))),
        key=lambda ask: ask[1],  # each once, then again
    )
    error, n_asked, costs = None, 0, dict[str, float]()
    for leg, i in asks:
        found = _asked(bench, job, leg, i)
        error, n_asked = error or found.error, n_asked + 1
        costs[leg.name] = costs.get(leg.name, 0.0) + found.seconds
        scores.setdefault(leg.name, []).append(0.0 if found.score is None else found.score)
        if n_asked < len(asks) and not (leg.swept and i == 0) and _is_far(job, scores):
            break  # no rate is left unswept: it may meet fresh pairs
    return Card(
        job.design,
        job.seed,
        {name: fmean(each) for name, each in scores.items()},
        best_case(job.twins, scores, job.repeats),
        n_asked < len(asks),
        error,
        sum(costs.values()),
        scores,
        {name: spent / len(scores[name]) for name, spent in costs.items()},
    )


def _is_far(job: Job, scores: Mapping[str, Sequence[float]]) -> bool:
    """Full marks on what is left would not do: the judge's p never falls as a rival's score rises.

    So whoever gives up would have been taken for beaten after all of the pair too.
    """
    if not job.level:
        return False
    gains = {
        name: [a - b for a, b in zip(mine, _filled(scores.get(name, ()), len(mine)), strict=True)]
        for name, mine in job.beside.items()
    }
    return beaten_at_once(weights(job.twins), gains, job.level)


def beaten_at_once(
    weight: Mapping[str, float], gains: Mapping[str, Sequence[float]], level: float
) -> bool:
    """By one pair: by more than the heaviest proxy is worth, which one seed may learn or not."""
    reserve = max(weight.values())
    less = {name: [gain - reserve for gain in found] for name, found in gains.items()}
    return judge.better_on_the_whole(strata(weight, less), level).keep


def strata(weight: Mapping[str, float], gains: Mapping[str, Sequence[float]]) -> list[Stratum]:
    """Each proxy is a part of the mean, and its seeds are its own."""
    whole = sum(weight[name] for name in gains)
    return [Stratum(found, weight[name] / whole) for name, found in gains.items()]


def _asked(bench: Bench, job: Job, leg: Leg, i: int) -> Measured:
    """At the rate of the leg's suite, which the screen sweeps; on a seed of the leg's own.

    So the parts of a mean are independent: no two legs are given the same first weights.
    """
    seed = number(str(job.seed), leg.name, str(i))
    try:
        if job.screens:
            return bench.tuned(job.recipe, leg, seed, job.tuning)
        rate = bench.factor(job.recipe, leg.suite, job.tuning)
        return bench.kept(job.recipe, leg, seed, 1.0 if rate is None else rate)
    except InputError as error:  # it cannot run there
        return Measured(factor=1.0, error=str(error))


def best_case(
    suites: Suites, scores: Mapping[str, Sequence[float]], asked: Mapping[str, int]
) -> float:
    """The mean of the suites if all that was not asked yet were answered in full."""
    full = {}
    for name in (leg.name for leg in suites.whole):
        full[name] = [fmean(_filled(scores.get(name, ()), asked.get(name, 1)))]
    return suites.mean(full)[0]


def _filled(told: Sequence[float], n: int) -> list[float]:
    """With full marks on what was not asked."""
    return [*told, *[1.0] * (n - len(told))]


def telling(suites: Suites, mine: Card) -> list[str]:
    """Proxies by how much a second of each is thought to take from what a rival may still reach.

    A full score is counted for what was not asked: where the recipe is far from that, and a proxy
    is quick and weighs much, asking takes away the most. It orders, and decides nothing.
    """
    weight = weights(suites)
    gain = {n: w * (1 - USUAL * mine.proxies.get(n, 0.0)) for n, w in weight.items()}
    return sorted(weight, key=lambda n: -gain[n] / max(mine.costs.get(n, 1.0), 1e-9))


def likely(suites: Suites, card: Card, mine: Card) -> float:
    """A mean to compare designs by: what was not asked is taken to be as the recipe has it."""
    return suites.mean({n: [s] for n, s in {**mine.proxies, **card.proxies}.items()})[0]

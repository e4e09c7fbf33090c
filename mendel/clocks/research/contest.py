"""One condition of a verification: a recipe against every design of the menu, on paired seeds.

screen: one seed; who is so far behind as no luck explains is beaten, and not looked at again
confirm: fresh seeds for the others, until the judge is sure of each or one cannot be beaten
Who was the strongest before is met first: a loss to one ends it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mendel import judge
from mendel.clocks.research.bench import Bench
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.suite import Leg, Suites, rounded
from mendel.clocks.research.twins import Condition, Twins
from mendel.clocks.research.verdict import MARGIN, TOO_GOOD, believed, max_pairs
from mendel.evidence import next_level
from mendel.spec import Recipe
from mendel.types import TRIAL, Account, InputError, SealedError, Turn, Verdict, digest

N_SD = 3  # of the difference of one pair, that who is beaten on one seed is behind by
PRIOR_SD, N_KNOWN = 0.07, 8  # of a pair, as seen before; where fewer pairs of the line are known
LEAST_SD = 0.05  # whatever a line says: its own pairs are of recipes that are much alike
N_FRESH = 4  # seeds a round of the confirmation
SURE = 0.95  # one-sided, of what a suite may have lost
N_FUTILE = 8  # pairs after which who is not ahead is given up: that costs no validity
MINE = "the recipe"


@dataclass(frozen=True)
class Terms:
    """What a verification is held to; fixed when it begins, before anything sealed is seen.

    account  of the line: one level for all that is claimed
    far      behind on one seed, who is beaten without a judge
    """

    account: Account
    far: float


def far(turns: Sequence[Turn]) -> float:
    """N_SD deviations of a paired difference, as the trials of a line have shown it.

    Pooled over the differences within each round. Sealed twins are more proxies than a screen
    asks, and a mean over more differs by less: what comes out is rather too far than too near.
    """
    rounds = [pairs for turn in turns if len(pairs := _pairs(turn)) > 1]
    spread = sum((each - fmean(pairs)) ** 2 for pairs in rounds for each in pairs)
    n_pairs = sum(map(len, rounds))
    sd = math.sqrt(spread / (n_pairs - len(rounds))) if n_pairs >= N_KNOWN else PRIOR_SD
    return N_SD * max(sd, LEAST_SD)


def _pairs(turn: Turn) -> list[float]:
    """Differences by seed, of a screen or a confirmation whose numbers are believed."""
    found = believed(turn).result
    if found.error is not None or found.facts.get("stage") not in ("screen", "confirm"):
        return []
    return [a - b for a, b in zip(found.scores, found.baseline, strict=False)]


def at_least(gains: Sequence[float]) -> float:
    """The lower end of a mean's one-sided interval, by Student's t; -inf of fewer than two."""
    from scipy.special import stdtrit  # takes a while, which workers do not need

    if (n := len(gains)) < 2:
        return -math.inf
    return fmean(gains) - float(stdtrit(n - 1, SURE)) * stdev(gains) / math.sqrt(n)


@dataclass(frozen=True)
class Job:
    """One design on one seed of all sealed proxies, for a worker process."""

    design: str
    recipe: Recipe
    twins: Twins
    folder: Path  # in the vault: what was measured is kept there, and not measured again
    seed: int
    tuning: int  # the seed that rates are swept on, which is the screen's
    least: float | None = None  # a mean that it gives up beneath

    @property
    def screens(self) -> bool:
        return self.seed == self.tuning


@dataclass(frozen=True)
class Card:
    """What a job showed. An error, or a score that is none, counts as a guess."""

    design: str
    seed: int
    proxies: Mapping[str, float]  # normalised; those that were asked
    mean: float  # of the suites; what was left when it gave up counts in full
    gave_up: bool = False
    error: str | None = None
    seconds: float = 0.0  # of training, in whichever sitting


def measured(job: Job) -> Card:
    """Train and ask, leg by leg; raises SealedError in a process that runs a trial."""
    if os.environ.get(TRIAL):
        raise SealedError("a trial reached for sealed proxies. Wanted the judge.")
    bench, scores = Bench(job.twins, job.folder), dict[str, float]()
    error, seconds = None, 0.0
    for leg in job.twins.heaviest:
        found = _asked(bench, job, leg)
        error, seconds = error or found.error, seconds + found.seconds
        scores[leg.name] = 0.0 if found.score is None else found.score
        if leg.swept or job.least is None:  # no rate is left unswept: it may meet fresh pairs
            continue
        if best_case(job.twins, scores) < job.least:
            break
    mean, gave_up = best_case(job.twins, scores), len(scores) < len(job.twins.whole)
    return Card(job.design, job.seed, scores, mean, gave_up, error, seconds)


def _asked(bench: Bench, job: Job, leg: Leg) -> Measured:
    """At the rate of the leg's suite, which the screen sweeps."""
    try:
        if job.screens:
            return bench.tuned(job.recipe, leg, job.seed, job.tuning)
        rate = bench.factor(job.recipe, leg.suite, job.tuning)
        return bench.kept(job.recipe, leg, job.seed, 1.0 if rate is None else rate)
    except InputError as error:  # it cannot run there
        return Measured(factor=1.0, error=str(error))


def best_case(suites: Suites, scores: Mapping[str, float]) -> float:
    """The mean of the suites if all that was not asked yet were answered in full."""
    return suites.mean({leg.name: [scores.get(leg.name, 1.0)] for leg in suites.whole})[0]


@dataclass
class Contest:
    """What is known in a condition, and what is to be measured next.

    favourites   who is screened and judged before all others are screened
    """

    condition: Condition
    folder: Path
    terms: Terms
    favourites: Sequence[str] = ()
    screen: dict[str, Card] = field(default_factory=dict)
    fresh: dict[str, list[Card]] = field(default_factory=dict)

    @property
    def wanted(self) -> list[Job]:
        """What to measure now; nothing: it is decided."""
        if MINE not in self.screen:
            return [self._job(MINE, 0)]
        names = [each.name for each in self.condition.rivals]
        for group in ([name for name in names if name in self.favourites], names):
            if left := [name for name in group if name not in self.screen]:
                return [self._job(name, 0) for name in left]
            if self.stopper:
                return []
            if self.open:
                return self._round()
        return []

    def _round(self) -> list[Job]:
        """The next pairs of the open ones that have the fewest, on the seeds of all others."""
        n = min(len(self.fresh.get(name, [])) for name in self.open)
        late = [name for name in self.open if len(self.fresh.get(name, [])) == n]
        who = [MINE, *late] if n == self.n_pairs else late
        return [self._job(name, 1 + n + i) for i in range(N_FRESH) for name in who]

    def add(self, cards: Sequence[Card]) -> None:
        for card in cards:
            if card.design not in self.screen:
                self.screen[card.design] = card
            else:
                self.fresh.setdefault(card.design, []).append(card)

    @property
    def n_pairs(self) -> int:
        return len(self.fresh.get(MINE, []))

    @property
    def near(self) -> list[str]:
        """Those whom one seed does not show to be far behind, and the best in any case, first."""
        rivals = sorted((n for n in self.screen if n != MINE), key=lambda n: -self.screen[n].mean)
        return [n for i, n in enumerate(rivals) if not i or self.screen[n].mean >= self.least]

    @property
    def least(self) -> float:
        """What a design has to reach on the first seed."""
        return self.screen[MINE].mean - self.terms.far

    @property
    def open(self) -> list[str]:
        """Near ones of whom the judge is not sure yet."""
        return [name for name in self.near if not self.judged(name).keep]

    @property
    def stopper(self) -> str | None:
        """A design that cannot be shown to be worse."""
        most = max_pairs(next_level(self.terms.account))  # as many as a confirmation's level asks
        for name in self.open:
            gains = self.gains(name)
            if len(gains) >= most or (len(gains) >= N_FUTILE and fmean(gains) <= 0):
                return name
        return None

    def judged(self, name: str) -> Verdict:
        """On all fresh pairs so far; as each design has to be beaten, none takes a level more."""
        theirs = self.fresh.get(name, [])
        mine = self.fresh.get(MINE, [])[: len(theirs)]
        scores, baseline = ([card.mean for card in side] for side in (mine, theirs))
        return judge.better_than(scores, baseline, self.terms.account, ceiling=1.0)

    def gains(self, name: str, suite: str | None = None) -> list[float]:
        """Of the recipe over a design, by fresh pair; on the screen's where there is none."""
        theirs = self.fresh.get(name) or [self.screen[name]]
        mine = self.fresh.get(MINE, [])[: len(theirs)] if name in self.fresh else None
        pairs = zip(mine or [self.screen[MINE]], theirs, strict=True)
        return [self._score(a, suite) - self._score(b, suite) for a, b in pairs]

    @property
    def strongest(self) -> str:
        """Of the menu: among those measured the most, the highest mean."""
        rivals = [name for name in self.screen if name != MINE]
        most = max(len(self.fresh.get(name, [])) for name in rivals)
        able = [name for name in rivals if len(self.fresh.get(name, [])) == most]
        return max(
            able,
            key=lambda name: fmean(c.mean for c in self.fresh.get(name) or [self.screen[name]]),
        )

    @property
    def regressions(self) -> dict[str, float]:
        """Suites that are worse than the strongest design's by more than the margin."""
        found = {s: fmean(self.gains(self.strongest, s)) for s in self.condition.twins.names}
        return {suite: gain for suite, gain in found.items() if gain < -MARGIN}

    @property
    def bounds(self) -> dict[str, float]:
        """Of each suite, what is gained over the strongest design at least; from fresh pairs."""
        if self.n_pairs < 2:
            return {}
        return {s: at_least(self.gains(self.strongest, s)) for s in self.condition.twins.names}

    @property
    def is_too_good(self) -> bool:
        """By more than a tenth better than everything, on the screen."""
        best = max(card.mean for name, card in self.screen.items() if name != MINE)
        return self.screen[MINE].mean > best + (TOO_GOOD - 1) * max(abs(best), 0.1)

    def told(self) -> dict[str, Any]:
        """Sealed: every score, for the turn."""
        cards = {name: [card, *self.fresh.get(name, [])] for name, card in self.screen.items()}
        found: dict[str, Any] = rounded(
            {name: [dict(card.proxies) for card in each] for name, each in cards.items()}
        )
        return found

    def _score(self, card: Card, suite: str | None) -> float:
        if suite is None:
            return card.mean
        twins = self.condition.twins
        asked = {name: [score] for name, score in card.proxies.items()}
        return twins.by_suite(asked).get(suite, [0.0])[0]

    def _job(self, name: str, place: int) -> Job:
        c = self.condition
        known = {each.name: each.recipe for each in c.rivals}
        tuning, seed = (int(digest([c.key, "verify", str(at)])[:12], 16) for at in (0, place))
        least = self.least if name != MINE and not place else None
        recipe = c.mine if name == MINE else known[name]
        return Job(name, recipe, c.twins, self.folder, seed, tuning, least)

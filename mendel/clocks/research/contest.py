"""One condition of a verification: a recipe against designs of the menu, on paired seeds.

first pair: who is behind on it as luck hardly explains is beaten, and not looked at again
looks: at 4, 6, 8 ... pairs of the others, until the judge is sure of each or one cannot be beaten
Who was the strongest before is met first: a loss to one ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from mendel import judge
from mendel.clocks.research.card import Card, Job, beaten_at_once, likely, strata, telling
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.terms import LEAST_SD, LOOKS, TORN_LEAST_SD, Terms, weights
from mendel.clocks.research.twins import Condition
from mendel.clocks.research.verdict import MARGIN, TOO_GOOD
from mendel.evidence import Stratum, Total, total
from mendel.propose.archive import cell_of
from mendel.types import Decision, Verdict, digest

SURE = 0.95  # one-sided, of what a suite may have lost
N_FUTILE = 4  # pairs after which who is not ahead is given up: that costs no validity
MINE = "the recipe"


@dataclass
class Contest:
    """What is known in a condition, and what is to be measured next.

    favourites   who is screened and judged before all others are screened
    only         of the menu, who is met; None: all
    """

    condition: Condition
    folder: Path
    terms: Terms
    favourites: Sequence[str] = ()
    only: Collection[str] | None = None
    screen: dict[str, Card] = field(default_factory=dict)
    fresh: dict[str, list[Card]] = field(default_factory=dict)
    _looks: dict[tuple[str, int, int], Verdict] = field(default_factory=dict)
    _beaten_at_once: dict[str, bool] = field(default_factory=dict)

    @property
    def wanted(self) -> list[Job]:
        """What to measure now; nothing: it is decided."""
        if MINE not in self.screen:  # beside it one that will hardly give up: no core is idle
            beside = [name for name in self.favourites if name in self.met][:1]
            return [self._job(name, 0) for name in (MINE, *beside)]
        for group in ([name for name in self.met if name in self.favourites], self.met):
            if left := [name for name in group if name not in self.screen]:
                return [self._job(name, 0) for name in left]
            if self.stopper:
                return []
            if self.open:
                return self._round()
        return []

    @property
    def met(self) -> list[str]:
        """Rivals of this condition."""
        names = [each.name for each in self.condition.rivals]
        return names if self.only is None else [name for name in names if name in self.only]

    def _round(self) -> list[Job]:
        """What the open ones that have the fewest pairs lack until the next look."""
        n = min(map(self.n_of, self.open))
        late = [name for name in self.open if self.n_of(name) == n]
        look = next(at for at in LOOKS if at > n)
        found = []
        for name in late:
            has, least = self.fresh.get(name, []), 0 if self._whole(name) else 1
            wanted = range(1 + len(has), look + least)
            found += [(place, name) for place in wanted]
        mine = len(self.fresh.get(MINE, []))
        last = max(place for place, _ in found)
        found += [(place, MINE) for place in range(1 + mine, last + 1)]
        return [self._job(name, place) for place, name in sorted(found)]

    def add(self, cards: Sequence[Card]) -> None:
        for card in cards:
            if card.design not in self.screen:
                self.screen[card.design] = card
            else:
                self.fresh.setdefault(card.design, []).append(card)

    @property
    def n_pairs(self) -> int:
        """Of the recipe."""
        return len(self.fresh.get(MINE, [])) + 1

    def n_of(self, name: str) -> int:
        return len(self.pairs(name))

    def _whole(self, name: str) -> bool:
        """The first pair counts where it was asked to its end."""
        return not self.screen[name].gave_up

    def pairs(self, name: str) -> list[tuple[Card, Card]]:
        """Of the recipe and a design, in the order of their seeds."""
        theirs, mine = ([self.screen[n], *self.fresh.get(n, [])] for n in (name, MINE))
        first = 0 if self._whole(name) else 1
        return list(zip(mine, theirs, strict=False))[first:]

    @property
    def near(self) -> list[str]:
        """Those whom one pair does not show to be behind, and the best in any case, first."""
        return [n for i, n in enumerate(self.ranked) if not i or not self._is_far(n)]

    @property
    def ranked(self) -> list[str]:
        """Rivals by what they are likely to have."""
        twins, mine = self.condition.twins, self.screen[MINE]
        means = {n: likely(twins, card, mine) for n, card in self.screen.items() if n != MINE}
        return sorted(means, key=lambda name: -means[name])

    def _is_far(self, name: str) -> bool:
        if self.screen[name].gave_up:
            return True
        if name not in self._beaten_at_once:
            pair = [(self.screen[MINE], self.screen[name])]
            gains = {leg.name: _apart(pair, leg.name) for leg in self.condition.twins.whole}
            found = beaten_at_once(self._weights, gains, self.terms.first_level)
            self._beaten_at_once[name] = found
        return self._beaten_at_once[name]

    @property
    def best_of_kinds(self) -> list[str]:
        """Of each way to remember and erase, whoever is likely to be the best."""
        recipes = {each.name: each.recipe for each in self.condition.rivals}
        found: dict[tuple[str, str], str] = {}
        for name in self.ranked:
            cell = cell_of(recipes[name], self.condition.caps)
            found.setdefault((cell.remembers, cell.erases), name)
        return list(found.values())

    @property
    def open(self) -> list[str]:
        """Near ones of whom the judge is not sure yet."""
        return [name for name in self.near if not self.judged(name).keep]

    @property
    def stopper(self) -> str | None:
        """A design that cannot be shown to be worse."""
        for name in self.open:
            n, gain = self.n_of(name), fmean(self.gains(name))
            if n >= max(LOOKS) or (n >= N_FUTILE and gain <= 0):
                return name
        return None

    def judged(self, name: str) -> Verdict:
        """At each look that was come to; as each design has to be beaten, none takes a level more.

        A look has its share of the level, and the shares of all looks and of the first pair's sum
        to 1. So a design that is level is taken for beaten with at most that level (union bound,
        whatever the looks have in common), and the claim, which needs all of them beaten in all
        conditions, is false with at most the level of any one (an intersection-union test: Berger
        1982). Stopping early, or which of the others are met, adds nothing to it.
        """
        pairs, found = self.pairs(name), Verdict(Decision.CONTINUE, "no look yet")
        for n, share in LOOKS.items():
            if len(pairs) < n or found.keep:
                break
            found = self._look(pairs[:n], share * self.terms.level)
        return found

    def _look(self, pairs: Sequence[tuple[Card, Card]], level: float) -> Verdict:
        """Kept as it was found: cards do not change, and it is asked for often."""
        key = pairs[0][1].design, pairs[0][1].seed, len(pairs)
        if key not in self._looks:
            self._looks[key] = judge.better_on_the_whole(self._strata(pairs), level)
        return self._looks[key]

    def gained(self, name: str, suite: str | None = None) -> Total | None:
        """Over a design, on all pairs, of a suite or of all; None of fewer than two."""
        return total(self._strata(self.pairs(name), suite))

    def _strata(
        self, pairs: Sequence[tuple[Card, Card]], suite: str | None = None
    ) -> list[Stratum]:
        """Each proxy is a part of the mean, and its seeds are its own."""
        legs = [leg for leg in self.condition.twins.whole if suite in (None, leg.suite)]
        torn = {name: TORN_LEAST_SD for name in self.terms.repeats}
        least = [torn.get(leg.name, LEAST_SD) for leg in legs]
        gains = {leg.name: _apart(pairs, leg.name) for leg in legs}
        parts = zip(strata(self._weights, gains), least, strict=True)
        return [replace(part, least_sd=sd) for part, sd in parts]

    @cached_property
    def _weights(self) -> dict[str, float]:
        return weights(self.condition.twins)

    def gains(self, name: str, suite: str | None = None) -> list[float]:
        """Of the recipe over a design, by pair; on what was asked where it gave up at once."""
        pairs = self.pairs(name) or [(self.screen[MINE], self.screen[name])]
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
        """Of each suite, what is gained over the strongest design at least."""
        found = {s: self.gained(self.strongest, s) for s in self.condition.twins.names}
        return {suite: one.at_least(SURE) for suite, one in found.items() if one is not None}

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
        recipe, repeats = c.mine if name == MINE else known[name], self.terms.repeats
        if place or MINE not in self.screen:
            return Job(name, recipe, c.twins, self.folder, seed, tuning, repeats=repeats)
        mine = self.screen[MINE]
        beside = {leg.name: mine.scores(leg.name) for leg in c.twins.whole}
        order, level = tuple(telling(c.twins, mine)), self.terms.first_level
        return Job(
            name, recipe, c.twins, self.folder, seed, tuning, level, beside, repeats, order
        )  # fmt: skip


def _apart(pairs: Sequence[tuple[Card, Card]], proxy: str) -> list[float]:
    """Differences by seed of a proxy."""
    return [
        x - y
        for mine, its in pairs
        for x, y in zip(mine.scores(proxy), its.scores(proxy), strict=True)
    ]

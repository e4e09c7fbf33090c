"""What the tuner learns: beliefs, a policy for each class, what it gains, and what it wants.

Heard -> gain -> (drift) -> beliefs -> policy of its class; beliefs -> Wanted

A request of the live plan says little where that plan is well known: then, where time is short, it
counts for the gain and for the watch over its plan, and only one in THIN moves the beliefs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mendel.clocks.tune.bandit import CLIP, Beliefs, chance_better, thompson, vector
from mendel.clocks.tune.classes import MOST, Classes
from mendel.clocks.tune.gain import Gain, Switch, saved
from mendel.clocks.tune.policy import FLOOR, Policy, policy
from mendel.clocks.tune.state import BURST, Floats, Heard, Known, Logged, Looks, Wanted

DWELL = 8  # requests of a class between two promotions
MARGIN = math.log(1.03)  # a switch must gain so much
SURE = 0.8  # and be so probable
LOOKS = 2.5  # recent ones that a plan needs in a class before it is promoted there
SURPRISE = 1.05  # mean of the last residuals, in standard deviations: about 4 of its own
DRAWS_EVERY = 4  # requests of a class between two draws
THIN = 16  # of the live plan's requests where time is short, one that is learned from
LOGGED = 4096
MOVED = 0.35  # share of traffic in other classes than before: the traffic has changed


class Learning:
    """Of these plans, by index; `base` is what a server without a tuner would run."""

    def __init__(self, plans: Sequence[str], base: int, chance: np.random.Generator) -> None:
        self.plans, self.base, self.chance = tuple(plans), base, chance
        self.beliefs = Beliefs(len(plans))
        self.switch, self.gain = Switch(), Gain()
        self.looks, self.logged = Looks(), deque[Logged](maxlen=LOGGED)
        self.classes = Classes()
        self.known: list[Known] = []
        self.able = np.ones(len(plans), bool)  # on the menu, and not dropped
        self.named: dict[str, int] = {}
        self.default = base
        self._before: Floats | None = None  # shares of the classes when it was switched off

    # -- where the traffic is --

    def of(self, c: int) -> Known:
        """A class, with the plan that its name had at the last promotion."""
        while len(self.known) <= c:
            i = len(self.known)
            live = self.named.get(self.classes.names[i], self.default)
            self.known.append(Known(live, _alone(len(self.plans), live)))
            self.renew(i)
        return self.known[c]

    def follow(self, c: int, at: Floats) -> None:
        """A request has come; wakes the tuner where the traffic has moved."""
        self.classes.follow(c, at)
        for each in self.known:
            each.share *= 0.98
        self.known[c].share += 0.02
        if self.switch.on:
            return
        now, before = self._shares(), self._before
        changed = before is not None and float(np.abs(now - before).sum()) / 2 > MOVED
        if self.switch.rest(changed=changed):
            for i, each in enumerate(self.known):
                each.burst = BURST
                self.renew(i)

    def _shares(self) -> Floats:
        found = np.zeros(MOST)
        found[: len(self.known)] = [each.share for each in self.known]
        shares: Floats = found / max(found.sum(), 1e-9)
        return shares

    # -- what a request says --

    def learn(self, heard: Heard, spent_s: float, *, dear: bool) -> None:
        """spent_s: the tuner's own for one request; dear: it has no time for more than it must."""
        asked, plan, y = heard.asked, heard.plan, heard.y
        c, known, x = asked.c, self.known[asked.c], vector(asked.c, asked.at)
        mean = self.beliefs.mean @ x
        self._count_gain(heard, mean, spent_s)
        known.n, known.since = known.n + 1, known.since + 1
        known.burst = max(0, known.burst - 1)
        is_live = plan == known.live
        if dear and is_live and not known.burst and known.n % THIN:
            off = (y - float(mean[plan])) / math.sqrt(float(self.beliefs.noise[plan]))
            self.beliefs.saw(plan, c)
            self._watch(known, c, max(-CLIP, min(CLIP, off)))
            return
        z = self.beliefs.learn(plan, x, c, y)
        if is_live:
            self._watch(known, c, z)
        elif heard.is_look:
            self.looks.add(self.plans[plan])
        if known.n % DRAWS_EVERY == 0 or not is_live or dear:
            self.renew(c)

    def _watch(self, known: Known, c: int, z: float) -> None:
        """A run of residuals to one side: what was known of the plan is no longer so."""
        known.drift += (z - known.drift) / 8
        if abs(known.drift) > SURPRISE:
            known.drift, known.burst = 0.0, BURST
            self.beliefs.doubt(known.live, c)
            self.renew(c)

    def _count_gain(self, heard: Heard, mean: Floats, spent_s: float) -> None:
        asked, plan = heard.asked, heard.plan
        own, chances = asked.chances(self.base)
        chance = float(chances[plan])
        self.logged.append(Logged(asked.at, asked.c, plan, asked.live, chance, heard.y))
        cost = np.exp(mean + self.beliefs.noise / 2)
        d = saved(cost, chances, own, self.base, plan, math.exp(heard.y))
        d -= spent_s / max(heard.work_s, 1e-9)
        self.gain.add(d)
        idle = all(each.live == self.base for each in self.known)
        if self.switch.on and self.switch.add(d, idle=idle):
            self._before = self._shares()

    def probed(self, c: int, plan: int, gap: float) -> None:
        """A rival beside the live plan, in log ms; wakes the tuner where it should take over."""
        x, known = vector(c, self.classes.centre(c)), self.known[c]
        y = float(self.beliefs.mean[known.live] @ x) + gap
        self.beliefs.learn(plan, x, c, y, n_passed=0)
        self.renew(c)
        if not self.switch.on and self._wanted(c) is not None:
            self.switch.rest(changed=True)

    def renew(self, c: int) -> None:
        """The policy of a class, from what is believed now."""
        known, able = self.known[c], self.able
        mean, variance = self.at_centre(c)
        likely = np.zeros(len(able))
        likely[able] = thompson(mean[able], variance[able], self.chance) + FLOOR
        known.policy = policy(
            mean, likely, live=known.live, baseline=self.base, burst=known.burst > 0
        )

    def at_centre(self, c: int) -> tuple[Floats, Floats]:
        """Of each plan there: the log of its mean cost, and how uncertain that is."""
        mean, variance = self.beliefs.at(vector(c, self.classes.centre(c)), c)
        return mean + self.beliefs.noise / 2, variance  # of the mean cost, not of the median

    # -- what it wants, and what it gets --

    def wanted(self) -> Wanted | None:
        """The promotion that gains most, if any has earned it."""
        if not self.switch.on:
            return None
        found = [w for c in range(len(self.known)) if (w := self._wanted(c))]
        return max(found, key=lambda w: w.facts["gain"] * w.facts["share"], default=None)

    def _wanted(self, c: int) -> Wanted | None:
        known = self.known[c]
        if known.since < DWELL:
            return None
        mean = self.beliefs.mean @ vector(c, self.classes.centre(c)) + self.beliefs.noise / 2
        able = np.flatnonzero(self.able & (self.beliefs.seen[:, c] >= LOOKS))
        best = int(min(able, key=lambda p: mean[p], default=known.live))
        gain = float(mean[known.live] - mean[best])
        if best == known.live or gain < MARGIN:  # as nearly always: its variance need not be known
            return None
        mean, variance = self.at_centre(c)
        sure = chance_better(mean, variance, best, known.live, 0.0)
        if sure < SURE:
            return None
        name, mine, its = self.classes.names[c], self.plans[best], self.plans[known.live]
        facts = {
            "class": name,
            "from": its,
            "to": mine,
            "gain": gain,
            "sure": sure,
            "share": known.share,
            "n_looks": round(float(self.beliefs.seen[best, c]), 1),
            "ms": {self.plans[p]: round(float(np.exp(mean[p])), 4) for p in (best, known.live)},
        }
        said = f"{name}: {mine} for {its}, {math.exp(gain):.2f} times as fast"
        return Wanted(self.state({name: mine}), said, facts)

    def live(self) -> dict[str, str]:
        """The plan of each class."""
        pairs = zip(self.classes.names, self.known, strict=False)
        return {name: self.plans[each.live] for name, each in pairs}

    def state(self, changed: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What is live, with the plans of some classes changed."""
        plans = self.live() | dict(changed or {})
        largest = max(range(len(self.known)), key=lambda c: self.known[c].share, default=None)
        default = self.plans[self.default]
        if largest is not None:
            default = plans[self.classes.names[largest]]
        return {"classes": self.classes.to_list(), "plans": plans, "default": default}

    def adopt(self, state: Mapping[str, Any], *, frozen: bool) -> None:
        """Make a champion live. A plan that this machine does not have becomes the baseline."""
        if not self.known and state["classes"]:
            self.classes = Classes.parse(state["classes"], frozen=frozen)
        self.named = {name: self._index(plan) for name, plan in state["plans"].items()}
        self.default = self._index(state["default"])
        for i, name in enumerate(self.classes.names):
            known = self.of(i)
            live = self.named.get(name, self.default)
            if live != known.live:
                known.live, known.since, known.drift = live, 0, 0.0
            self.renew(i)

    def _index(self, plan: str) -> int:
        i = self.plans.index(plan) if plan in self.plans else self.base
        return i if self.able[i] else self.base

    def drop(self, dropped: Sequence[int]) -> None:
        """Look at these no more; never the baseline."""
        for plan in dropped:
            self.able[plan] = plan == self.base
        self.default = self._index(self.plans[self.default])
        self.named = {name: self._index(self.plans[plan]) for name, plan in self.named.items()}
        for c, known in enumerate(self.known):
            known.live = known.live if self.able[known.live] else self.base
            self.renew(c)


def _alone(n: int, live: int) -> Policy:
    own = np.zeros(n)
    own[live] = 1.0
    return Policy(0.0, 0.0, np.cumsum(own), own)

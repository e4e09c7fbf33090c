"""The tuner at the engine's side: a plan for each request, and what came of it.

Features -> class -> policy --lot--> Choice ... Trace -> beliefs, gain -> policy; Wanted -> clock

Which plan a class has changes only when its clock promotes a champion: `wanted` says what for,
`adopt` makes it live. All that is heavy is done when a request has ended, never when one is chosen.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.tune.bandit import Beliefs, chance_better, thompson, vector
from mendel.clocks.tune.classes import MOST, Classes, log_ms, point
from mendel.clocks.tune.gain import Gain, Switch, saved
from mendel.clocks.tune.policy import FLOOR, Policy, policy
from mendel.serve.protocols import Arm, Choice, Features, Trace
from mendel.types import InputError, did_you_mean

Floats = NDArray[np.float64]
Mode = Literal["exact", "deterministic"]
Planner = Callable[[Floats, int], int]  # point of a request, its class's plan -> plan
DWELL = 8  # requests of a class between two promotions
MARGIN = math.log(1.03)  # a switch must gain so much
SURE = 0.8  # and be so probable
LOOKS = 2.5  # recent ones that a plan needs in a class before it is promoted there
BURST = 40  # requests of a class that look around more, after a surprise or a birth
SURPRISE = 1.05  # mean of the last residuals, in standard deviations: about 4 of its own
DRAWS_EVERY = 4  # requests of a class between two draws
PENDING = 4096
SHARE = 0.007  # of work, that the tuner may take: past it, it learns from one request in SPARSE
SPARSE = 16
LOGGED = 4096
MOVED = 0.35  # share of traffic in other classes than before: the traffic has changed


class Wanted(NamedTuple):
    """A promotion that the beliefs speak for."""

    state: dict[str, Any]
    motivation: str
    facts: dict[str, Any]


class Logged(NamedTuple):
    """One request as the planner learns from it."""

    at: Floats
    c: int
    plan: int
    live: int
    chance: float  # of that plan, then
    y: float  # log ms per unit


@dataclass
class _Class:
    """What is known of one class beside the beliefs."""

    live: int
    policy: Policy
    n: int = 0
    since: int = 0  # requests since it was promoted
    burst: int = BURST
    drift: float = 0.0
    share: float = 0.0  # of the traffic, lately


@dataclass
class _Asked:
    """A request under way."""

    c: int
    at: Floats
    policy: Policy
    planned: int | None  # the planner's plan for it
    live: int
    on: bool


@dataclass
class Looks:
    """Of requests that came to nothing, since the last summary."""

    n: int = 0
    by_plan: dict[str, int] = field(default_factory=dict)


class Tuned:
    """A Chooser that learns; every plan is proven to give the same tokens.

    plans     by name, the baseline among them
    baseline  what a server without a tuner would run
    mode      deterministic: what the champion says, and nothing is learned
    state     a champion's, from an earlier run
    chance    seed of the lots
    """

    def __init__(
        self,
        plans: Sequence[str],
        baseline: str,
        *,
        mode: Mode = "exact",
        state: Mapping[str, Any] | None = None,
        chance: int = 0,
    ) -> None:
        if baseline not in plans:
            hint = did_you_mean(baseline, plans)
            raise InputError(f"baseline={baseline!r} is no plan. Wanted one of {plans}. {hint}")
        self.plans = tuple(plans)
        self.base, self.mode = self.plans.index(baseline), mode
        self.beliefs = Beliefs(len(plans))
        self.switch, self.gain = Switch(), Gain()
        self.planner: Planner | None = None
        self.looks, self.logged = Looks(), deque[Logged](maxlen=LOGGED)
        self.n_chosen, self.n_done, self.spent_s, self.work_s = 0, 0, 0.0, 0.0
        self.arms: dict[str, int] = {}
        self.lock = threading.RLock()
        self._chance = np.random.default_rng(chance)
        self._classes = Classes()
        self._known: list[_Class] = []
        self._named: dict[str, int] = {}
        self._default = self.base
        self._able = np.ones(len(plans), bool)  # on the menu, and not dropped
        self._pending: OrderedDict[tuple[Features, str], deque[_Asked]] = OrderedDict()
        self._before: Floats | None = None  # shares of the classes when it was switched off
        self.adopt(state or self.start())

    def start(self) -> dict[str, Any]:
        """Before anything is known: the baseline for all."""
        return {"classes": [], "plans": {}, "default": self.plans[self.base]}

    # -- the engine's side --

    def choose(self, features: Features) -> Choice:
        began = time.thread_time()
        with self.lock:
            found = self._choose(features)
            self.spent_s += time.thread_time() - began
        return found

    def done(self, trace: Trace) -> None:
        began = time.thread_time()
        with self.lock:
            self._done(trace)
            self.spent_s += time.thread_time() - began

    def _choose(self, features: Features) -> Choice:
        at = point(features)
        c = self._classes.nearest(at)
        known = self._class(c)
        self.n_chosen += 1
        if self.mode == "deterministic":
            return Choice(self.plans[known.live], "chosen")
        self._follow(c, at)
        if not self.switch.on:
            return Choice(self.plans[self.base], "baseline")
        planned = self._planned(at, known.live)
        plan, arm = self._draw(known, planned)
        self.arms[arm] = self.arms.get(arm, 0) + 1
        self._remember(features, plan, _Asked(c, at, known.policy, planned, known.live, True))
        return Choice(self.plans[plan], arm)

    def _planned(self, at: Floats, live: int) -> int | None:
        if self.planner is None:
            return None
        plan = self.planner(at, live)
        return plan if self._able[plan] else None

    def _draw(self, known: _Class, planned: int | None) -> tuple[int, Arm]:
        rule = known.policy
        a, b, d = self._chance.random(3)
        if a < rule.baseline:
            return self.base, "baseline"
        if b < rule.looks:
            return int(np.searchsorted(rule.rivals, d, side="right")), "explored"
        return known.live if planned is None else planned, "chosen"

    def _remember(self, features: Features, plan: int, asked: _Asked) -> None:
        key = (features, self.plans[plan])
        self._pending.setdefault(key, deque()).append(asked)
        if len(self._pending) > PENDING:
            self._pending.popitem(last=False)

    def _follow(self, c: int, at: Floats) -> None:
        """Where the traffic is; wakes the tuner where it has moved."""
        self._classes.follow(c, at)
        for each in self._known:
            each.share *= 0.98
        self._known[c].share += 0.02
        if self.switch.on:
            return
        now, before = self._shares(), self._before
        changed = before is not None and float(np.abs(now - before).sum()) / 2 > MOVED
        if self.switch.rest(changed=changed):
            for i, each in enumerate(self._known):
                each.burst = BURST
                self._renew(i)

    def _shares(self) -> Floats:
        found = np.zeros(MOST)
        found[: len(self._known)] = [each.share for each in self._known]
        shares: Floats = found / max(found.sum(), 1e-9)
        return shares

    def _done(self, trace: Trace) -> None:
        if trace.arm == "pinned":  # not by us; one of ours may look like it
            return
        waiting = self._pending.get((trace.features, trace.plan))
        y = log_ms(trace)
        if not waiting:
            return  # chosen while the tuner was off
        asked = waiting.popleft()
        if not waiting:
            del self._pending[trace.features, trace.plan]
        if y is None:
            return
        self.n_done, self.work_s = self.n_done + 1, self.work_s + trace.work_s
        dear = self.n_done > 100 and self.spent_s > SHARE * self.work_s
        if not dear or self.n_done % SPARSE == 0:  # whatever its plan, so that no gain is feigned
            self._learn(asked, self.plans.index(trace.plan), y, trace)

    def _learn(self, asked: _Asked, plan: int, y: float, trace: Trace) -> None:
        c, known, x = asked.c, self._known[asked.c], vector(asked.c, asked.at)
        own, chances = _chances(asked, self.base)
        self.logged.append(Logged(asked.at, c, plan, asked.live, float(chances[plan]), y))
        self._count_gain(x, (own, chances), plan, y, trace)
        z = self.beliefs.learn(plan, x, c, y)
        known.n, known.since = known.n + 1, known.since + 1
        known.burst = max(0, known.burst - 1)
        if plan == known.live:
            self._watch(known, c, z)
        elif trace.arm == "explored":
            self.looks.n += 1
            name = self.plans[plan]
            self.looks.by_plan[name] = self.looks.by_plan.get(name, 0) + 1
        if known.n % DRAWS_EVERY == 0 or plan != known.live:
            self._renew(c)

    def _watch(self, known: _Class, c: int, z: float) -> None:
        """A run of residuals to one side: what was known of the plan is no longer so."""
        known.drift += (z - known.drift) / 8
        if abs(known.drift) > SURPRISE:
            known.drift, known.burst = 0.0, BURST
            self.beliefs.doubt(known.live, c)

    def _count_gain(
        self, x: Floats, lots: tuple[Floats, Floats], plan: int, y: float, trace: Trace
    ) -> None:
        cost = np.exp(self.beliefs.mean @ x + self.beliefs.noise / 2)
        own, chances = lots
        d = saved(cost, chances, own, self.base, plan, math.exp(y))
        spent = self.spent_s / max(self.n_done, 1)  # of this process, a request
        d -= spent / max(trace.work_s, 1e-9)
        self.gain.add(d)
        idle = all(each.live == self.base for each in self._known)
        if self.switch.on and self.switch.add(d, idle=idle):
            self._before = self._shares()

    # -- policies --

    def _class(self, c: int) -> _Class:
        while len(self._known) <= c:
            i = len(self._known)
            live = self._named.get(self._classes.names[i], self._default)
            self._known.append(_Class(live, _alone(len(self.plans), live)))
            self._renew(i)
        return self._known[c]

    def _renew(self, c: int) -> None:
        """Its policy, from what is believed now."""
        known = self._known[c]
        mean, variance = self._at_centre(c)
        able = self._able
        found = np.zeros(len(able))
        found[able] = thompson(mean[able], variance[able], self._chance) + FLOOR
        known.policy = policy(
            mean, found, live=known.live, baseline=self.base, burst=known.burst > 0
        )

    def _at_centre(self, c: int) -> tuple[Floats, Floats]:
        mean, variance = self.beliefs.at(vector(c, self._classes.centre(c)), c)
        return mean + self.beliefs.noise / 2, variance  # of the mean cost, not of the median

    # -- the clock's side --

    def wanted(self) -> Wanted | None:
        """The promotion that gains most, if any has earned it."""
        with self.lock:
            if not self.switch.on or self.mode == "deterministic":
                return None
            found = [w for c in range(len(self._known)) if (w := self._wanted(c))]
            return max(found, key=lambda w: w.facts["gain"] * w.facts["share"], default=None)

    def _wanted(self, c: int) -> Wanted | None:
        known = self._known[c]
        if known.since < DWELL:
            return None
        mean, variance = self._at_centre(c)
        able = np.flatnonzero(self._able & (self.beliefs.seen[:, c] >= LOOKS))
        best = int(min(able, key=lambda p: mean[p], default=known.live))
        gain = float(mean[known.live] - mean[best])
        sure = chance_better(mean, variance, best, known.live, 0.0)
        if best == known.live or gain < MARGIN or sure < SURE:
            return None
        name, mine, its = self._classes.names[c], self.plans[best], self.plans[known.live]
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
        return Wanted(self._state({name: mine}), said, facts)

    def _state(self, changed: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What is live, with the plans of some classes changed."""
        plans = {
            name: self.plans[each.live]
            for name, each in zip(self._classes.names, self._known, strict=False)
        } | dict(changed or {})
        largest = max(range(len(self._known)), key=lambda c: self._known[c].share, default=None)
        default = self.plans[self._default]
        if largest is not None:
            default = plans[self._classes.names[largest]]
        return {"classes": self._classes.to_list(), "plans": plans, "default": default}

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Make a champion live. A plan that this machine does not have becomes the baseline."""
        with self.lock:
            if not self._known and state["classes"]:
                self._classes = Classes.parse(state["classes"], frozen=self.mode == "deterministic")
            self._named = {name: self._index(plan) for name, plan in state["plans"].items()}
            self._default = self._index(state["default"])
            for i, name in enumerate(self._classes.names):
                known = self._class(i)
                live = self._named.get(name, self._default)
                if live != known.live:
                    known.live, known.since, known.drift = live, 0, 0.0
                self._renew(i)

    def _index(self, plan: str) -> int:
        i = self.plans.index(plan) if plan in self.plans else self.base
        return i if self._able[i] else self.base

    def taken(self) -> Looks:
        """What was looked at in vain since the last time this was asked."""
        with self.lock:
            found, self.looks = self.looks, Looks()
            return found

    def told(self, features: Features, plan: str, y: float) -> None:
        """Something the start-up profile measured: of no class, but near or far from each."""
        with self.lock:
            self.beliefs.learn(self.plans.index(plan), vector(None, point(features)), None, y)
            for c in range(len(self._known)):
                self._renew(c)

    def drop(self, plans: Collection[str]) -> None:
        """Look at these no more; never the baseline."""
        with self.lock:
            for plan in plans:
                self._able[self.plans.index(plan)] = plan == self.plans[self.base]
            for c, known in enumerate(self._known):
                known.live = known.live if self._able[known.live] else self.base
                self._renew(c)

    def class_of(self, features: Features) -> str:
        """The name of its class, for those who look on; makes none."""
        with self.lock:
            c = self._classes.find(point(features))
            return "all" if c is None else self._classes.names[c]

    def live(self) -> dict[str, str]:
        """The plan of each class."""
        with self.lock:
            return {
                name: self.plans[each.live]
                for name, each in zip(self._classes.names, self._known, strict=False)
            }

    def status(self) -> dict[str, Any]:
        """For people, and for /v1/observe."""
        with self.lock:
            rows = {}
            for c, (name, each) in enumerate(zip(self._classes.names, self._known, strict=False)):
                cost = np.exp(self._at_centre(c)[0])
                rows[name] = {
                    "plan": self.plans[each.live],
                    "share": round(each.share, 3),
                    "n": each.n,
                    "ms_per_unit": {
                        p: round(float(v), 4) for p, v in zip(self.plans, cost, strict=True)
                    },
                }
            return {
                "mode": self.mode,
                "on": self.switch.on,
                "why": self.switch.reason,
                "baseline": self.plans[self.base],
                "classes": rows,
                "saved": self.gain.to_dict(),
                "arms": dict(self.arms),
                "controller_share": self.spent_s / self.work_s if self.work_s else 0.0,
                "controller_us": 1e6 * self.spent_s / max(self.n_chosen, 1),
            }


def _alone(n: int, live: int) -> Policy:
    own = np.zeros(n)
    own[live] = 1.0
    return Policy(0.0, 0.0, np.cumsum(own), own)


def _chances(asked: _Asked, baseline: int) -> tuple[Floats, Floats]:
    """The tuner's own share of each plan, and each plan's chance, for this one request."""
    rule = asked.policy
    if asked.planned is not None and asked.planned != asked.live:
        own = rule.own.copy()
        own[asked.live] -= 1 - rule.looks
        own[asked.planned] += 1 - rule.looks
        rule = rule._replace(own=own)
    return rule.own, rule.chances(baseline)

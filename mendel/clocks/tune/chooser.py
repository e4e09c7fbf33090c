"""The tuner at the engine's side: a plan for each request, and what came of it.

Features -> class -> policy --lot--> Choice ... Trace --queue--> learning -> policy; Wanted -> clock

Which plan a class has changes only when its clock promotes a champion: `wanted` says what for,
`adopt` makes it live. What is heavy is neither done when a request is chosen for nor when it ends,
but when the clock ticks, on its thread; only where nobody ticks, the engine's thread does it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mendel.clocks.tune.bandit import Beliefs, vector
from mendel.clocks.tune.classes import log_ms, point
from mendel.clocks.tune.gain import Gain, Switch
from mendel.clocks.tune.learning import Learning
from mendel.clocks.tune.state import Asked, Floats, Heard, Known, Logged, Looks, Wanted
from mendel.serve.protocols import Arm, Choice, Features, Trace
from mendel.types import InputError, did_you_mean

Mode = Literal["exact", "deterministic"]
Planner = Callable[[Floats, int], int]  # point of a request, its class's plan -> plan
PENDING = 4096  # requests under way
WAITING = 128  # ended, and not learned from yet: more, and whoever comes learns
TOGETHER = 16  # learned from at once: from one alone takes four times as long, caches being cold
SHARE = 0.004  # of work, that the tuner may take: past it, it learns less from each request,
MOST_SHARE = (
    0.006  # and past this, from one in SPARSE alone; the others have the live plan, and no looks
)
SPARSE = 16
TIMED = 8  # of calls by the engine, one whose time is taken: to ask for it takes a while too


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
        self._of = {plan: i for i, plan in enumerate(self.plans)}
        self.base, self.mode = self._of[baseline], mode
        self.planner: Planner | None = None
        self.n_chosen, self.n_done, self.n_ended, self.n_probed = 0, 0, 0, 0
        self.spent_s, self.work_s = 0.0, 0.0
        self.arms: dict[str, int] = {}
        self.lock = threading.RLock()
        self.news = threading.Event()  # much has ended
        self._chance = np.random.default_rng(chance)
        self._learning = Learning(self.plans, self.base, self._chance)
        self._pending: OrderedDict[tuple[Features, str], deque[Asked]] = OrderedDict()
        self._heard: deque[Heard] = deque()
        self._is_dear = False  # over MOST_SHARE
        self.adopt(state or self.start())

    def start(self) -> dict[str, Any]:
        """Before anything is known: the baseline for all."""
        return {"classes": [], "plans": {}, "default": self.plans[self.base]}

    # -- the engine's side --

    def choose(self, features: Features) -> Choice:
        with self.lock:
            self.n_chosen += 1
            if self.n_chosen % TIMED:
                return self._choose(features)
            began = time.thread_time()
            found = self._choose(features)
            self.spent_s += TIMED * (time.thread_time() - began)
            return found

    def done(self, trace: Trace) -> None:
        if trace.arm == "pinned":  # not by us; one of ours may look like it
            return
        with self.lock:
            self.n_ended += 1
            if self.n_ended % TIMED:
                self._done(trace)
            else:
                began = time.thread_time()
                self._done(trace)
                self.spent_s += TIMED * (time.thread_time() - began)
        if len(self._heard) >= TOGETHER and not self.news.is_set():
            self.news.set()
        if len(self._heard) >= WAITING:
            self.learn()

    def _choose(self, features: Features) -> Choice:
        learning, at = self._learning, point(features)
        c = learning.classes.nearest(at)
        known = learning.of(c)
        if self.mode == "deterministic":
            return Choice(self.plans[known.live], "chosen")
        learning.follow(c, at)
        if not learning.switch.on:
            return Choice(self.plans[self.base], "baseline")
        planned = self._planned(at, known.live)
        # by lot: every sixteenth would be of one kind where the traffic has a period
        if self._is_dear and self._chance.random() > 1 / SPARSE:
            learning.switch.skip()
            return Choice(self.plans[known.live if planned is None else planned], "chosen")
        plan, arm = self._draw(known, planned)
        self.arms[arm] = self.arms.get(arm, 0) + 1
        self._remember(features, plan, Asked(c, at, known.policy, planned, known.live))
        return Choice(self.plans[plan], arm)

    def _planned(self, at: Floats, live: int) -> int | None:
        if self.planner is None:
            return None
        plan = self.planner(at, live)
        return plan if self._learning.able[plan] else None

    def _draw(self, known: Known, planned: int | None) -> tuple[int, Arm]:
        rule = known.policy
        a, b, d = self._chance.random(3).tolist()
        if a < rule.baseline:
            return self.base, "baseline"
        if b < rule.looks:
            return int(np.searchsorted(rule.rivals, d, side="right")), "explored"
        return known.live if planned is None else planned, "chosen"

    def _remember(self, features: Features, plan: int, asked: Asked) -> None:
        key = (features, self.plans[plan])
        self._pending.setdefault(key, deque()).append(asked)
        if len(self._pending) > PENDING:
            self._pending.popitem(last=False)

    def _done(self, trace: Trace) -> None:
        self.work_s += trace.work_s
        key = (trace.features, trace.plan)
        waiting = self._pending.get(key)
        if not waiting:
            return  # chosen while the tuner was off, or had no time
        asked = waiting.popleft()
        if not waiting:
            del self._pending[key]
        y = log_ms(trace)
        if y is not None:
            look = trace.arm == "explored"
            self._heard.append(Heard(asked, self._of[trace.plan], y, trace.work_s, look))

    # -- the clock's side --

    def learn(self) -> int:
        """From all that has ended; returns how many. The lock is free between two of them."""
        n = 0
        while self._heard:
            with self.lock:
                if not self._heard:
                    break
                began = time.thread_time()
                heard = self._heard.popleft()
                self.n_done += 1
                share = self.spent_s / self.work_s if self.n_ended > 100 else 0.0
                self._is_dear = share > MOST_SHARE
                spent_s = self.spent_s / self.n_ended
                self._learning.learn(heard, spent_s, dear=share > SHARE)
                self.spent_s += time.thread_time() - began
                n += 1
        return n

    def wanted(self) -> Wanted | None:
        """The promotion that gains most, if any has earned it by now."""
        self.learn()
        with self.lock:
            began = time.thread_time()
            found = None if self.mode == "deterministic" else self._learning.wanted()
            self.spent_s += time.thread_time() - began
            return found

    @property
    def n_known(self) -> int:
        """Of requests and probes that were learned from."""
        return self.n_done + self.n_probed

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Make a champion live. A plan that this machine does not have becomes the baseline."""
        with self.lock:
            self._learning.adopt(state, frozen=self.mode == "deterministic")

    def state(self) -> dict[str, Any]:
        """What is live, as a champion's state has it."""
        with self.lock:
            return self._learning.state()

    def taken(self) -> Looks:
        """What was looked at in vain since the last time this was asked."""
        self.learn()
        with self.lock:
            found, self._learning.looks = self._learning.looks, Looks()
            return found

    def logged(self) -> list[Logged]:
        """The requests that were learned from since the last time this was asked."""
        with self.lock:
            found = list(self._learning.logged)
            self._learning.logged.clear()
            return found

    def told(self, features: Features, plan: str, y: float) -> None:
        """Something the start-up profile measured: of no class, but near or far from each."""
        with self.lock:
            learning = self._learning
            learning.beliefs.learn(self._of[plan], vector(None, point(features)), None, y)
            for c in range(len(learning.known)):
                learning.renew(c)

    def probed(self, features: Features, plan: str, gap: float) -> None:
        """Run again beside the traffic: log of its cost against that of its class's live plan."""
        self.learn()
        with self.lock:
            c = self._learning.classes.find(point(features))
            if c is not None and c < len(self._learning.known) and self.mode == "exact":
                self._learning.probed(c, self._of[plan], gap)
                self.n_probed += 1

    def able(self) -> list[str]:
        """The plans that were not dropped."""
        return [plan for i, plan in enumerate(self.plans) if self._learning.able[i]]

    def used(self) -> set[str]:
        """What the champion gives any class: it is not dropped, but found dear by looks at others,
        so that what is live is what the ledger says."""
        state = self.state()
        return {state["default"], *state["plans"].values()}

    def drop(self, plans: Collection[str]) -> None:
        """Look at these no more; never the baseline."""
        with self.lock:
            self._learning.drop([self._of[plan] for plan in plans])

    # -- for those who look on --

    @property
    def beliefs(self) -> Beliefs:
        return self._learning.beliefs

    @property
    def switch(self) -> Switch:
        return self._learning.switch

    @property
    def gain(self) -> Gain:
        return self._learning.gain

    def class_of(self, features: Features) -> str:
        """The name of its class; makes none."""
        with self.lock:
            classes = self._learning.classes
            c = classes.find(point(features))
            return "all" if c is None else classes.names[c]

    def live(self) -> dict[str, str]:
        """The plan of each class."""
        with self.lock:
            return self._learning.live()

    def status(self) -> dict[str, Any]:
        """For people, and for /v1/observe."""
        self.learn()
        with self.lock:
            pairs = zip(self._learning.classes.names, self._learning.known, strict=False)
            return {
                "mode": self.mode,
                "on": self.switch.on,
                "why": self.switch.reason,
                "baseline": self.plans[self.base],
                "classes": {name: self._row(c, one) for c, (name, one) in enumerate(pairs)},
                "saved": self.gain.to_dict(),
                "arms": dict(self.arms),
                "controller_share": self.spent_s / self.work_s if self.work_s else 0.0,
                "controller_us": 1e6 * self.spent_s / max(self.n_chosen, 1),
            }

    def _row(self, c: int, known: Known) -> dict[str, Any]:
        cost = np.exp(self._learning.at_centre(c)[0])
        ms = {p: round(float(v), 4) for p, v in zip(self.plans, cost, strict=True)}
        return {
            "plan": self.plans[known.live],
            "share": round(known.share, 3),
            "n": known.n,
            "ms_per_unit": ms,
        }

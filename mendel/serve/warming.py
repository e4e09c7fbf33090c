"""Prefixes computed when idle, for requests that may come: a bounded share of all the work.

What was spent counts as wasted until a request takes the prefix; where the waste is over its
share, nothing more is warmed.
"""

from __future__ import annotations

from collections import deque

from mendel.serve.job import Job
from mendel.serve.steps import Stepper

MOST = 16  # that wait


class Warming:
    """share: of the engine's work, that may turn out wasted."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.n_done = 0
        self.work_s = 0.0
        self._waiting: deque[Job] = deque()
        self._now: Job | None = None

    def offer(self, job: Job, stepper: Stepper) -> bool:
        """From any thread; False where it is known to be refused."""
        if len(self._waiting) >= MOST or not self._pays(0.0, stepper):
            return False
        self._waiting.append(job)
        return True

    def step(self, stepper: Stepper) -> bool:
        """Some of the work there is; False where there is none."""
        job = self._now if self._now is not None and self._now.text is not None else None
        while job is None and self._waiting:
            job = self._allowed(self._waiting.popleft(), stepper)
        if job is None:
            self._now = None
            return False
        before = job.work_s
        goes_on = stepper.warm(job)
        self.work_s += job.work_s - before
        self._now = job if goes_on else None
        self.n_done += not goes_on
        return True

    def _allowed(self, job: Job, stepper: Stepper) -> Job | None:
        known = stepper.n_known(job)
        n = len(job.ids) - known
        return job if n > 0 and self._pays(n * stepper.row_s, stepper) else None

    def _pays(self, more_s: float, stepper: Stepper) -> bool:
        wasted_s = max(0.0, stepper.cache.wasted_s) + more_s
        return wasted_s <= self.share * stepper.work_s and stepper.work_s > 0

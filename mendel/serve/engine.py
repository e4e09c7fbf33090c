"""Many texts by one program, each as if it were alone.

Each step is one batch: the next token of every running text, the guesses behind it, and a chunk
of the prompts that are not read yet. Which plan guessed, what was cached and who else was in the
batch decide the time, and never the tokens: a guess is kept only where it is what the model says
at that place, with the number that the seed has for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mendel.serve.cache import BLOCK, LEAST, PrefixCache
from mendel.serve.drafter import Drafter
from mendel.serve.footprint import Footprint, measured
from mendel.serve.job import Job, check, overlap
from mendel.serve.protocols import (
    Choice,
    Chooser,
    End,
    Features,
    Listener,
    Overloaded,
    Program,
    Reason,
    Request,
    Token,
)
from mendel.serve.scheduler import Scheduler
from mendel.serve.steps import Stepper
from mendel.serve.texts import Texts
from mendel.serve.warming import Warming
from mendel.spec import PlanSpec
from mendel.types import InputError, did_you_mean

log = logging.getLogger(__name__)
DEFAULT_QUEUE, DEFAULT_RUNNING = 256, 64


@dataclass(frozen=True)
class Stats:
    """What the engine did since it began; seconds of its own thread."""

    n_running: int
    n_queued: int
    n_done: int
    n_failed: int
    n_refused: int
    n_set_back: int  # recomputed for want of room
    n_steps: int
    n_rows: int  # tokens through the program, guesses included
    n_tokens: int  # given out
    n_drafted: int
    n_accepted: int
    n_bytes: int  # that all texts hold
    capacity_bytes: int
    draft_bytes: int  # that texts of a draft model hold
    n_cached: int  # texts in the cache
    n_hits: int
    n_hit_tokens: int
    n_evicted: int
    n_warmed: int
    work_s: float  # in the program
    step_s: float  # in steps, the engine's own part included
    warm_s: float
    wasted_s: float  # warmed and not asked for, so far
    plans: Mapping[str, int]  # requests by plan


class Engine:
    """Serves requests on a thread of its own until it is closed."""

    def __init__(
        self,
        program: Program,
        plans: Mapping[str, PlanSpec],
        chooser: Chooser,
        *,
        max_queue: int = DEFAULT_QUEUE,
        max_running: int = DEFAULT_RUNNING,
        cache_bytes: int | None = None,
        chunk_rows: int = 64,
        warm_share: float = 0.1,
        draft: Program | None = None,
    ) -> None:
        """plans: by name, the first is that of requests whose chooser fails

        max_queue    requests that wait; more are Overloaded. One tenant of several may have as
                     many waiting as places are free, so that none fills it
        max_running  texts in a batch
        cache_bytes  of prefixes; None: half of what the program has
        chunk_rows   tokens of prompts in a batch, while others wait for their next token
        warm_share   of all compute, that may be spent on prefixes nobody has asked for yet
        draft        a small model of the same vocab, for plans with draft="model"
        raises       InputError for no plan, or one that lacks its draft model
        """
        if not plans:
            raise InputError("no plans. Wanted at least one. Give {'plain': PlanSpec()}.")
        lacking = [name for name, plan in plans.items() if plan.draft == "model"]
        if lacking and draft is None:
            raise InputError(f"plan {lacking[0]!r} guesses by a draft model. Give one as `draft`.")
        self.program, self.plans, self.chooser = program, dict(plans), chooser
        self.max_queue = max_queue
        self.footprint: Footprint = measured(program)
        half = program.capacity_bytes // 2
        self.cache = PrefixCache(half if cache_bytes is None else cache_bytes, cuts=program.cuts)
        self.scheduler = Scheduler(max_running)
        self.texts = Texts(program, self.cache, self.scheduler, self.footprint)
        self.drafter = None if draft is None else Drafter(draft, program)
        self.stepper = Stepper(program, self.texts, self.scheduler, chunk_rows, self.drafter)
        self.warming = Warming(warm_share)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._arrived: deque[Job] = deque()
        self._cancelled: deque[str] = deque()
        self._known: dict[str, str] = {}  # requests that have not ended, and whose they are
        self._is_closing = self._is_over = False
        self._n_done = self._n_failed = self._n_refused = 0
        self._by_plan = dict.fromkeys(self.plans, 0)
        self._gap_s = 0.1  # between the ends of requests, of late
        self._last_end = time.perf_counter()
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, listener: Listener) -> None:
        """Take a request; its tokens and its end go to the listener, from the engine's thread.

        raises   InputError for one that cannot be served; Overloaded where the queue is full, or
                 the engine closes
        """
        check(request, self.program.vocab, self.program.context)
        self.footprint.check(request, self.program.capacity_bytes)
        if request.plan is not None and request.plan not in self.plans:
            raise InputError(
                f"no plan {request.plan!r}. {did_you_mean(request.plan, self.plans)} "
                f"Known: {', '.join(self.plans)}."
            )
        job = Job(request, listener)
        with self._lock:
            if self._is_closing:
                raise Overloaded("the server is closing. Ask another one.", 5.0)
            if request.id in self._known:
                raise InputError(f"request {request.id!r} is being served. Give each its own id.")
            if (full := self._full(request.tenant)) is not None:
                self._n_refused += 1
                wait = self._retry_after()
                raise Overloaded(f"{full} Ask again in {wait:.0f} s.", wait)
            self._known[request.id] = request.tenant
            self._arrived.append(job)
        self._wake.set()

    def cancel(self, id: str) -> None:
        """End a request now, if it has not ended."""
        self._cancelled.append(id)
        self._wake.set()

    @property
    def block(self) -> int:
        """Tokens that the cache keeps together."""
        return 1 if self.cache.cuts else BLOCK

    def warm(self, ids: Sequence[int], tenant: str = "") -> bool:
        """Compute a prefix when idle, for a request that may come; False where it may not be."""
        if self._is_closing or not self.cache.capacity:
            return False
        most = len(ids) if self.program.context is None else min(len(ids), self.program.context - 1)
        n = most // self.block * self.block
        if n < LEAST:
            return False
        request = Request(id="", prompt=tuple(ids[:n]), n_tokens=1, tenant=tenant)
        check(request, self.program.vocab, self.program.context)
        taken = self.warming.offer(Job(request, _nobody), self.stepper)
        if taken:
            self._wake.set()
        return taken

    def close(self, drain_s: float = 0.0) -> int:
        """Take no more, let those here end in the time given, cut the rest off; returns how many.

        May be called twice: a second call with less time hurries the first.
        """
        with self._lock:
            self._is_closing = True
            left = len(self._known)
        self._wake.set()
        end = time.monotonic() + drain_s
        while self._known and self._thread.is_alive() and (now := time.monotonic()) < end:
            self._thread.join(min(0.02, end - now))
        left = len(self._known)
        self._is_over = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        return left

    def stats(self) -> Stats:
        s, cache = self.stepper, self.cache
        return Stats(
            n_running=len(self.scheduler.running),
            n_queued=max(0, len(self._known) - len(self.scheduler.running)),
            n_done=self._n_done,
            n_failed=self._n_failed,
            n_refused=self._n_refused,
            n_set_back=s.n_set_back,
            n_steps=s.n_steps,
            n_rows=s.n_rows,
            n_tokens=s.n_tokens,
            n_drafted=s.n_drafted,
            n_accepted=s.n_accepted,
            n_bytes=self.texts.n_bytes,
            capacity_bytes=self.program.capacity_bytes,
            draft_bytes=self.drafter.program.n_bytes if self.drafter else 0,
            n_cached=len(cache),
            n_hits=cache.n_hits,
            n_hit_tokens=cache.n_hit_tokens,
            n_evicted=cache.n_evicted,
            n_warmed=self.warming.n_done,
            work_s=s.work_s,
            step_s=s.step_s,
            warm_s=self.warming.work_s,
            wasted_s=max(0.0, cache.wasted_s),
            plans=dict(self._by_plan),
        )

    def _serve(self) -> None:
        while True:
            self._wake.clear()  # before the look at what it wakes for: what comes later sets it
            if self._is_over:
                break
            try:
                if not self._turn():
                    self._wake.wait()
            except Exception as error:  # a fault of ours: those who run pay, the engine lives
                log.exception("a step failed")
                for job in list(self.scheduler.running.values()):
                    self._end(job, "failed", f"the engine failed: {error}")
        self._take_in()
        for job in self.scheduler.all():
            self._end(job, "cancelled", "the server closed")
        if self.texts.spare is not None:
            self.texts.finish(self.texts.spare, keep=False)
        self.cache.clear()
        if self.drafter is not None:
            self.drafter.close()

    def _turn(self) -> bool:
        """One step; False where there was nothing to do."""
        self._take_in()
        self._admit()
        if self.scheduler.running:
            for job, reason, error in self.stepper.step():
                self._end(job, reason, error)
            return True
        return not self._is_closing and self.warming.step(self.stepper)

    def _take_in(self) -> None:
        n_cancelled = len(self._cancelled)  # before those who come: who comes and leaves is found
        while self._arrived:
            self.scheduler.wait(self._arrived.popleft())
        for _ in range(n_cancelled):
            job = self.scheduler.find(self._cancelled.popleft())
            if job is not None:
                self._end(job, "cancelled", None)

    def _admit(self) -> None:
        while (job := self.scheduler.next()) is not None:
            if job.admitted is None:
                self._choose(job)
                job.admitted = time.perf_counter()
            self.texts.begin(job)

    def _choose(self, job: Job) -> None:
        request = job.request
        job.features = Features(
            n_prompt=len(request.prompt),
            n_cached=self.texts.n_known(job),
            n_tokens=request.n_tokens,
            overlap=overlap(request.prompt),
            sampled=request.sampler.temperature > 0,
            constrained=request.grammar is not None,
            n_running=len(self.scheduler.running) - 1,
            n_queued=self.scheduler.n_waiting,
        )
        choice = self._choice(job)
        job.start(self.plans[choice.plan], choice.plan, choice.arm)
        self._by_plan[choice.plan] += not job.request.is_own

    def _choice(self, job: Job) -> Choice:
        if job.request.plan is not None:
            return Choice(job.request.plan, "pinned")
        try:
            choice = self.chooser.choose(job.features)
            if choice.plan in self.plans:
                return choice
            log.error("the chooser chose %r, which is not on the menu", choice.plan)
        except Exception:
            log.exception("the chooser failed")
        return Choice(next(iter(self.plans)), "baseline")

    def _end(self, job: Job, reason: Reason, error: str | None) -> None:
        self.scheduler.end(job)
        try:
            self.texts.finish(job, keep=reason != "failed")
            if self.drafter is not None:
                self.drafter.finish(job, keep=reason != "failed" and not job.request.is_own)
        except Exception:  # whoever waits for the end must hear of it
            log.exception("the text of %s could not be put away", job.request.id)
        with self._lock:
            self._known.pop(job.request.id, None)
        if not job.request.is_own:
            self._count(reason)
        end = job.end(reason, error)
        try:
            if job.admitted is not None:
                self.chooser.done(end.trace)
        except Exception:
            log.exception("the chooser failed")
        try:
            job.listener(end)
        except Exception:
            log.exception("a listener failed at the end of %s", job.request.id)

    def _count(self, reason: Reason) -> None:
        now = time.perf_counter()
        gap, self._last_end = now - self._last_end, now
        self._gap_s += 0.1 * (min(gap, 10.0) - self._gap_s)
        self._n_done, self._n_failed = self._n_done + 1, self._n_failed + (reason == "failed")

    def _full(self, tenant: str) -> str | None:
        """Why nobody else, or nobody else of a tenant's, may wait; None where there is a place."""
        running = list(self.scheduler.running.values())
        n_queued = len(self._known) - len(running)
        free = self.max_queue - n_queued
        if free <= 0:
            return f"{n_queued} requests wait, of at most {self.max_queue}."
        if not tenant or n_queued < free:
            return None
        here = sum(whose == tenant for whose in self._known.values())
        mine = here - sum(job.request.tenant == tenant for job in running)
        if mine < free:
            return None
        return f"{mine} of your requests wait, and the {free} free places are for others, too."

    def _retry_after(self) -> float:
        """Until half of the queue is served, at the rate of late."""
        return min(60.0, max(1.0, 0.5 * self.max_queue * self._gap_s))


def _nobody(_: Token | End) -> None: ...

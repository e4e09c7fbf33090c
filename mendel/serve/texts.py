"""The text of each job: what the cache knows of it, and what it gives the cache."""

from __future__ import annotations

from collections.abc import Iterable

from mendel.serve.cache import BLOCK, PrefixCache
from mendel.serve.footprint import Footprint
from mendel.serve.job import Job
from mendel.serve.protocols import Program
from mendel.serve.scheduler import Scheduler


class Texts:
    """Between jobs, program and cache; everything happens on the engine's thread."""

    def __init__(
        self, program: Program, cache: PrefixCache, scheduler: Scheduler, footprint: Footprint
    ) -> None:
        self.program, self.cache, self.scheduler = program, cache, scheduler
        self.footprint = footprint
        self.n_bytes = 0  # of all texts, when one last ended
        self.spare: Job | None = None  # what is being warmed

    def n_known(self, job: Job) -> int:
        """Tokens of its prompt that the cache has."""
        self._chain(job)
        assert job.chain is not None
        return self.cache.n_known(job.chain, len(job.ids) - 1)

    def begin(self, job: Job, *, asked: bool = True) -> None:
        """Give it a text, with what is known of its beginning.

        asked   for by somebody; not so what is warmed
        """
        self._chain(job)
        assert job.chain is not None
        found = None
        if job.plan.reuse:
            asked = asked and not job.request.is_own
            found = self.cache.take(job.chain, len(job.ids) - 1, asked=asked)
        job.text, n = found or (self.program.text(), 0)
        job.n_found = n
        job.n_shared = n // BLOCK * BLOCK  # a page that ends inside a block is copied to go on

    def finish(self, job: Job, *, keep: bool, wasted_s: float = 0.0) -> None:
        """Its text goes to the cache, or away."""
        text, job.text = job.text, None
        if text is not None and keep and self._keeps(job) and job.chain is not None:
            job.chain.grow(job.ids)
            self.cache.put(job.chain, text, wasted_s=wasted_s, warmed_from=job.n_found)
            self.trim()
        else:
            self.cache.wasted_s += wasted_s
            if text is not None:
                text.free()
        self.n_bytes = self.program.n_bytes

    def remember(self, job: Job) -> None:
        """Put what others may begin with into the cache as soon as it is known."""
        text, chain = job.text, job.chain
        if text is None or chain is None or not self._keeps(job):
            return
        n = text.n // BLOCK * BLOCK
        # one that can be cut is put once, when the prompt is whole, and again at its end
        now = job.n_out == 1 or job.is_followed if self.cache.cuts else text.n == n
        if now and n > job.n_shared:
            chain.grow(job.ids)
            job.n_shared = max(job.n_shared, self.cache.put(chain, text.fork()))
            self.trim()

    def share(self, jobs: Iterable[Job]) -> None:
        """Who needs the very block that another one computes now waits, and takes it then."""
        leaders: dict[bytes, list[Job]] = {}  # by the first block
        for job in sorted(jobs, key=lambda job: job.n_lacking - len(job.ids)):  # who is ahead first
            job.waits = False
            if job.text is None or job.chain is None or not self._keeps(job):
                continue
            self._catch_up(job)
            hashes, i = job.chain.hashes, job.text.n // BLOCK
            if i >= len(hashes):
                continue
            ahead = leaders.setdefault(hashes[0], [])
            leader = next((one for one in ahead if self._computes(one, i, hashes[i])), None)
            if leader is not None and (i + 1) * BLOCK < len(job.ids):
                job.waits = leader.is_followed = True
            else:
                ahead.append(job)

    def _computes(self, job: Job, i: int, hash: bytes) -> bool:
        """Whether block i will be had from this job."""
        if job.chain is None or job.text is None or i >= len(job.chain.hashes):
            return False
        return job.chain.hashes[i] == hash and (self.cache.cuts or job.text.n // BLOCK <= i)

    def limit(self, job: Job) -> int:
        """How many tokens at once: up to where a text must be forked to be found again."""
        if job.waits:
            return 0
        if self.cache.cuts or not self._reuses(job):
            return len(job.ids)
        return BLOCK - (len(job.ids) - job.n_lacking) % BLOCK

    def guessable(self, job: Job) -> int:
        """How many guesses may follow the next token, for all that this room minds."""
        if self.cache.cuts or not self._reuses(job):
            return len(job.ids)
        # a run that ends behind such a place would leave nothing there to be found again
        return BLOCK - len(job.ids) % BLOCK if len(job.ids) % BLOCK else 0

    def trim(self) -> None:
        """Hold the cache to its bytes; what running texts have to themselves is not its own."""
        jobs = [*self.scheduler.running.values(), *([self.spare] if self.spare else [])]
        private = 0.0
        for job in jobs:
            if job.text is not None:
                shared = self.footprint.a_token * job.n_shared if self.cache.cuts else 0.0
                private += max(0.0, self.footprint.of(job.text.n) - shared)
        self.cache.trim(lambda: self.program.n_bytes - int(private))

    def _catch_up(self, job: Job) -> None:
        """Go on from what another one has put into the cache meanwhile."""
        assert job.text is not None and job.chain is not None
        at, i = job.text.n, job.text.n // BLOCK
        if i >= len(job.chain.hashes) or not self.cache.knows(job.chain.hashes[i]):
            return
        if self.cache.n_known(job.chain, len(job.ids) - 1) <= at:
            return
        asked = not job.request.is_own and job is not self.spare
        if (found := self.cache.take(job.chain, len(job.ids) - 1, asked=asked)) is not None:
            job.text.free()
            job.text, n = found
            job.n_shared = n // BLOCK * BLOCK

    def _reuses(self, job: Job) -> bool:
        return job.plan.reuse and self.cache.capacity > 0

    def _keeps(self, job: Job) -> bool:
        """Whether it leaves its text to others; what the server asks itself nobody will ask."""
        return self._reuses(job) and not job.request.is_own

    def _chain(self, job: Job) -> None:
        if job.chain is None:
            job.chain = self.cache.chain(job.request.tenant)
        if self.cache.capacity:
            job.chain.grow(job.ids)

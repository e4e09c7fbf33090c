"""Who is served, and with how many tokens of its prompt in the next batch.

Every running text in decode has its rows in every batch. Prompts share the rest of the batch's
rows: by deficit round robin over tenants, and in turn inside a tenant, so that a tenant with long
prompts or many of them slows itself down.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from mendel.serve.job import Job

QUANTUM = 32  # rows that a tenant gains in its turn


class Scheduler:
    """Jobs wait by tenant, then run; a job set back waits at the head of its tenant's line.

    A tenant of whom nothing runs comes in beyond max_running, up to twice as many: else texts
    without an end of another one would keep it out for hours.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = max_running
        self.running: dict[str, Job] = {}  # by id
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # tenants in turn
        self._deficits: OrderedDict[str, int] = OrderedDict()  # of tenants with prompts to run
        self._held: set[str] = set()  # tenants set back for want of room, until somebody ends

    @property
    def n_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wait(self, job: Job) -> None:
        self._waiting.setdefault(job.request.tenant, deque()).append(job)

    def next(self) -> Job | None:
        """Who is to be admitted: of the tenant with the fewest running, in turn among equals."""
        if not self._waiting or len(self.running) >= 2 * self.max_running:
            return None
        counts, held = self.counts(), self._held if self.running else set[str]()
        tenant = min(self._waiting, key=lambda tenant: (tenant in held, counts[tenant]))
        is_crowded = len(self.running) >= self.max_running or bool(held)
        if is_crowded and (counts[tenant] or tenant in held):
            return None
        line = self._waiting[tenant]
        job = line.popleft()
        self._waiting.move_to_end(tenant)
        if not line:
            del self._waiting[tenant]
        self.running[job.request.id] = job
        return job

    def counts(self) -> Counter[str]:
        """How many of each tenant run."""
        return Counter(job.request.tenant for job in self.running.values())

    def end(self, job: Job) -> None:
        self.running.pop(job.request.id, None)
        self._held.clear()

    def set_back(self, job: Job) -> None:
        """Out of the batch, to be computed again later; of its tenant and of those who run,
        nobody new comes in meanwhile."""
        self.running.pop(job.request.id)
        self._waiting.setdefault(job.request.tenant, deque()).appendleft(job)
        self._held.add(job.request.tenant)

    def find(self, id: str) -> Job | None:
        """A waiting one leaves the line by being found; a running one stays."""
        if id in self.running:
            return self.running[id]
        for tenant, line in self._waiting.items():
            for job in line:
                if job.request.id == id:
                    line.remove(job)
                    if not line:
                        del self._waiting[tenant]
                    return job
        return None

    def all(self) -> list[Job]:
        return [*self.running.values(), *(job for line in self._waiting.values() for job in line)]

    def chunks(self, budget: int, limit: Callable[[Job], int]) -> list[tuple[Job, int]]:
        """Prompts that go on in the next batch, and by how many tokens each.

        budget   rows there are for them
        limit    how many tokens a job can take at once
        """
        lines: dict[str, deque[Job]] = {}
        for job in self.running.values():
            if job.n_lacking > 1:
                lines.setdefault(job.request.tenant, deque()).append(job)
        if not lines:
            self._deficits.clear()
            return []
        self._keep_turns(lines)
        rows: dict[str, int] = {}
        while budget > 0 and lines:
            tenant = next(tenant for tenant in self._deficits if tenant in lines)
            line, spare = lines[tenant], self._deficits[tenant] + QUANTUM
            while line and spare and budget:
                job, id = line[0], line[0].request.id
                wanted = min(job.n_lacking, limit(job)) - rows.get(id, 0)
                if wanted <= 0:
                    line.popleft()
                    continue
                n = min(wanted, spare, budget)
                rows[id] = rows.get(id, 0) + n
                spare, budget = spare - n, budget - n
                if n == wanted:
                    line.popleft()
            if line and spare:  # the batch is full: the turn goes on in the next one
                self._deficits[tenant] = spare - QUANTUM
                break
            self._deficits[tenant] = 0
            self._deficits.move_to_end(tenant)
            if not line:
                del lines[tenant]
        for id in rows:  # who had rows goes behind those who had none
            self.running[id] = self.running.pop(id)
        return [(self.running[id], n) for id, n in rows.items()]

    def _keep_turns(self, lines: dict[str, deque[Job]]) -> None:
        """Those without prompts lose what they had saved."""
        for tenant in [tenant for tenant in self._deficits if tenant not in lines]:
            del self._deficits[tenant]
        for tenant in lines:
            self._deficits.setdefault(tenant, 0)

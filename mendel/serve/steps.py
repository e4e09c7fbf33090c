"""One batch after the other: guesses, the program's run, and what its logits mean to each job."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from mendel.serve.drafter import Drafter
from mendel.serve.job import Job
from mendel.serve.protocols import F32, Piece, PoolFull, Program, Reason
from mendel.serve.scheduler import Scheduler
from mendel.serve.texts import Texts
from mendel.types import InputError

log = logging.getLogger(__name__)
ALONE = 3  # a batch of prompts alone may have so many times the rows: nobody waits for a token
DRAFT_ROWS = 64  # of a batch with guesses: tokens and guesses of all
LEAST_ROWS = 16  # of prompts, however many are in decode
WARM_ROWS = 32  # a request that comes meanwhile waits for no more


class Row(NamedTuple):
    """A job's part in a batch."""

    job: Job
    ids: Sequence[int]
    drafted: Sequence[int]

    n_wanted: int  # of the last ids, whose logits are asked

    @property
    def piece(self) -> Piece:
        assert self.job.text is not None
        return Piece(self.job.text, self.ids, self.n_wanted)


Ended = tuple[Job, Reason, str | None]


class Stepper:
    """The engine's inner loop; everything here happens on its thread."""

    def __init__(
        self,
        program: Program,
        texts: Texts,
        scheduler: Scheduler,
        chunk_rows: int,
        drafter: Drafter | None = None,
    ) -> None:
        self.program, self.texts, self.scheduler = program, texts, scheduler
        self.drafter = drafter
        self.chunk_rows = chunk_rows
        self.n_steps = self.n_rows = self.n_tokens = self.n_set_back = 0
        self.n_drafted = self.n_accepted = 0
        self.work_s = self.step_s = 0.0
        self.row_s = 0.0  # of a prompt's token in a batch, of late

    def step(self) -> list[Ended]:
        """One batch of all who run; returns those who ended in it."""
        started = time.perf_counter()
        running = self.scheduler.running
        writing = [job for job in running.values() if job.n_lacking == 1]
        drafts = self._drafts(writing)
        batch = [
            Row(job, [job.ids[-1], *drafted], drafted, 1 + len(drafted))
            for job, drafted in zip(writing, drafts, strict=True)
        ]
        n_rows = sum(len(row.ids) for row in batch)
        if len(writing) < len(running):
            left = max(LEAST_ROWS, self.chunk_rows - n_rows)
            budget = left if writing else ALONE * self.chunk_rows
            self.texts.share(job for job in running.values() if job.n_lacking > 1)
            for job, n in self.scheduler.chunks(budget, self.texts.limit):
                batch.append(_chunk(job, n))
        ended = self._settled(*self._run(batch))
        self.step_s += time.perf_counter() - started
        return ended

    def warm(self, job: Job) -> bool:
        """Run a chunk of a text that nobody waits for; False when it is whole, or has no room."""
        if job.text is None:
            self.texts.begin(job, asked=False)
            self.texts.spare = job
        n = min(WARM_ROWS, self.texts.limit(job), job.n_lacking)
        if n > 0 and job.text is not None:
            try:
                self._timed([_chunk(job, n)], None)
            except Exception as error:  # nobody waits for it, so nobody is told
                log.info("warming ended: %s", error)
                n = 0
        if n <= 0 or job.n_lacking <= 0:
            self.texts.spare = None
            self.texts.finish(job, keep=n > 0, wasted_s=job.work_s)
            return False
        self.texts.remember(job)
        return True

    def _run(self, batch: list[Row]) -> tuple[list[Row], list[F32], list[Ended]]:
        """The batch, or what of it there is room for; texts are set back where there is none."""
        ended: list[Ended] = []
        while batch:
            try:
                return batch, self._timed(batch, None), ended
            except PoolFull as error:
                batch = self._smaller(batch, error, ended)
            except Exception as error:
                log.exception("the program failed on a batch of %d texts", len(batch))
                ended += [(row.job, "failed", f"the program failed: {error}") for row in batch]
                return [], [], ended
        return [], [], ended

    def _smaller(self, batch: list[Row], error: PoolFull, ended: list[Ended]) -> list[Row]:
        """Room is made: of what nobody waits for, of guesses, of the youngest text of the tenant
        that has most; who is alone goes on in smaller steps."""
        if self.texts.spare is not None:
            spare, self.texts.spare = self.texts.spare, None
            self.texts.finish(spare, keep=False, wasted_s=spare.work_s)
            return batch
        if self.texts.cache.evict(1 + len(self.texts.cache) // 8):
            return batch
        if any(row.drafted for row in batch):
            return [_unguessed(row) for row in batch]
        jobs, counts = self.scheduler.running.values(), self.scheduler.counts()
        if len(jobs) == 1 and any(len(row.ids) > 1 for row in batch):
            return [_half(row) for row in batch]
        youngest = max(jobs, key=lambda job: (counts[job.request.tenant], job.admitted or 0.0))
        if len(jobs) == 1:
            ended.append((youngest, "failed", str(error)))
        else:
            self._set_back(youngest)
        return [row for row in batch if row.job is not youngest]

    def _set_back(self, job: Job) -> None:
        self.n_set_back += 1
        if job.text is not None:
            job.text.free()
        job.text, job.n_shared = None, 0
        self.scheduler.set_back(job)

    def _timed(self, batch: Sequence[Row], depth: int | None) -> list[F32]:
        """Run, and charge each job by its rows."""
        threads = max(row.job.plan.threads for row in batch)
        pieces = [row.piece for row in batch]
        started = time.perf_counter()
        found = self.program.run(pieces, depth=depth, threads=threads)
        work_s = time.perf_counter() - started
        n_rows = sum(len(piece.ids) for piece in pieces)
        a_row = work_s / n_rows
        for row, piece in zip(batch, pieces, strict=True):
            row.job.work_s += a_row * len(piece.ids)
        self.work_s, self.n_rows, self.n_steps = (
            self.work_s + work_s,
            self.n_rows + n_rows,
            self.n_steps + 1,
        )
        if n_rows >= LEAST_ROWS:
            self.row_s += 0.2 * (a_row - self.row_s) if self.row_s else a_row
        return found

    def _settled(self, batch: list[Row], logits: list[F32], ended: list[Ended]) -> list[Ended]:
        for row, z in zip(batch, logits, strict=True):
            job = row.job
            if job.n_lacking <= -len(row.drafted):  # the text holds all there is, and the guesses
                reason, error = self._given(job, z, row.drafted)
                if reason is not None:
                    ended.append((job, reason, error))
                if reason == "failed":
                    continue
            self.texts.remember(job)
        return ended

    def _given(
        self, job: Job, logits: F32, drafted: Sequence[int]
    ) -> tuple[Reason | None, str | None]:
        before, error = (job.n_out, job.n_drafted, job.n_accepted), None
        reason: Reason | None
        try:
            reason = job.settle(logits, drafted)
        except InputError as bad:
            reason, error = "failed", str(bad)
        except Exception as bad:
            log.exception("request %s failed", job.request.id)
            reason, error = "failed", f"{type(bad).__name__}: {bad}"
        job.n_steps += before[0] > 0
        self.n_tokens += job.n_out - before[0]
        self.n_drafted += job.n_drafted - before[1]
        self.n_accepted += job.n_accepted - before[2]
        if drafted and job.text is not None:
            sure = job.text.n - len(drafted)
            job.text.cut(min(job.text.n, max(sure, len(job.ids) - 1)))
        return reason, error

    def _drafts(self, jobs: Sequence[Job]) -> list[Sequence[int]]:
        """Guesses for each, maybe none."""
        if not any(job.plan.n_draft for job in jobs):
            return [()] * len(jobs)
        most = DRAFT_ROWS // len(jobs) - 1  # in a large batch a guess costs as much as a token
        lengths = [self._room(job, job.n_guesses(), most) for job in jobs]
        found: list[Sequence[int]] = [()] * len(jobs)
        depths: dict[int, list[int]] = {}
        modelled = []
        for i, (job, n) in enumerate(zip(jobs, lengths, strict=True)):
            if n and job.plan.draft == "model":
                modelled.append(i)
            elif n and job.plan.depth is not None:
                depths.setdefault(job.plan.depth, []).append(i)
            elif n:
                found[i] = job.guesses(n)
        for depth, members in depths.items():
            guesses = self._shallow(depth, [(jobs[i], lengths[i]) for i in members])
            for i, guess in zip(members, guesses, strict=True):
                found[i] = guess
        for i, guess in zip(
            modelled, self._modelled([(jobs[i], lengths[i]) for i in modelled]), strict=True
        ):
            found[i] = guess
        return found

    def _modelled(self, wanted: Sequence[tuple[Job, int]]) -> list[list[int]]:
        """By the small model, all jobs side by side."""
        if self.drafter is None or not wanted:
            return [[] for _ in wanted]
        before = self.drafter.work_s
        found = self.drafter.guess(wanted)
        self.work_s += self.drafter.work_s - before
        return found

    def _room(self, job: Job, n: int, most: int) -> int:
        context, back = self.program.context, self.program.n_undo - 1
        n = max(0, min(n, most) if self.program.cuts else min(n, most, back))
        n = min(n, self.texts.guessable(job))
        return n if context is None else max(0, min(n, context - len(job.ids)))

    def _shallow(self, depth: int, wanted: Sequence[tuple[Job, int]]) -> list[list[int]]:
        """By the first layers, all jobs side by side, token after token."""
        texts = [job.text for job, _ in wanted]
        starts = [text.n for text in texts if text is not None]
        found: list[list[int]] = [[] for _ in wanted]
        going = list(range(len(wanted)))
        try:
            while going:
                batch = [
                    Row(wanted[i][0], (found[i] or wanted[i][0].ids)[-1:], (), 1) for i in going
                ]
                for i, z in zip(going, self._timed(batch, depth), strict=True):
                    found[i].append(wanted[i][0].pick(z[-1], len(found[i])))
                going = [i for i in going if len(found[i]) < wanted[i][1]]
        except (PoolFull, InputError):  # no room, or no numbers: the whole model will tell
            found = [[] for _ in wanted]
        for text, start in zip(texts, starts, strict=True):
            if text is not None:
                text.cut(start)
        return found


def _chunk(job: Job, n: int) -> Row:
    """The next n tokens that its text lacks; logits are asked where they are the last."""
    at = len(job.ids) - job.n_lacking
    return Row(job, job.ids[at : at + n], (), int(n == job.n_lacking))


def _half(row: Row) -> Row:
    """The first of its tokens; there are more, so nothing is asked yet."""
    return Row(row.job, row.ids[: len(row.ids) // 2], (), 0) if len(row.ids) > 1 else row


def _unguessed(row: Row) -> Row:
    return Row(row.job, row.ids[:1], (), 1) if row.drafted else row

"""Guesses by a small model of its own, whose texts follow those of the large one.

ids of a job --those it lacks--> its text here --pick, token after token--> guesses

What it guesses decides the time, and never the tokens: the large model says which are kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mendel.serve.cache import PrefixCache
from mendel.serve.job import Job
from mendel.serve.protocols import F32, Piece, PoolFull, Program, Text
from mendel.types import Digest, InputError, digest

log = logging.getLogger(__name__)
CATCH_UP = 256  # rows of a step, for what texts lack; who lacks more is not guessed for yet


@dataclass
class _Followed:
    """The text of a job: its first n tokens are the job's, the others were guessed."""

    text: Text
    n: int
    ahead: Sequence[int] = ()


class Drafter:
    """The small model beside one engine; everything here happens on the engine's thread."""

    def __init__(self, program: Program, target: Program) -> None:
        """Raises InputError where the two do not have the same vocab."""
        if program.vocab != target.vocab:
            raise InputError(
                f"the draft model has vocab={program.vocab}, the model {target.vocab}. Wanted the "
                "same tokens for both. Give a draft model with the model's tokenizer."
            )
        self.program = program
        self.cache = PrefixCache(program.capacity_bytes // 2, cuts=program.cuts)
        self.work_s = 0.0
        self._followed: dict[Job, _Followed] = {}

    def guess(self, wanted: Sequence[tuple[Job, int]]) -> list[list[int]]:
        """For each job at most so many tokens; fewer where there is no room, or not yet."""
        found: list[list[int]] = [[] for _ in wanted]
        try:
            self._guess([(job, self._fits(job, n)) for job, n in wanted], found)
        except (PoolFull, InputError):  # no room, or no numbers: what there is goes to the model
            pass
        except Exception:  # nobody's request fails for want of a guess
            log.exception("the draft model failed")
            for job, _ in wanted:
                self.finish(job, keep=False)
            return [[] for _ in wanted]
        return found

    def finish(self, job: Job, *, keep: bool) -> None:
        """The job has ended; others may begin as it did."""
        followed = self._followed.pop(job, None)
        if followed is None:
            return
        kept = keep and job.plan.reuse and self.program.cuts and job.chain is not None
        if not kept or job.chain is None:
            followed.text.free()
            return
        followed.text.cut(followed.n)
        job.chain.grow(job.ids)
        self.cache.put(job.chain, followed.text)
        self.cache.trim(lambda: self.program.n_bytes)

    def close(self) -> None:
        for job in list(self._followed):
            self.finish(job, keep=False)
        self.cache.clear()

    def _fits(self, job: Job, n: int) -> int:
        context = self.program.context  # maybe a shorter one than the large model's
        return n if context is None else max(0, min(n, context - len(job.ids) + 1))

    def _guess(self, wanted: Sequence[tuple[Job, int]], found: list[list[int]]) -> None:
        logits = self._caught_up([job for job, n in wanted if n])
        going = [i for i, (job, _) in enumerate(wanted) if job in logits]
        texts = {i: self._ahead(wanted[i][0]) for i in going}
        try:
            for i in going:
                found[i].append(wanted[i][0].pick(logits[wanted[i][0]]))
            while going := [i for i in going if len(found[i]) < wanted[i][1]]:
                batch = [(wanted[i][0], Piece(texts[i], found[i][-1:])) for i in going]
                for i, z in zip(going, self._run(batch), strict=True):
                    found[i].append(wanted[i][0].pick(z[-1], len(found[i])))
        finally:
            for i, text in texts.items():
                followed = self._followed[wanted[i][0]]
                if text is followed.text:
                    followed.ahead = found[i][: text.n - followed.n]
                else:
                    text.free()

    def _caught_up(self, jobs: Sequence[Job]) -> dict[Job, F32]:
        """What comes next, of those whose text has all of the job's tokens now."""
        batch, left = [], CATCH_UP
        for job in jobs:
            text = self._back(job)
            ids = job.ids[text.n : text.n + left]
            if ids:
                batch.append((job, Piece(text, ids, int(text.n + len(ids) == len(job.ids)))))
                left -= len(ids)
        rows = self._with_room(batch)
        for job, piece in batch:
            self._followed[job].n = piece.text.n
        return {job: z[-1] for (job, piece), z in zip(batch, rows, strict=True) if piece.n_wanted}

    def _back(self, job: Job) -> Text:
        """Its text, without what was guessed wrongly; at least one of the job's tokens is lacking.

        A text that cannot be cut so far is made anew.
        """
        followed = self._followed.get(job)
        if followed is None:
            return self._begun(job)
        n = followed.n
        for guess, id in zip(followed.ahead, job.ids[n:], strict=False):
            if guess != id:
                break
            n += 1
        followed.n, followed.ahead = min(n, len(job.ids) - 1), ()
        try:
            followed.text.cut(followed.n)
        except ValueError:
            self.finish(job, keep=False)
            return self._begun(job)
        return followed.text

    def _begun(self, job: Job) -> Text:
        found = None
        if job.plan.reuse and job.chain is not None:
            found = self.cache.take(job.chain, len(job.ids) - 1)
        text, n = found or (self.program.text(), 0)
        self._followed[job] = _Followed(text, n)
        return text

    def _ahead(self, job: Job) -> Text:
        """A text to guess on: the job's own where it can be cut, else a twin of it."""
        text = self._followed[job].text
        return text if self.program.cuts else text.fork()

    def _with_room(self, batch: Sequence[tuple[Job, Piece]]) -> list[F32]:
        """Run; where there is no room, without what nobody needs now."""
        if not batch:
            return []
        while True:
            try:
                return self._run(batch)
            except PoolFull:
                if self.cache.evict(1 + len(self.cache) // 8):
                    continue
                asked = {job for job, _ in batch}
                idle = [job for job in self._followed if job not in asked]
                if not idle:
                    for job in asked:
                        self.finish(job, keep=False)
                    raise
                self.finish(idle[0], keep=False)

    def _run(self, batch: Sequence[tuple[Job, Piece]]) -> list[F32]:
        """Each job is charged by its rows."""
        threads = max(job.plan.threads for job, _ in batch)
        started = time.perf_counter()
        found = self.program.run([piece for _, piece in batch], threads=threads)
        work_s = time.perf_counter() - started
        n_rows = sum(len(piece.ids) for _, piece in batch)
        for job, piece in batch:
            job.work_s += work_s * len(piece.ids) / n_rows
        self.work_s += work_s
        return found


def together(program: Program, draft: Program | None) -> Digest:
    """Of all that decides what a plan costs: the model, and who guesses for it."""
    return program.digest if draft is None else digest([program.digest, draft.digest])

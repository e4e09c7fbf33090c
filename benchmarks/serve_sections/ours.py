"""mendel's engine in this process: programs, plans, and requests that are waited for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mendel import formats
from mendel.generate import Sampler
from mendel.model import Model
from mendel.serve import numerics
from mendel.serve.engine import Engine
from mendel.serve.protocols import Chooser, End, Fixed, Listener, Program, Request, Token
from mendel.serve.reference import Reference
from mendel.serve.workloads import Conversation, Maker
from mendel.spec import PlanSpec
from mendel.types import InputError

CAPACITY = 1 << 30
PLAIN = PlanSpec(reuse=False)
COUNT = itertools.count()


@dataclass
class Done:
    """What came of one request; seconds from when it was submitted."""

    request: Request
    ids: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)  # of each token
    logprobs: list[float | None] = field(default_factory=list)
    end: End | None = None
    seconds: float = 0.0

    @property
    def ms_per_token(self) -> float:
        """The whole request's time, prompt included, by the tokens that came of it."""
        return 1e3 * self.seconds / max(len(self.ids), 1)

    @property
    def step_ms(self) -> float:
        """Of a token after the first."""
        later = len(self.ids) - 1
        return 1e3 * (self.at_s[-1] - self.at_s[0]) / later if later > 0 else self.ms_per_token


@dataclass(frozen=True)
class Case:
    """One prompt of a workload, as every engine is given it."""

    workload: str
    prompt: tuple[int, ...]
    n_tokens: int
    sampler: Sampler | None = None  # None: greedy


def load(model: Path) -> formats.Loaded:
    return formats.load(model)


def program(model: Model, dtype: str, capacity_bytes: int = CAPACITY) -> Program:
    """The kernels', or where they cannot do the model, torch's."""
    try:
        return numerics.program(model, dtype=dtype, capacity_bytes=capacity_bytes)
    except InputError as error:
        print(f"no kernels for this model ({error}): torch, a token at a time", flush=True)
        return Reference(model, dtype, capacity_bytes)


def plans(n_layers: int, threads: int) -> dict[str, PlanSpec]:
    """What is measured: no drafts, drafts looked up, drafts by the first layers."""
    depths = sorted({max(1, n_layers // 4), max(1, n_layers // 2)})
    specs = [
        PlanSpec(threads=threads),
        *(PlanSpec(draft="lookup", n_draft=n, threads=threads) for n in (3, 7)),
        *(PlanSpec(draft="shallow", n_draft=n, depth=depth, threads=threads)
          for depth in depths for n in (2, 4)),
    ]  # fmt: skip
    return {spec.name: spec for spec in specs}


class Asked(Protocol):
    """An engine, or one with those who look on."""

    def submit(self, request: Request, listener: Listener) -> None: ...


@contextmanager
def engine(
    ready: Program, menu: Mapping[str, PlanSpec], chooser: Chooser, **fields: Any
) -> Iterator[Engine]:
    running = Engine(ready, menu, chooser, **fields)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def pinned(ready: Program, plan: PlanSpec, **fields: Any) -> Iterator[Engine]:
    with engine(ready, {plan.name: plan}, Fixed(plan.name), **fields) as running:
        yield running


def ask(
    running: Asked,
    requests: Iterable[Request],
    *,
    n_at_once: int = 1,
    tell: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """All of them, so many at a time, in the order asked; an error of one is raised here."""
    room, asked = threading.Semaphore(n_at_once), []

    def listener(done: Done, began: float) -> Callable[[Token | End], None]:
        def hear(said: Token | End) -> None:
            if isinstance(said, Token):
                done.ids.append(said.id)
                done.at_s.append(time.perf_counter() - began)
                done.logprobs.append(said.logprob)
            else:
                done.end, done.seconds = said, time.perf_counter() - began
                room.release()

        return hear

    for request in requests:
        room.acquire()
        done = Done(request)
        asked.append(done)
        running.submit(request, listener(done, time.perf_counter()))
    for _ in range(n_at_once):  # all have ended when all the room is free
        room.acquire()
    for done in asked:
        assert done.end is not None
        if done.end.reason == "failed":
            raise RuntimeError(f"request {done.request.id}: {done.end.error}")
        tell(done)
    return asked


def request(case: Case, sampler: Sampler | None = None, **fields: Any) -> Request:
    sampler = sampler or case.sampler
    drawn = {} if sampler is None else {"sampler": sampler}
    return Request(f"bench-{next(COUNT)}", case.prompt, case.n_tokens, **drawn, **fields)


class Cases:
    """Prompts of each workload, with the plain model's own answers in what follows them."""

    def __init__(self, loaded: formats.Loaded, text: str | None, ready: Program) -> None:
        assert loaded.tokenizer is not None, "the workloads are texts: give a tokenizer too"
        self.codec, self.ready = loaded.tokenizer, ready
        self.context = loaded.model.spec.context
        self._texts: list[str] | None = None  # of each id
        words = text if text is not None else None
        probe = Maker(words).make("long", 0).opening
        per_token = len(probe) / len(self.codec.encode(probe))
        self.maker = Maker(words, n_chars=max(200, int(0.6 * self.context * per_token)))

    def make(self, workload: str, n: int, begin: int = 0) -> list[Case]:
        """n requests; a conversation's later prompts hold the answers to those before."""
        found: list[Case] = []
        with pinned(self.ready, PlanSpec()) as plain:
            for i in itertools.count(begin):
                if len(found) >= n:
                    return found[:n]
                found += self.turns(plain, self.maker.make(workload, i))
        raise AssertionError("count() does not end")

    def turns(self, plain: Engine, asked: Conversation) -> Iterator[Case]:
        said = asked.opening
        for i in range(asked.n_requests):
            ids = tuple(int(id) for id in self.codec.encode(said))
            room = self.context - len(ids)
            if room < 1:  # it has grown out of what the model was trained on
                return
            case = Case(asked.workload, ids, min(asked.n_tokens, room))
            is_last = i == len(asked.then)
            if is_last and not asked.stop:
                yield case
                return
            [done] = ask(plain, [request(case, stop=self.stops(asked.stop))])
            yield Case(asked.workload, ids, max(len(done.ids), 1))
            answer = self.codec.decode(done.ids)
            said += answer + ("" if is_last else asked.reply(i, answer))

    def stops(self, texts: tuple[str, ...]) -> frozenset[int]:
        """Ids in whose text one of these is."""
        if not texts:
            return frozenset()
        if self._texts is None:
            self._texts = [self.codec.decode([id]) for id in range(self.ready.vocab)]
        return frozenset(i for i, said in enumerate(self._texts) if any(t in said for t in texts))


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share))


def with_seed(
    case: Case, seed: int, temperature: float = 0.8, top_p: float = 0.95, **fields: Any
) -> Request:
    return request(case, Sampler(temperature, top_p, seed), **fields)


def as_asked_before(done: Done) -> Request:
    """The same request under another id."""
    return replace(done.request, id=f"bench-{next(COUNT)}")

"""What each plan costs on this machine, measured at the start on small texts, in turn.

prompts x plans, forwards then backwards --engine--> log ms per unit -> beliefs; kept on disk

Others use the machine too, which only ever makes a plan slower, so what is kept is the least of
each plan's times. A plan is dropped only for one of its own kind: texts made up here say which
number of guesses is dear, but not how often a guess would be right in the traffic to come.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

import mendel
from mendel.blobs import write_atomically
from mendel.clocks.tune.classes import log_ms
from mendel.generate import Sampler
from mendel.serve.protocols import End, Features, Listener, Request, Tell, Token, Trace
from mendel.spec import PlanSpec
from mendel.types import Digest, InputError, digest

log = logging.getLogger(__name__)
BUDGET_S = 10.0
LIMIT_S = 20.0  # nothing is asked after it, whatever was not met yet
LEAST_ROUNDS, MOST_ROUNDS = 2, 9
DOMINATED = 0.10  # log ms by which a plan is slower everywhere than another of its kind
HOPELESS = 1.6  # log ms above the best at first sight: it is not met again
WAIT_S = 60.0  # for one small request
PASSAGE = 24  # tokens


class Serves(Protocol):
    """The engine, as far as a profile needs it."""

    def submit(self, request: Request, listener: Listener) -> None: ...

    def cancel(self, id: str) -> None: ...


class Measured(NamedTuple):
    """One plan on one kind of text."""

    kind: str
    plan: str
    features: Features
    y: float  # the least log ms per unit
    n: int


@dataclass(frozen=True)
class Profile:
    """All that a start measured."""

    rows: tuple[Measured, ...]
    seconds: float

    def to_json(self) -> str:
        rows = [{**row._asdict(), "features": asdict(row.features)} for row in self.rows]
        return json.dumps({"seconds": self.seconds, "rows": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        told = json.loads(text)
        rows = [{**row, "features": Features(**row["features"])} for row in told["rows"]]
        return cls(tuple(Measured(**row) for row in rows), told["seconds"])


def machine() -> Digest:
    """Of what makes a plan fast or slow here, beside the model."""
    return digest([_processor(), os.cpu_count(), platform.machine(), _versions()])


def _processor() -> str:
    """As the system names it, with what its kernels may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {
        line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line
    }
    return f"{told.get('model name', '')} {told.get('flags', told.get('Features', ''))}"


def _versions() -> list[str]:
    return [platform.python_version(), np.__version__, mendel.__version__]


def kept(
    folder: Path, model: Digest, plans: Mapping[str, PlanSpec], measure: Callable[[], Profile]
) -> Profile:
    """What an earlier start of this model on this machine and version measured, else a new one."""
    menu = {name: plan.to_dict() for name, plan in sorted(plans.items())}
    file = folder / f"{digest([model, machine(), menu])[:16]}.json"
    if file.exists():
        try:
            return Profile.from_json(file.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError):
            file.unlink()  # half of it, or another form: measured again
    found = measure()
    if not plans.keys() <= {row.plan for row in found.rows}:
        return found  # on a machine too busy for some of them: not for keeps
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, found.to_json().encode())
    except OSError as error:  # the next start measures again
        log.warning("the profile could not be kept: %s", error)
    return found


def profile(
    engine: Serves,
    plans: Sequence[str],
    *,
    vocab: int,
    context: int | None = None,
    samples: Sequence[Sequence[int]] = (),
    budget_s: float = BUDGET_S,
    limit_s: float = LIMIT_S,
    tell: Tell | None = None,
) -> Profile:
    """Each plan on each kind of text, in rounds, until the budget is used up.

    samples   texts to take passages from; none: ids by lot
    budget_s  for rounds behind the least there are
    limit_s   for all: what was not met by then has no rows; the first plan is met anyway
    tell      hears how many requests are done, of how many there will be
    raises    InputError where a plan fails on a text, or none answers in time
    """
    began = time.perf_counter()
    texts = kinds(vocab, context, samples)
    asker = _Asker(engine, tell, len(plans) * (1 + len(texts) * LEAST_ROUNDS), budget_s)
    told: dict[tuple[str, str], list[tuple[Features, float]]] = {}
    over = began + limit_s
    for plan in plans:  # what is done once, as kernels that are compiled, is no plan's fault
        left_s = math.inf if plan == plans[0] else over - time.perf_counter()
        asker.ask(next(iter(texts.values())), plan, left_s)
    for n in range(MOST_ROUNDS):
        if n >= LEAST_ROUNDS and time.perf_counter() - began > budget_s * n / (n + 1):
            break
        for kind, request in texts.items():
            for plan in plans if n % 2 == 0 else reversed(plans):
                left_s = over - time.perf_counter() if told else math.inf
                if plan in asker.late or _is_hopeless(told, kind, plan):
                    continue
                trace = asker.ask(request, plan, left_s)
                y = None if trace is None else log_ms(trace)
                if trace is not None and y is not None:
                    told.setdefault((kind, plan), []).append((trace.features, y))
    if not told:
        raise InputError(
            f"no plan answered within {asker.wait_s:g} s. Wait until this machine is less busy."
        )
    rows = (
        Measured(kind, plan, seen[0][0], min(y for _, y in seen), len(seen))
        for (kind, plan), seen in told.items()
        if plan not in asker.late
    )
    return Profile(tuple(rows), time.perf_counter() - began)


def _is_hopeless(
    told: Mapping[tuple[str, str], Sequence[tuple[Features, float]]], kind: str, plan: str
) -> bool:
    """It was met on this kind, and is so slow that another time would not help."""
    least = {p: min(y for _, y in seen) for (k, p), seen in told.items() if k == kind}
    return plan in least and least[plan] > min(least.values()) + HOPELESS


def kinds(
    vocab: int, context: int | None, samples: Sequence[Sequence[int]] = ()
) -> dict[str, Request]:
    """Small texts that differ in what plans differ in; they fit the context."""
    chance = np.random.default_rng(0)
    most = min(context or 256, 256)
    pool = [id for sample in samples for id in sample][: 8 * most]
    if len(pool) < 2 * most:
        pool += chance.integers(0, vocab, 2 * most - len(pool)).tolist()
    passage = tuple(pool[:PASSAGE])
    long = tuple(pool[: max(1, most - 32)])
    copied = (passage * 4)[: max(1, most - 32)]
    found = {
        "free": Request("", tuple(pool[-8:]), 24),
        "copy": Request("", copied, 24),
        "long": Request("", long, 8),
        "sampled": Request("", tuple(pool[-8:]), 24, Sampler(1.0, 1.0, 1)),
    }
    return {kind: _fitted(request, context) for kind, request in found.items()}


def _fitted(request: Request, context: int | None) -> Request:
    if context is None or len(request.prompt) + request.n_tokens <= context:
        return request
    n = max(1, context // 2)
    return Request("", request.prompt[:n], max(1, context - n), request.sampler)


def surviving(found: Profile, plans: Mapping[str, PlanSpec], baseline: str) -> list[str]:
    """The plans that answered, and that no other of their kind beats on every text; the baseline
    stays."""
    y: dict[str, dict[str, float]] = {}
    for row in found.rows:
        y.setdefault(row.plan, {})[row.kind] = row.y

    def beaten(mine: str) -> bool:
        rivals = (p for p in plans if p != mine and plans[p].draft == plans[mine].draft)
        return any(
            all(y[mine][kind] - y[its].get(kind, np.inf) > DOMINATED for kind in y[mine])
            for its in rivals
            if its in y and mine in y
        )

    return [plan for plan in plans if plan == baseline or (plan in y and not beaten(plan))]


class _Asker:
    """One request at a time; each is a tenant of its own, so that none finds another's prefix.

    late   plans that took longer than wait_s: threads that wait for each other on a busy machine
    """

    wait_s = WAIT_S

    def __init__(
        self, engine: Serves, tell: Tell | None = None, least: int = 0, budget_s: float = BUDGET_S
    ) -> None:
        """tell: how many are asked, of `least` or what the budget allows."""
        self.engine, self._n = engine, 0
        self._tell, self._least, self._budget_s = tell, least, budget_s
        self._began = time.perf_counter()
        self.late: set[str] = set()

    def ask(self, request: Request, plan: str, left_s: float = math.inf) -> Trace | None:
        """None where it took too long, or there is no time at all."""
        if left_s <= 0:
            return None
        if self._tell is not None:
            rest = self._budget_s / max(time.perf_counter() - self._began, 1e-3)
            self._tell(self._n, max(self._least, int(self._n * min(rest, MOST_ROUNDS))), plan)
        self._n += 1
        name = f"profile-{self._n}"
        ended = threading.Event()
        ends: list[End] = []

        def listen(event: Token | End) -> None:
            if isinstance(event, End):
                ends.append(event)
                ended.set()

        asked = Request(
            name, request.prompt, request.n_tokens, request.sampler, tenant=name, plan=plan,
            is_own=True,
        )  # fmt: skip
        self.engine.submit(asked, listen)
        if not ended.wait(min(self.wait_s, left_s)):
            if left_s >= self.wait_s:
                self.late.add(plan)
            self.engine.cancel(name)
            ended.wait()  # the next one is to run alone
            return None
        if ends[0].reason == "failed":
            raise InputError(f"plan {plan!r} failed in the profile: {ends[0].error}. Leave it out.")
        return ends[0].trace

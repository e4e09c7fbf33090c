"""Why was a request answered as it was, and why so fast or slow? Replayed, it tells.

             alone      in company
plan off     plain      plain
plan on      its plan   its plan        each several times, in turn

Tokens that differ in one cell name what made the difference, and so do their log-probabilities,
bit for bit, where the request asked for them; so do times, by what is left when the other is held
fixed: the plan's effect, the company's, and what only both together do.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal, NamedTuple

from mendel.serve.protocols import End, Request, Token, Trace
from mendel.serve.watched import Finished, Ring, Serves
from mendel.types import InputError

REPEATS = 3
COMPANY = 3  # other requests beside it
WAIT_S = 120.0
Run = tuple[Trace, tuple[Token, ...]]
CLEAR = 0.10  # log seconds: a smaller effect is the machine's noise
_numbers = count()


class Cell(NamedTuple):
    """One of the four ways to run it."""

    plan: str
    company: int
    work_s: float  # median of the repeats
    seconds: float
    tokens: tuple[Token, ...]  # with log-probabilities where they were asked for
    alike: bool  # each repeat gave these, bit for bit

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)


def explain(engine: Serves, ring: Ring, id: str, *, plain: str = "plain") -> dict[str, Any]:
    """Replay a finished request with its plan off and on, alone and in company.

    plain     the plan that is off
    raises    InputError for a request that is not kept, or had output of a given form
    """
    found = ring.get(id)
    if found is None:
        raise InputError(
            f"request {id!r} is not among the {len(ring)} that are kept. Wanted one that ended "
            "lately here. Ask again soon after it."
        )
    if found.request.grammar is not None:
        raise InputError(
            f"request {id!r} had output of a given form, whose grammar is used up. Wanted one "
            "without. Ask for it again under another plan instead."
        )
    tenant = found.request.tenant  # nobody learns what another one's requests cost
    near = [o for o in ring.near(found, len(ring)) if o.request.tenant == tenant]
    others = [o for o in near if o.request.grammar is None][:COMPANY]
    cells = _cells(engine, found, others, plain)
    return _told(found, cells, plain)


def _cells(
    engine: Serves, found: Finished, others: Sequence[Finished], plain: str
) -> dict[tuple[str, int], Cell]:
    ways = [
        (plan, n) for plan in dict.fromkeys((plain, found.trace.plan)) for n in (0, len(others))
    ]
    ways = list(dict.fromkeys(ways))
    runs: dict[tuple[str, int], list[Run]] = {way: [] for way in ways}
    for i in range(REPEATS):
        for plan, n in ways if i % 2 == 0 else reversed(ways):
            runs[plan, n].append(_run(engine, _again(found), plan, others[:n]))
    return {way: _cell(way, each) for way, each in runs.items()}


def _cell(way: tuple[str, int], runs: Sequence[Run]) -> Cell:
    traces = [trace for trace, _ in runs]
    work = statistics.median(trace.work_s for trace in traces)
    whole = statistics.median(t.first_token_s + t.decode_s for t in traces)
    return Cell(*way, work, whole, runs[0][1], all(each == runs[0][1] for _, each in runs))


def _run(engine: Serves, request: Request, plan: str, others: Sequence[Finished]) -> Run:
    """One replay; a tenant of its own, so that it finds no prefix, and it leaves none."""
    n = next(_numbers)
    name, ends, tokens = f"explain-{n}", [], list[Token]()
    ended = threading.Event()

    def listen(event: Token | End) -> None:
        if isinstance(event, Token):
            tokens.append(event)
        else:
            ends.append(event)
            ended.set()

    beside = [f"{name}-beside-{i}" for i in range(len(others))]
    for one, other in zip(beside, others, strict=True):
        company = replace(_again(other), id=one, tenant=one, plan=plan, is_own=True)
        engine.submit(company, _nobody)
    engine.submit(replace(request, id=name, tenant=name, plan=plan, is_own=True), listen)
    if not ended.wait(WAIT_S):
        engine.cancel(name)
    for one in beside:
        engine.cancel(one)
    if not ends or ends[0].reason == "failed":
        why = ends[0].error if ends else f"no end in {WAIT_S:g} s"
        raise InputError(f"the replay under {plan!r} failed: {why}. Try again when it is quiet.")
    return ends[0].trace, tuple(tokens)


def _again(one: Finished) -> Request:
    """As it was asked; what was cut off, as at a stop string, as far as it came."""
    if one.end.reason not in ("cancelled", "failed"):
        return one.request
    return replace(one.request, n_tokens=max(1, len(one.ids)))


def _nobody(_: Token | End) -> None: ...


def _told(found: Finished, cells: dict[tuple[str, int], Cell], plain: str) -> dict[str, Any]:
    n = max(company for _, company in cells)
    plan = found.trace.plan
    base, asked = cells[plain, 0], found.request.n_logprobs is not None
    rows = [
        {
            "plan": c.plan,
            "company": c.company,
            "work_ms": round(1e3 * c.work_s, 4),
            "ms": round(1e3 * c.seconds, 4),
            "tokens_equal": c.ids == base.ids and (c.alike or asked),
            "first_difference": first_difference(base.ids, c.ids),
            "logprobs_equal": c.tokens == base.tokens and c.alike if asked else None,
        }
        for c in cells.values()
    ]
    effects = _effects(cells, plain, plan, n)
    return {
        "request": found.request.id,
        "plan": plan,
        "arm": found.trace.arm,
        "n_out": len(found.ids),
        "as_served": {
            "work_ms": round(1e3 * found.trace.work_s, 4),
            "queued_ms": round(1e3 * found.trace.queued_s, 4),
            "first_token_ms": round(1e3 * found.trace.first_token_s, 4),
            "tokens_equal": _same(found, base, ids_only=True),
            "first_difference": first_difference(base.ids, found.ids),
            "logprobs_equal": _same(found, base) if asked else None,
        },
        "replays": rows,
        "effects": {name: round(math.exp(v), 4) for name, v in effects.items()},
        "tokens_by": tokens_by(found, cells, plain, n),
        "time_by": time_by(effects),
        "says": says(tokens_by(found, cells, plain, n), time_by(effects), effects, plan),
    }


def _same(found: Finished, base: Cell, *, ids_only: bool = False) -> bool:
    """As it was served; a request that was cut off gave the beginning."""
    was: Sequence[object] = found.ids if ids_only or not found.tokens else found.tokens
    now: Sequence[object] = base.ids if was is found.ids else base.tokens
    if found.end.reason in ("cancelled", "failed"):
        return now[: len(was)] == was
    return now == was


def first_difference(mine: Sequence[int], its: Sequence[int]) -> int | None:
    """The place of the first token that differs; None where they are equal."""
    for i, (a, b) in enumerate(zip(mine, its, strict=False)):
        if a != b:
            return i
    return None if len(mine) == len(its) else min(len(mine), len(its))


Cause = Literal["nothing", "model", "plan", "company", "interaction"]


def tokens_by(found: Finished, cells: dict[tuple[str, int], Cell], plain: str, n: int) -> Cause:
    """What made tokens differ: the model gives others now, or the plan, or only both together."""
    plan, base = found.trace.plan, cells[plain, 0]
    if not all(cell.alike for cell in cells.values()):
        return "model"  # the same run, twice, is not the same
    off, on, both = (cells[way].tokens == base.tokens for way in ((plain, n), (plan, 0), (plan, n)))
    if not on:
        return "plan"
    if not off:
        return "company"
    if not both:
        return "interaction"
    return "nothing" if _same(found, base) else "model"


def _effects(cells: dict[tuple[str, int], Cell], plain: str, plan: str, n: int) -> dict[str, float]:
    """Of log work: of the plan alone, of company alone, and what both do beside."""

    def log(way: tuple[str, int]) -> float:
        return math.log(max(cells[way].work_s, 1e-9))

    on, off = log((plan, 0)) - log((plain, 0)), log((plain, n)) - log((plain, 0))
    return {"plan": on, "company": off, "interaction": log((plan, n)) - log((plain, 0)) - on - off}


def time_by(effects: dict[str, float]) -> Cause:
    """The largest effect that stands out; the model where none does: so much it takes."""
    name = max(effects, key=lambda each: abs(effects[each]))
    if abs(effects[name]) < CLEAR:
        return "model"
    return {"plan": "plan", "company": "company"}.get(name, "interaction")  # type: ignore[return-value]


def says(tokens: Cause, time: Cause, effects: dict[str, float], plan: str) -> str:
    """In words."""
    first = {
        "nothing": "Every replay gave the same tokens.",
        "model": "The model itself gives other tokens now: its weights or machine have changed.",
        "plan": f"The tokens differ under {plan}: it is not exact here. Take it off the menu.",
        "company": "The tokens depend on what else is in the batch: report it.",
        "interaction": f"Only {plan} in company gives other tokens: report it.",
    }[tokens]
    if time == "model":
        return (
            f"{first} The time is what the model takes: neither plan nor company changed it much."
        )
    effect = math.exp(effects[time])
    word = "slower" if effect > 1 else "faster"
    times = f"{max(effect, 1 / effect):.2f} times {word}"
    second = {
        "plan": f"{plan} made it {times} than plain.",
        "company": f"What ran beside it made it {times}.",
        "interaction": f"{plan} and company together made it {times} than each apart tells.",
    }[time]
    return f"{first} {second}"

"""A plan enters the menu only when it gave the plain answers on this model and this machine.

plain: token by token at batch 1, without the engine. The plan: in the engine, one request after
the other, then all at once and with what was cached. Tokens and log-probabilities are compared
bit for bit. What was proven is kept on disk, by the program's digest and mendel's version.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from mendel.generate import Sampler
from mendel.ledger import home
from mendel.serve.drafter import together
from mendel.serve.engine import Engine
from mendel.serve.job import with_logprobs
from mendel.serve.plans import PLAIN, Menu
from mendel.serve.protocols import End, Fixed, Piece, Program, Request, Tell, Token
from mendel.serve.threads import no_faster
from mendel.spec import PlanSpec
from mendel.types import digest

N_TOKENS = 24
LENGTHS = (1, 5, 40, 72, 130)  # of prompts: shorter and longer than a block, and than a chunk
TOP = 3
TOTAL_S = 10.0  # of proofs in one start; the one under way goes on to its end
DAY_S = 86_400
# of one proof, and in times of what plain takes token by token: two threads on a busy core may wait
# for each other for minutes
LIMIT_S, LIMIT_TIMES = 20.0, 3.0
SAMPLERS = (Sampler(), Sampler(0.8, 0.95, seed=7))
ROUNDS = ("alone", "together")


def proven(
    program: Program,
    menu: Menu,
    *,
    prompts: Sequence[Sequence[int]] = (),
    folder: Path | None = None,
    draft: Program | None = None,
    tell: Tell | None = None,
    drops_slow: bool = False,
) -> Menu:
    """The menu without the plans that gave other answers than plain; those are named.

    prompts     real ones, beside those that are made here
    folder      where proofs are kept; None: under MENDEL_HOME
    draft       the small model of plans that guess by one
    tell        hears which plan is next
    drops_slow  leave out, unproven, plans whose threads make no step faster
    """
    file = (folder or home() / "serve" / "proofs") / f"{_key(program, prompts, draft)}.json"
    proofs = _Proofs(program, draft, _requests(program, prompts), file)
    plans, refused = {}, dict(menu.refused)
    for i, (name, plan) in enumerate(menu.plans.items()):
        if tell is not None:
            tell(i, len(menu.plans), name)
        reason = proofs.slow(plan) if drops_slow else None
        reason = proofs.of(plan) if reason is None else reason
        if reason is None:
            plans[name] = plan
        else:
            refused[name] = reason
    return Menu(plans, refused)


class _Proofs:
    """Of one program: those on disk, and new ones while there is time."""

    def __init__(
        self, program: Program, draft: Program | None, asked: Sequence[Request], file: Path
    ) -> None:
        self.program, self.draft, self.asked, self.file = program, draft, asked, file
        self.known = _read(file)
        self.spent_s = 0.0  # on proofs, but plain's
        self.patience_s = LIMIT_S
        self._wanted: Sequence[Sequence[Token]] | None = None

    def slow(self, plan: PlanSpec) -> str | None:
        """Why its threads are of no use here; on a busy machine that is asked again in a day."""
        if plan.threads == 1:
            return None
        key = f"threads {plan.threads}"
        today = f"{key}, day {int(time.time() / DAY_S)}"
        if key not in self.known and today not in self.known:
            reason = no_faster(self.program, plan.threads)
            self.known[key if reason is None else today] = reason
            _write(self.file, self.known)
        return self.known[key] if key in self.known else self.known[today]

    def of(self, plan: PlanSpec) -> str | None:
        """Why it is not on the menu: it is not exact, or there was no time to see."""
        identity = digest(plan.model_dump(mode="json"))
        if identity in self.known:
            return self.known[identity]
        if self.spent_s > TOTAL_S:
            return f"its proof has to wait for the next start: others took {self.spent_s:.0f} s"
        began = time.monotonic()
        if self._wanted is None:
            self._wanted = [plain(self.program, request) for request in self.asked]
            self.patience_s = max(LIMIT_S, LIMIT_TIMES * (time.monotonic() - began))
            began = time.monotonic()
        limit_s = math.inf if plan == PLAIN else self.patience_s
        try:
            self.known[identity] = difference(
                self.program, plan, self.asked, self._wanted, draft=self.draft, limit_s=limit_s
            )
        except TimeoutError as error:  # says nothing of another day
            return str(error)
        finally:
            self.spent_s += 0.0 if plan == PLAIN else time.monotonic() - began
        _write(self.file, self.known)
        return self.known[identity]


def difference(
    program: Program,
    plan: PlanSpec,
    asked: Sequence[Request],
    wanted: Sequence[Sequence[Token]],
    *,
    draft: Program | None = None,
    limit_s: float = math.inf,
) -> str | None:
    """Where the plan's answers differ first; None where they are equal.

    raises   TimeoutError where they are not all there in the time given
    """
    until = time.monotonic() + limit_s
    engine = Engine(program, {plan.name: plan}, Fixed(plan.name), draft=draft)
    try:
        for round in ROUNDS:
            groups = [[request] for request in asked] if round == "alone" else [asked]
            found = [answer for group in groups for answer in _answers(engine, group, until)]
            for request, one, plain_one in zip(asked, found, wanted, strict=True):
                if (reason := _differ(request, one, plain_one)) is not None:
                    return f"{round}, {reason}"
    finally:
        engine.close()
    return None


def plain(program: Program, request: Request) -> list[Token]:
    """The answer by definition: the model run token by token, alone, from the start."""
    text, found = program.text(), list[Token]()
    draws = request.sampler.uniforms(len(request.prompt))
    try:
        for id in request.prompt:
            (logits,) = program.run([Piece(text, [id])])
        for _ in range(request.n_tokens):
            id = request.sampler.pick(logits[-1], next(draws))
            if id in request.stop:
                break
            n = request.n_logprobs
            found.append(Token(id) if n is None else with_logprobs(id, logits[-1], n))
            if len(found) < request.n_tokens:
                (logits,) = program.run([Piece(text, [id])])
    finally:
        text.free()
    return found


def _requests(program: Program, prompts: Sequence[Sequence[int]]) -> list[Request]:
    room = None if program.context is None else program.context - N_TOKENS
    cut = [tuple(prompt)[:room] for prompt in (*_made(program.vocab), *prompts)]
    n_tokens = N_TOKENS if room is None or room > 0 else 1
    cut = [prompt or (0,) for prompt in cut]
    return [
        Request(f"{i}-{j}", prompt, n_tokens, sampler, n_logprobs=min(TOP, program.vocab))
        for i, prompt in enumerate(cut)
        for j, sampler in enumerate(SAMPLERS)
        if i % len(SAMPLERS) == j or i >= len(LENGTHS)  # guesses are right in the last ones
    ]


def _made(vocab: int) -> list[tuple[int, ...]]:
    """Texts without order, and one that repeats itself, so that guesses come and are right."""
    draw = random.Random(0)
    texts = [tuple(draw.randrange(vocab) for _ in range(n)) for n in LENGTHS]
    return [*texts, texts[1] * 8]


def _answers(engine: Engine, group: Sequence[Request], until: float) -> list[list[Token] | End]:
    answers = [_Answer() for _ in group]
    for request, answer in zip(group, answers, strict=True):
        engine.submit(replace(request, plan=None), answer)
    for answer in answers:
        left_s = None if until == math.inf else max(0.0, until - time.monotonic())
        if not answer.over.wait(left_s):
            raise TimeoutError(
                "its proof took too long, since the machine was busy: the next start tries it again"
            )
    return [answer.tokens if answer.failure is None else answer.failure for answer in answers]


class _Answer:
    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.failure: End | None = None
        self.over = threading.Event()

    def __call__(self, event: Token | End) -> None:
        if isinstance(event, Token):
            self.tokens.append(event)
            return
        self.failure = event if event.reason in ("failed", "cancelled") else None
        self.over.set()


def _differ(request: Request, found: Sequence[Token] | End, wanted: Sequence[Token]) -> str | None:
    how = "greedy" if request.sampler.temperature == 0 else "drawn"
    where = f"{how} after a prompt of {len(request.prompt)} tokens"
    if isinstance(found, End):
        return f"{where}: it {found.reason}, {found.error}"
    for i, (one, plain_one) in enumerate(zip(found, wanted, strict=False)):
        if one.id != plain_one.id:
            return f"{where}: token {i} is {one.id}, plain {plain_one.id}"
        if one != plain_one:
            return (
                f"{where}: log-probability of token {i} is {one.logprob}, plain {plain_one.logprob}"
            )
    if len(found) != len(wanted):
        return f"{where}: {len(found)} tokens, plain {len(wanted)}"
    return None


def _key(program: Program, prompts: Sequence[Sequence[int]], draft: Program | None) -> str:
    return digest(
        [together(program, draft), version("mendel"), [list(prompt) for prompt in prompts]]
    )


def _read(file: Path) -> dict[str, str | None]:
    """What was proven before; nothing where the file is absent or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, known: Mapping[str, str | None]) -> None:
    """At once, or not at all; a full disk costs the next start its proof, and nothing else."""
    part = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(file)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)

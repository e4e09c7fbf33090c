"""One request while it is served: which tokens there are, and what the next logits make of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mendel.serve.cache import Chain
from mendel.serve.drafts import Length, Lookup
from mendel.serve.protocols import (
    F32,
    Arm,
    End,
    Features,
    Listener,
    Reason,
    Request,
    Text,
    Token,
    Trace,
)
from mendel.spec import PlanSpec
from mendel.types import InputError

GRAM = 3  # of Features.overlap
LATELY = 4096  # tokens of a prompt that it looks at
LOOKED_UP = 65_536  # tokens before the first guess, where it may come from
PLAIN = PlanSpec()
NOTHING = Features(0, 0, 0, 0.0, False, False, 0, 0)


class Job:
    """A request, its text, and the tokens that the text lacks.

    ids      prompt and output; the text holds the first of them, at most all but the last, and
             lacks the rest: one token in decode, more in prefill and after it was set back
    """

    def __init__(self, request: Request, listener: Listener) -> None:
        self.request, self.listener = request, listener
        self.ids = list(map(int, request.prompt))
        self.text: Text | None = None
        self.chain: Chain | None = None
        self.plan, self.plan_name = PLAIN, PLAIN.name
        self.arm: Arm = "pinned"
        self.features = NOTHING
        self.lookup: Lookup | None = None
        self.length = Length(0)
        self.n_found = 0  # tokens of its prompt that the cache had when it began
        self.n_shared = 0  # tokens of the text that the cache holds too
        self.waits = False  # for a block of its prompt that another job computes now
        self.is_followed = False  # others wait so for this one
        self.submitted = time.perf_counter()
        self.admitted: float | None = None
        self.first: float | None = None  # when the first token was given
        self.last = self.submitted
        self.n_steps = self.n_drafted = self.n_accepted = 0
        self.work_s = 0.0
        self._uniforms: list[float] = []  # of the positions after the prompt
        self._draws: Iterator[float] = request.sampler.uniforms(len(request.prompt))

    @property
    def n_out(self) -> int:
        return len(self.ids) - len(self.request.prompt)

    @property
    def n_lacking(self) -> int:
        return len(self.ids) - (self.text.n if self.text else 0)

    def start(self, plan: PlanSpec, name: str, arm: Arm) -> None:
        """Serve it by this plan to its end."""
        self.plan, self.plan_name, self.arm = plan, name, arm
        self.length = Length(plan.n_draft)

    def n_guesses(self) -> int:
        """How many tokens are worth a draft now."""
        if not self.plan.n_draft:
            return 0
        left = self.request.n_tokens - self.n_out - 1
        return min(self.length.next(), left) if left > 0 else 0

    def guesses(self, n: int) -> list[int]:
        """By lookup, at most n."""
        if self.lookup is None:
            self.lookup = Lookup(self.ids[-LOOKED_UP:])
        return self.lookup.guess(n)

    def pick(self, logits: F32, ahead: int = 0) -> int:
        """The id at the position `ahead` of the next one, whatever the grammar says."""
        sampler = self.request.sampler
        return sampler.pick(logits, self._uniform(self.n_out + ahead))

    def settle(self, logits: F32, drafted: Sequence[int]) -> Reason | None:
        """Give out what the logits say: one token, and one more for each guess that was right.

        logits   (1 + len(drafted), V)
        returns  why the request ended, if it did
        raises   InputError where the logits are no numbers
        """
        for i, row in enumerate(logits):
            reason = self._give(row)
            if reason is not None:
                self._heard(drafted, i)
                return reason
            if i == len(drafted) or self.ids[-1] != drafted[i]:
                self._heard(drafted, i)
                return None
        return None

    def trace(self, reason: Reason) -> Trace:
        now = time.perf_counter()
        first = self.first if self.first is not None else now
        return Trace(
            id=self.request.id,
            features=self.features,
            plan=self.plan_name,
            arm=self.arm,
            tenant=self.request.tenant,
            n_out=self.n_out,
            n_steps=self.n_steps,
            n_drafted=self.n_drafted,
            n_accepted=self.n_accepted,
            queued_s=(self.admitted if self.admitted is not None else now) - self.submitted,
            first_token_s=first - self.submitted,
            decode_s=max(0.0, self.last - first),
            work_s=self.work_s,
            reason=reason,
            at=time.time(),
        )

    def end(self, reason: Reason, error: str | None = None) -> End:
        return End(reason, self.trace(reason), error)

    def _give(self, logits: F32) -> Reason | None:
        request, grammar = self.request, self.request.grammar
        allowed = None if grammar is None else grammar.allowed()
        if allowed is not None and not allowed.any():
            return "stop"
        id = self.pick(logits if allowed is None else _masked(logits, allowed))
        if id in request.stop:
            return "stop"
        if grammar is not None:
            grammar.accept(id)
        self.ids.append(id)
        if self.lookup is not None:
            self.lookup.add(id)
        self.last = time.perf_counter()
        if self.first is None:
            self.first = self.last
        n = request.n_logprobs
        self.listener(Token(id) if n is None else with_logprobs(id, logits, n))
        if grammar is not None and grammar.is_done:
            return "stop"
        return "length" if self.n_out >= request.n_tokens else None

    def _heard(self, drafted: Sequence[int], n_accepted: int) -> None:
        if drafted:
            self.n_drafted += len(drafted)
            self.n_accepted += n_accepted
            self.length.heard(len(drafted), n_accepted)

    def _uniform(self, i: int) -> float:
        if self.request.sampler.temperature == 0:
            return 0.0
        while len(self._uniforms) <= i:
            self._uniforms.append(next(self._draws))
        return self._uniforms[i]


def _masked(logits: F32, allowed: NDArray[np.bool_]) -> F32:
    """The others cannot come; broken logits stay as they are, to be told of."""
    if not np.isfinite(logits.max()):
        return logits
    found: F32 = np.where(allowed, logits, np.float32(-np.inf))
    return found


def with_logprobs(id: int, logits: F32, n: int) -> Token:
    """A token, its log-probability by the model, and those of the n likeliest."""
    z = logits.astype(np.float64)
    z -= z.max()
    z -= np.log(np.exp(z).sum())
    if not n:
        return Token(id, float(z[id]))
    best = np.argpartition(-z, min(n, len(z) - 1))[:n]
    best = best[np.lexsort((best, -z[best]))]
    return Token(id, float(z[id]), tuple((int(i), float(z[i])) for i in best))


def overlap(prompt: Sequence[int]) -> float:
    """The share of its 3-grams that came before in it."""
    if len(prompt) <= GRAM:
        return 0.0
    ids = np.asarray(prompt[-LATELY:], np.uint64)
    keys = ids[2:] + np.uint64(1_000_003) * (ids[1:-1] + np.uint64(1_000_003) * ids[:-2])
    return 1 - len(np.unique(keys)) / len(keys)


def check(request: Request, vocab: int, context: int | None) -> None:
    """Raises InputError for a request that no engine of this vocab and context could serve."""
    prompt, n = request.prompt, request.n_tokens
    if not prompt:
        raise InputError("the prompt is empty. Wanted at least one token. Begin with some text.")
    if n < 1:
        raise InputError(f"n_tokens={n}. Wanted 1 or more.")
    if request.n_logprobs is not None and not 0 <= request.n_logprobs <= vocab:
        raise InputError(f"n_logprobs={request.n_logprobs}. Wanted 0 to {vocab}.")
    low, high = min(prompt), max(prompt)
    if low < 0 or high >= vocab:
        raise InputError(
            f"the prompt has id {low if low < 0 else high}. Wanted 0 to {vocab - 1}, the model's "
            "vocab. Use the tokenizer that it was trained with."
        )
    if context is not None and len(prompt) + n > context:
        raise InputError(
            f"a prompt of {len(prompt)} tokens and {n} to write are {len(prompt) + n}. Wanted at "
            f"most {context}, the model's context. Shorten the prompt or ask for fewer."
        )

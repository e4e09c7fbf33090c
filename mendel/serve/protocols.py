"""What the rooms of the server owe each other.

HTTP --Request--> engine --Piece--> program --logits--> engine --Token ... End--> HTTP
                    |  Features ^ plan                      | Trace
                    +--------- chooser <--------------------+
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.generate import Sampler
from mendel.types import MendelError

F32 = NDArray[np.float32]
Reason = Literal["stop", "length", "cancelled", "failed"]
GREEDY = Sampler()
Arm = Literal["baseline", "chosen", "explored", "pinned"]


class PoolFull(MendelError, MemoryError):
    """No room for more tokens: free a text, or wait for one to end."""


class Overloaded(MendelError, RuntimeError):
    """The queue is full."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Text(Protocol):
    """What a program knows of the tokens of one text so far; texts share what they have alike."""

    @property
    def n(self) -> int:
        """Tokens it holds."""

    def fork(self) -> Text:
        """The same tokens again, sharing memory; each goes on alone."""

    def cut(self, n: int) -> None:
        """Forget what is behind the first n tokens; raises ValueError where the program cannot."""

    def free(self) -> None:
        """Give its memory back; may be called twice."""


class Piece(NamedTuple):
    """The next tokens of a text, and of how many of the last ones the logits are asked."""

    text: Text
    ids: Sequence[int]
    n_wanted: int = 1


class Program(Protocol):
    """A model made ready to run, exact by rows.

    The logits of a token depend, bit for bit, on the tokens before it in its own text alone: not on
    what else is in the batch, on how the text was cut into pieces, on what was cached, or threads.
    """

    vocab: int
    n_layers: int
    context: int | None  # tokens a text can have; None: no end
    dtype: Literal["float32", "bf16"]
    cuts: bool  # can a text be cut at any place? else where it was forked, and by n_undo
    n_undo: int  # tokens of its last run that any text can be cut by, as drafts need
    capacity_bytes: int  # of all texts together
    digest: str  # of model, dtype and kernels

    @property
    def n_bytes(self) -> int:
        """That texts hold now; what they share counts once."""

    def text(self) -> Text:
        """An empty one."""

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        """Append each piece's tokens to its text, all in one batch.

        depth    leave after so many layers, through the final norm and the head: for drafts. A text
                 run so must be cut back to where it was before it is run whole again
        returns  for each piece (n_wanted, V), float32
        raises   PoolFull before anything is changed
        """


class Grammar(Protocol):
    """Which tokens may come next, for output of a given form."""

    def allowed(self) -> NDArray[np.bool_]:
        """(V,)"""

    def accept(self, id: int) -> None:
        """It came."""

    @property
    def is_done(self) -> bool:
        """Nothing more may come."""


@dataclass(frozen=True)
class Request:
    """One text to be written."""

    id: str
    prompt: tuple[int, ...]
    n_tokens: int
    sampler: Sampler = GREEDY
    stop: frozenset[int] = frozenset()
    n_logprobs: int | None = None  # likeliest ids beside each token; 0: its own alone; None: none
    tenant: str = ""  # whose prefix cache; tenants share nothing
    grammar: Grammar | None = None
    plan: str | None = None  # pinned by name; None: the chooser's
    # from its output, and why it ended: how a prompt that goes on from it will begin; for warming
    then: Callable[[tuple[int, ...], Reason], Sequence[int] | None] | None = None
    is_own: bool = False  # the server asks itself: not counted, and it leaves nothing in the cache


@dataclass(frozen=True)
class Token:
    id: int
    logprob: float | None = None  # of the model, before temperature
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Features:
    """What is known of a request when its plan is chosen; cheap to tell."""

    n_prompt: int
    n_cached: int
    n_tokens: int  # asked for at most
    overlap: float  # share of the prompt's 3-grams that came before in it
    sampled: bool
    constrained: bool
    n_running: int
    n_queued: int


@dataclass(frozen=True)
class Trace:
    """What one request cost; seconds of the wall but where said."""

    id: str
    features: Features
    plan: str
    arm: Arm
    tenant: str
    n_out: int
    n_steps: int  # batches it was in after its prompt
    n_drafted: int
    n_accepted: int
    queued_s: float
    first_token_s: float  # from submission
    decode_s: float  # from the first token to the last
    work_s: float  # its share, by rows, of the steps it was in: what it cost, whoever ran beside it
    reason: Reason
    at: float  # unix seconds at its end


@dataclass(frozen=True)
class End:
    reason: Reason
    trace: Trace
    error: str | None = None


Listener = Callable[[Token | End], None]  # called from the engine's thread; must not block
Tell = Callable[[int, int, str], None]  # how far something long is: done, of, with what it goes on


class Choice(NamedTuple):
    plan: str
    arm: Arm


class Chooser(Protocol):
    """Who picks a plan for each request, and hears what came of it."""

    def choose(self, features: Features) -> Choice:
        """From the engine's thread: well under a tenth of a millisecond."""

    def done(self, trace: Trace) -> None: ...


class Fixed:
    """Always one plan."""

    def __init__(self, plan: str) -> None:
        self.plan = plan

    def choose(self, features: Features) -> Choice:
        return Choice(self.plan, "pinned")

    def done(self, trace: Trace) -> None: ...

"""What one server serves, and with what."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from prometheus_client.registry import Collector

from mendel.data.tokenizers import Tokenizer
from mendel.serve.http.chat import Chat
from mendel.serve.http.gate import Limits
from mendel.serve.http.grammar import Grammars
from mendel.serve.http.keys import Keys
from mendel.serve.protocols import Listener, Request
from mendel.spec import PlanSpec
from mendel.types import Json, digest

N_REMEMBERED = 10_000  # requests whose tenant is known


class Writes(Protocol):
    """What HTTP needs of an engine."""

    def submit(self, request: Request, listener: Listener) -> None:
        """Raises InputError for what can never run, Overloaded where the queue is full."""

    def cancel(self, id: str) -> None: ...

    def stats(self) -> Any:
        """A dataclass, or a mapping."""

    def close(self, drain_s: float) -> object: ...


def as_dict(stats: Any) -> dict[str, Any]:
    """What an engine's stats() gives, as JSON has it."""
    return asdict(stats) if is_dataclass(stats) and not isinstance(stats, type) else dict(stats)


@dataclass
class Language:
    """A language model and the engine that runs it."""

    engine: Writes
    codec: Tokenizer | None  # None: texts are the ids of tokens
    vocab: int
    context: int | None
    stop: frozenset[int]
    chat: Chat | None
    plans: Mapping[str, PlanSpec]
    program: str  # digest of model, dtype and kernels
    refused: Mapping[str, str] = field(default_factory=dict)  # plans that are not here, and why
    mode: Literal["exact", "deterministic"] = "exact"
    most_texts: int | None = None  # of one request: as many as may wait; None: no such limit
    explain: Callable[[str], Json] | None = None  # of a request's id
    observe: Callable[[], Json] | None = None

    @cached_property
    def grammars(self) -> Grammars | None:
        return None if self.codec is None else Grammars(self.codec, self.vocab, self.stop)

    def plan_digest(self, name: str) -> str:
        return digest([self.program, self.plans[name].model_dump(mode="json")])


@dataclass
class Served:
    """A language model or an agent, under one name."""

    name: str
    created: int  # unix seconds
    feedback: Path  # a file of JSON lines
    language: Language | None = None
    agent: Any = None  # the Model of an emitted project
    keys: Keys | None = None
    limits: Limits = field(default_factory=Limits)
    collectors: Sequence[Collector] = ()
    n_connections: Callable[[], int] = lambda: 0
    is_leaving: bool = False
    asked: OrderedDict[str, str] = field(default_factory=OrderedDict)  # request -> tenant

    def remember(self, id: str, tenant: str) -> None:
        self.asked[id] = tenant
        while len(self.asked) > N_REMEMBERED:
            self.asked.popitem(last=False)

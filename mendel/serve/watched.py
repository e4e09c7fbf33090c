"""An engine with those who look on: the observer hears what ends, the ring keeps it to explain.

submit -> engine -> Token ... End -> (ids gathered) -> who looks on, and the asker's listener
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mendel.serve.protocols import End, Listener, Request, Token, Trace
from mendel.types import InputError

MOST_KEPT = 512
MOST_TOKENS = 1_000_000  # of all that are kept; an id takes some 32 bytes


class Serves(Protocol):
    """The engine, as far as it is passed on."""

    def submit(self, request: Request, listener: Listener) -> None: ...

    def cancel(self, id: str) -> None: ...

    def stats(self) -> Any: ...

    def close(self, drain_s: float = 0.0) -> Any: ...


@dataclass(frozen=True)
class Finished:
    """A request, what it was answered, and what that cost."""

    request: Request
    ids: tuple[int, ...]  # of the output
    end: End
    tokens: tuple[Token, ...] = ()  # of the output too, where log-probabilities were asked for

    @property
    def trace(self) -> Trace:
        return self.end.trace


class Ring:
    """The newest finished requests; in memory alone, so that no prompt outlives the process."""

    def __init__(self, most: int = MOST_KEPT, most_tokens: int = MOST_TOKENS) -> None:
        self.most, self.most_tokens, self.n_tokens = most, most_tokens, 0
        self._kept: OrderedDict[str, Finished] = OrderedDict()
        self._lock = Lock()

    def add(self, one: Finished) -> None:
        with self._lock:
            self._drop(one.request.id)
            self._kept[one.request.id] = one
            self.n_tokens += _size(one)
            while len(self._kept) > self.most or self.n_tokens > self.most_tokens:
                self._drop(next(iter(self._kept)))

    def get(self, id: str) -> Finished | None:
        with self._lock:
            return self._kept.get(id)

    def near(self, one: Finished, n: int) -> list[Finished]:
        """Others that ended about when it did, the nearest first."""
        with self._lock:
            others = [each for each in self._kept.values() if each is not one]
        return sorted(others, key=lambda each: abs(each.trace.at - one.trace.at))[:n]

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, id: str) -> None:
        gone = self._kept.pop(id, None)
        self.n_tokens -= 0 if gone is None else _size(gone)


def _size(one: Finished) -> int:
    return len(one.request.prompt) + len(one.ids) + sum(4 + 4 * len(t.top) for t in one.tokens)


class Spent:
    """In place of a grammar that is used up: one may hold megabytes, and nobody asks it again."""

    is_done = True

    def allowed(self) -> NDArray[np.bool_]:
        return np.zeros(0, np.bool_)

    def accept(self, id: int) -> None:
        raise InputError(f"the grammar is used up, and token {id} came. Ask for a fresh one.")


class Watched:
    """In the engine's place: the same calls, and each end is told to those who look on.

    lookers   called from the engine's thread once a request has ended, before its asker is told
    """

    def __init__(self, engine: Serves, lookers: Sequence[Callable[[Finished], None]]) -> None:
        self.engine, self.lookers = engine, tuple(lookers)

    def submit(self, request: Request, listener: Listener) -> None:
        ids: list[int] = []
        tokens: list[Token] = []
        asked = request.n_logprobs is not None
        kept = request if request.grammar is None else replace(request, grammar=Spent())

        def listen(event: Token | End) -> None:
            if isinstance(event, Token):
                ids.append(event.id)
                if asked:
                    tokens.append(event)
            else:
                finished = Finished(kept, tuple(ids), event, tuple(tokens))
                for each in self.lookers:
                    each(finished)
            listener(event)

        self.engine.submit(request, listen)

    def cancel(self, id: str) -> None:
        self.engine.cancel(id)

    def stats(self) -> Any:
        return self.engine.stats()

    def close(self, drain_s: float = 0.0) -> Any:
        return self.engine.close(drain_s)

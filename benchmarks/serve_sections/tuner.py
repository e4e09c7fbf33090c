"""mendel's engine with the tuner that `mendel serve` has, and a ledger of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mendel.clocks.tune.session import Tuner
from mendel.ledger import Ledger
from mendel.serve.protocols import Choice, Chooser, Features, Program, Trace
from mendel.serve.watched import Watched
from serve_sections import ours

PROFILE_S = 10.0


class Timed:
    """A chooser, and the processor seconds that it took, whoever else ran meanwhile."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser, self.seconds, self.n = chooser, 0.0, 0

    def choose(self, features: Features) -> Choice:
        began = time.thread_time()
        choice = self.chooser.choose(features)
        self.seconds, self.n = self.seconds + time.thread_time() - began, self.n + 1
        return choice

    def done(self, trace: Trace) -> None:
        began = time.thread_time()
        self.chooser.done(trace)
        self.seconds += time.thread_time() - began


@contextmanager
def tuned(
    ready: Program, loaded: Any, *, threads: int = 1, idles: bool = False, **fields: Any
) -> Iterator[Watched]:
    """An engine that is profiled and tunes itself until the end; its chooser is a Timed.

    idles   it may use idle time too, as a server's does: to probe rivals, to warm what is foreseen.
            Not where engines take turns: it would compute in the turns of the others
    """
    menu = ours.plans(ready.n_layers, threads)
    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(f"sqlite:///{name}/ledger.db", Path(name))
        tuner = Tuner(ledger, ready.digest, menu)
        with ours.engine(ready, menu, Timed(tuner.chooser), **fields) as running:
            tuner.profile(running, vocab=ready.vocab, context=loaded.model.spec.context,
                          budget_s=PROFILE_S)  # fmt: skip
            tuner.begin(running if idles else None)
            try:
                yield Watched(running, [tuner.heard])
            finally:
                tuner.close()
                ledger.close()

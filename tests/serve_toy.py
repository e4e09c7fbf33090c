"""A server small enough to test: a real tiny model written by mendel.generate in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mendel.data.tokenizers import Bytes, Tokenizer
from mendel.model import Model, build
from mendel.serve.http.app import create_app
from mendel.serve.http.chat import Chat
from mendel.serve.http.served import Language, Served
from mendel.serve.http.server import Running, start
from mendel.serve.protocols import End, Features, Listener, Overloaded, Request, Token, Trace
from mendel.spec import ModelSpec, PlanSpec
from mendel.types import InputError

PLANS = {"plain": PlanSpec(), "lookup-4": PlanSpec(draft="lookup", n_draft=4)}


def tiny(vocab: int = 256, context: int = 256) -> Model:
    torch.manual_seed(0)
    spec = ModelSpec.parse(
        {
            "width": 16, "n_layers": 1, "context": context, "vocab": vocab,
            "mixers": {"part": "attention", "rotary": False},
            "embedding": {"part": "token", "position": "learned"},
        }
    )  # fmt: skip
    return build(spec).eval()


class ToyEngine:
    """One text at a time, each by the whole model; it obeys grammars, stops and cancels.

    pause_s  before each token: how a test finds a text that is still being written
    """

    def __init__(self, model: Model, *, max_running: int = 64, pause_s: float = 0.0) -> None:
        self.model, self.max_running, self.pause_s = model, max_running, pause_s
        self.running: dict[str, threading.Event] = {}
        self.cancelled: list[str] = []
        self.n_done, self._lock = 0, threading.Lock()

    def submit(self, request: Request, listener: Listener) -> None:
        if len(request.prompt) + request.n_tokens > 100_000:
            raise InputError("too long. Wanted fewer tokens.")
        with self._lock:
            if len(self.running) >= self.max_running:
                raise Overloaded("the queue is full. Ask again.", 1.5)
            gone = self.running[request.id] = threading.Event()
        threading.Thread(target=self._write, args=(request, listener, gone), daemon=True).start()

    def cancel(self, id: str) -> None:
        if id in self.running:
            self.cancelled.append(id)
            self.running[id].set()

    def stats(self) -> Mapping[str, Any]:
        return {"n_running": len(self.running), "n_done": self.n_done, "plans": {"plain": 1}}

    def close(self, drain_s: float) -> None:
        end = time.monotonic() + drain_s
        while self.running and time.monotonic() < end:
            time.sleep(0.01)
        for id in list(self.running):
            self.cancel(id)

    def _write(self, request: Request, listener: Listener, gone: threading.Event) -> None:
        n, error, began = 0, None, time.perf_counter()
        reason: Any = "length"
        try:
            state, ids = None, list(request.prompt)
            draws = request.sampler.uniforms(len(ids))
            feed = ids
            while n < request.n_tokens:
                if self.pause_s:
                    time.sleep(self.pause_s)
                if gone.is_set():
                    reason = "cancelled"
                    break
                with torch.inference_mode():
                    output, state = self.model(torch.tensor([feed]), state)
                logits = output[0, -1].numpy()
                told = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
                if request.grammar is not None:
                    logits = np.where(request.grammar.allowed(), logits, -np.inf)
                id = request.sampler.pick(logits, next(draws))
                if id in request.stop:
                    reason = "stop"
                    break
                top = ()
                if request.n_logprobs is not None:
                    best = np.argsort(-told, kind="stable")[: request.n_logprobs]
                    top = tuple((int(i), float(told[i])) for i in best)
                listener(Token(id, float(told[id]), top))
                n, feed = n + 1, [id]
                if request.grammar is not None:
                    request.grammar.accept(id)
                    if request.grammar.is_done:
                        reason = "stop"
                        break
        except Exception as fault:
            reason, error = "failed", str(fault)
        features = Features(len(request.prompt), 0, request.n_tokens, 0.0, False, False, 1, 0)
        took = time.perf_counter() - began
        trace = Trace(
            request.id, features, request.plan or "plain", "pinned", request.tenant, n, n, 0, 0,
            0.0, took, 0.0, took, reason, time.time(),
        )  # fmt: skip
        with self._lock:
            self.running.pop(request.id, None)
            self.n_done += 1
        listener(End(reason, trace, error))


def served(folder: Path, *, codec: Tokenizer | None = Bytes(), **known: Any) -> Served:  # noqa: B008
    """A tiny model with random weights, ready to be served."""
    model = known.pop("model", None) or tiny()
    engine = known.pop("engine", None) or ToyEngine(model)
    language = Language(
        engine=engine,
        codec=codec,
        vocab=model.spec.vocab,
        context=known.pop("context", model.spec.context),
        stop=known.pop("stop", frozenset()),
        chat=known.pop("chat", Chat(codec, None, {}) if codec is not None else None),
        plans=PLANS,
        program="ab" * 32,
        mode=known.pop("mode", "exact"),
        explain=known.pop("explain", None),
        observe=known.pop("observe", None),
    )
    return Served("toy", 1, folder / "feedback.jsonl", language=language, **known)


@contextmanager
def running(what: Served) -> Iterator[Running]:
    """A real server on a port of its own, in a thread."""
    server = start(create_app(what), what)
    try:
        yield server
    finally:
        server.stop()

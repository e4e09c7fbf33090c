"""A server small enough to test: the real engine, over a tiny model with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mendel.data.tokenizers import Bytes, Tokenizer
from mendel.model import Model, build
from mendel.serve.engine import Engine
from mendel.serve.http.app import create_app
from mendel.serve.http.chat import Chat
from mendel.serve.http.served import Language, Served
from mendel.serve.http.server import Running, start
from mendel.serve.protocols import Fixed
from mendel.serve.reference import Reference
from mendel.spec import ModelSpec, PlanSpec

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


class Slow:
    """A program that takes its time: how a test finds a text that is still being written."""

    def __init__(self, inner: Reference, pause_s: float) -> None:
        self._inner, self._pause_s = inner, pause_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, *args: Any, **known: Any) -> Any:
        time.sleep(self._pause_s)
        return self._inner.run(*args, **known)


def engine_of(model: Model, *, pause_s: float = 0.0, **known: Any) -> Engine:
    program: Any = Reference(model, capacity_bytes=2**27)
    return Engine(Slow(program, pause_s) if pause_s else program, PLANS, Fixed("plain"), **known)


def served(folder: Path, *, codec: Tokenizer | None = Bytes(), **known: Any) -> Served:  # noqa: B008
    """A tiny model with random weights, ready to be served."""
    model = known.pop("model", None) or tiny()
    engine = known.pop("engine", None) or engine_of(model)
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
        most_texts=known.pop("most_texts", None),
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
        if what.language is not None:
            what.language.engine.close(0.0)

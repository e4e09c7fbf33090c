"""Small models of several mixers, what plain means for them, and somebody who listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mendel.model import Model, build
from mendel.serve.engine import Engine
from mendel.serve.protocols import End, Fixed, Program, Request, Token
from mendel.spec import ModelSpec, PlanSpec

VOCAB = 24
STORIES = Path(__file__).parents[2] / "shared" / "data" / "stories260K" / "stories260K.bin"
LLAMA: dict[str, Any] = {
    "width": 16, "n_layers": 2, "context": 64, "vocab": VOCAB, "mixers": {"part": "attention"},
}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "a window": LLAMA | {"mixers": {"part": "attention", "window": 5}},
    "learned positions": LLAMA
    | {
        "context": 256,
        "embedding": {"part": "token", "position": "learned"},
        "mixers": {"part": "attention", "rotary": False, "conv": 3},
    },
    "a recurrence": LLAMA | {"mixers": "gated_delta_net", "channels": ["relu2", "geglu"]},
    "a hybrid": LLAMA | {"mixers": ["linear_attention", "attention"], "channels": []},
}


def tiny(name: str = "llama", seed: int = 0, **fields: Any) -> Model:
    """A model whose logits differ enough for its texts to be alive."""
    model = build(ModelSpec.parse(SPECS[name] | fields), seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.05)
    return model


def stories() -> Model:
    from mendel.formats import llama2c

    if not STORIES.exists():
        pytest.skip(f"no {STORIES}")
    return llama2c.load(STORIES)


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._end: End | None = None
        self._over = threading.Event()
        self.begun = threading.Event()

    def __call__(self, event: Token | End) -> None:
        assert not self._over.is_set(), "nothing may come after the end"
        if isinstance(event, End):
            self._end = event
            self._over.set()
        else:
            self.tokens.append(event)
        self.begun.set()

    @property
    def end(self) -> End:
        assert self._over.wait(60), "no end came"
        assert self._end is not None
        return self._end

    @property
    def ids(self) -> list[int]:
        assert self.end.reason in ("stop", "length"), self.end
        return [token.id for token in self.tokens]


@contextmanager
def running(program: Program, plan: PlanSpec | None = None, **options: Any) -> Iterator[Engine]:
    spec = plan or PlanSpec()
    engine = Engine(program, {spec.name: spec}, Fixed(spec.name), **options)
    try:
        yield engine
    finally:
        engine.close()


def ask(engine: Engine, requests: Sequence[Request]) -> list[Heard]:
    """All at once; returns when all have ended."""
    heard = [Heard() for _ in requests]
    for request, listener in zip(requests, heard, strict=True):
        engine.submit(request, listener)
    for listener in heard:
        assert listener.end
    return heard

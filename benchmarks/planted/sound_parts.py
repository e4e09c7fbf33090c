"""The project's own parts and models, which must be clean."""

from __future__ import annotations

from typing import Any

from torch import nn

from mendel.model import build
from mendel.parts import menu  # noqa: F401  registers the parts
from mendel.parts.part import NAMED, PARTS, make
from mendel.presets import load_recipe
from mendel.spec import PartSpec

from . import Case

NOT_LINEAR = {"attention", "multi_query", "hyena"}  # sliding_window's state is bounded by 64
PRESETS = ("modern", "hybrid", "nanogpt")
VOCAB, CONTEXT = 50, 512


def part(kind: Any, name: str) -> Case:
    options: dict[str, Any] = {"state": "state", "state_output": 1}
    if name not in NOT_LINEAR:
        options["linear"] = True
    return Case(
        f"{kind}-{name}".replace("_", "-"), "part", (),
        lambda w: make(kind, PartSpec(part=name), w), output=0, options=options,
    )  # fmt: skip


def preset(name: str) -> Case:
    def make_model(width: int) -> nn.Module:
        spec = load_recipe(name)[0]
        sizes = {"width": width, "vocab": VOCAB, "context": CONTEXT, "n_layers": 2}
        return build(spec.model_copy(update=sizes))

    return Case(
        f"preset-{name}", "part", (), make_model, input="tokens:B,T,50", output=0,
        options={"state": "state", "state_output": 1, "max_length": CONTEXT},
    )  # fmt: skip


def names(kind: Any) -> list[str]:
    return [*PARTS[kind], *NAMED[kind]]


OURS = (
    *(part("mixer", name) for name in names("mixer")),
    *(part("channel", name) for name in names("channel")),
    *(part("norm", name) for name in names("norm")),
    *(preset(name) for name in PRESETS),
)

"""A trained model as the files that a project runs from. Travels with the project; imports nothing.

Agent -> model.onnx vocabulary.npz model.safetensors golden.json -> agent.json -> MODEL_CARD.md
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FORMAT = 2  # of agent.json, as it is written here and read by predict.py
TOLERANCE = 1e-4  # of an output, between the graph and the code that trained it


class Export(Protocol):
    """What a family of models supplies: `textmodel.export` is one."""

    def files(self, trained: Any, *, int8: bool) -> Mapping[str, bytes]:
        """model.onnx, vocabulary.npz and model.safetensors, by name."""

    def golden(self, trained: Any, texts: Sequence[str], *, int8: bool) -> list[Any]:
        """The outputs of the code that trained it, a list for each text."""


@dataclass(frozen=True)
class Agent:
    """A model with what it needs to answer, and with the facts that its card states.

    kind         of task, as in TaskSpec
    int8         tables as int8, one scale a row
    labels       that it knows; none where the answer is a number
    settings     what answering needs beside the weights, such as a temperature (JSON)
    task         name, description and whatever else is known of the task (JSON)
    examples     texts that ship with the project, as its golden test and benchmark
    card         facts for the model card, all of them optional (JSON)
    """

    kind: str
    trained: Any
    int8: bool
    labels: tuple[str, ...]
    settings: Mapping[str, Any]
    task: Mapping[str, Any]
    examples: tuple[str, ...]
    provenance: str
    card: Mapping[str, Any]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels: {len(self.labels)}, some twice. Wanted each once.")
        if not self.examples:
            raise ValueError("no examples. Wanted texts that may ship, 20 to 50 of them.")
        for name, value in self.settings.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name}={value}. Wanted a finite number.")

    @property
    def name(self) -> str:
        return str(self.task.get("name") or "text-model")


def write_model(agent: Agent, export: Export, signature: Mapping[str, str], folder: Path) -> str:
    """Write the model's files and agent.json.

    returns   sha256 of agent.json, which holds those of the other files: the agent's digest
    """
    files = dict(export.files(agent.trained, int8=agent.int8))
    outputs = export.golden(agent.trained, agent.examples, int8=agent.int8)
    golden = {"tolerance": TOLERANCE, "texts": list(agent.examples), "outputs": outputs}
    files["golden.json"] = _json(golden, indent=None)
    for name, content in files.items():
        folder.joinpath(name).write_bytes(content)
    about = {
        "format": FORMAT,
        "kind": agent.kind,
        "name": agent.name,
        "task": dict(agent.task),
        "signature": dict(signature),
        "labels": list(agent.labels),
        "settings": dict(agent.settings),
        "int8": agent.int8,
        "recipe": agent.trained.recipe.to_dict(),
        "provenance": agent.provenance,
        "card": dict(agent.card),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    content = _json(about, indent=2)
    folder.joinpath("agent.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_card(folder: Path) -> None:
    """MODEL_CARD.md from card.md.j2 and agent.json, both in the folder; needs jinja2."""
    agent = json.loads((folder / "agent.json").read_text(encoding="utf-8"))
    template = (folder / "card.md.j2").read_text(encoding="utf-8")
    card = render(template, agent=agent)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8", newline="\n")


def render(template: str, **values: Any) -> str:
    """A Markdown template of jinja2; a name that it uses and nobody gave is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(  # noqa: S701  (Markdown, not HTML)
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["line"] = _one_line
    rendered = environment.from_string(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", rendered)  # parts that are absent leave no gap


def _json(value: Mapping[str, Any], indent: int | None) -> bytes:
    """Strict JSON in ASCII, so that no text in it, however odd, fails to be written."""
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode("ascii")


def _one_line(value: object) -> str:
    """Any value as one line that does not break a Markdown table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_one_line(k)}: {_one_line(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_one_line, value))
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

"""A trained model as the files that a project runs from, and back again.

Agent -> model.onnx vocabulary.npz model.safetensors golden.json -> agent.json -> MODEL_CARD.md
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .features import MAX_TEXT, Floats, words
from .fit import Tensors, Trained, make_batch, tensors_of_copy
from .graph import build_graph, n_labels, quantise
from .store import pack

FORMAT = 1  # of agent.json
TOLERANCE = 1e-4  # of a logit, between the graph and the code that trained it
MODEL_FILES = ("model.onnx", "vocabulary.npz", "model.safetensors", "golden.json")
SIGNATURE = {
    "input": f"list of strings; the first {MAX_TEXT:,} characters of each are read",
    "output": "for each string: label (null when it abstains), probability of the best label, top",
}


@dataclass(frozen=True)
class Agent:
    """A model with what it needs to answer, and with the facts that its card states.

    int8         tables as int8, one scale a row
    temperature  logits are divided by it before the softmax
    threshold    abstains where the best label's probability is lower; 0 = never
    task         name, description and whatever else is known of the task (JSON)
    examples     texts that ship with the project, as its golden test and benchmark
    card         facts for the model card, all of them optional (JSON)
    """

    trained: Trained
    int8: bool
    labels: tuple[str, ...]
    temperature: float
    threshold: float
    task: Mapping[str, Any]
    examples: tuple[str, ...]
    provenance: str
    card: Mapping[str, Any]

    def __post_init__(self) -> None:
        n = n_labels(self.trained)
        if len(self.labels) != n or len(set(self.labels)) != n:
            raise ValueError(f"{len(self.labels)} labels. Wanted {n}, each once, as the model has.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}. Wanted a finite number above 0.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}. Wanted a probability, 0 = never.")
        if not self.examples:
            raise ValueError("no examples. Wanted texts that may ship, 20 to 50 of them.")

    @property
    def name(self) -> str:
        return str(self.task.get("name") or "text-classifier")


def write_model(agent: Agent, folder: Path) -> str:
    """Write the model's files and agent.json.

    returns   sha256 of agent.json, which holds those of the other files: the agent's digest
    """
    folder.joinpath("model.onnx").write_bytes(build_graph(agent.trained, int8=agent.int8))
    agent.trained.featurizer.save(folder / "vocabulary.npz")
    folder.joinpath("model.safetensors").write_bytes(pack(agent.trained))
    _write_json(folder / "golden.json", _golden(agent), indent=None)
    content = _write_json(folder / "agent.json", _about(agent, folder), indent=2)
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


def training_logits(trained: Trained, texts: Sequence[str], batch: int = 256) -> Floats:
    """(n, K) by the code that trained it and not by the graph: what the graph is tested against."""
    tensors = trained.tensors
    if "bag.bias" not in tensors:
        return _network_logits(trained, texts, batch)
    table, bias = tensors["bag.table"], tensors["bag.bias"]
    bags = [trained.featurizer.bag(words(text)) for text in texts]
    rows = [(weights[:, None] * table[ids]).sum(0) + bias for ids, weights in bags]
    return np.array(rows, np.float32).reshape(len(texts), len(bias))


def dequantised(trained: Trained) -> Trained:
    """The model that the int8 graph holds, in float32: its tables rounded to their int8 grid."""
    tensors = dict(trained.tensors)
    for name, table in trained.tensors.items():
        if name.endswith(".table"):
            rows, scale = quantise(table)
            tensors[name] = rows.astype(np.float32) * scale
    return replace(trained, tensors=tensors)


def _network_logits(trained: Trained, texts: Sequence[str], batch: int) -> Floats:
    import torch

    from .network import TextNet

    features, recipe = trained.featurizer, trained.recipe
    found = np.zeros((len(texts), n_labels(trained)), np.float32)
    for copy in range(recipe.copies):
        net = TextNet(recipe, features.n_rows, features.n_subwords + 1, n_labels(trained))
        net.load_state_dict(_as_torch(tensors_of_copy(trained, copy)))
        net.eval()
        for begin in range(0, len(texts), batch):
            ragged = features.ragged(texts[begin : begin + batch])
            with torch.no_grad():
                branches = net(make_batch(ragged, np.arange(len(ragged.bags)), recipe, None))
            found[begin : begin + batch] += sum(branches[1:], branches[0]).numpy()
    return found / np.float32(recipe.copies)


def _as_torch(tensors: Tensors) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}


def _golden(agent: Agent) -> dict[str, Any]:
    trained = dequantised(agent.trained) if agent.int8 else agent.trained
    logits = training_logits(trained, agent.examples).astype(np.float64).round(6)
    return {"tolerance": TOLERANCE, "texts": list(agent.examples), "logits": logits.tolist()}


def _about(agent: Agent, folder: Path) -> dict[str, Any]:
    files = {name: (folder / name).read_bytes() for name in MODEL_FILES}
    return {
        "format": FORMAT,
        "name": agent.name,
        "task": dict(agent.task),
        "signature": SIGNATURE,
        "labels": list(agent.labels),
        "temperature": agent.temperature,
        "threshold": agent.threshold,
        "int8": agent.int8,
        "recipe": agent.trained.recipe.to_dict(),
        "provenance": agent.provenance,
        "card": dict(agent.card),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


def _write_json(file: Path, value: Mapping[str, Any], indent: int | None) -> bytes:
    """Strict JSON in ASCII, so that no text in it, however odd, fails to be written."""
    content = (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode("ascii")
    file.write_bytes(content)
    return content


def _one_line(value: object) -> str:
    """Any value as one line that does not break a Markdown table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_one_line(k)}: {_one_line(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_one_line, value))
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

"""A run on disk, so that it can go on where it was: one safetensors file, facts in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from mendel.blobs import write_atomically
from mendel.spec import ModelSpec, TrainSpec
from mendel.types import InputError

FILE = "checkpoint.safetensors"


class CheckpointError(InputError):
    """A checkpoint that is not there, is damaged, or belongs to another run."""


def save(folder: Path, facts: Mapping[str, Any], groups: Sequence[Mapping[str, Tensor]]) -> None:
    """Replace the folder's checkpoint in one go; facts are plain JSON."""
    tensors = {
        f"{i}.{name}": tensor.detach().cpu().contiguous()
        for i, group in enumerate(groups)
        for name, tensor in group.items()
    }
    header = {"facts": json.dumps(facts, allow_nan=True)}
    write_atomically(folder / FILE, to_bytes(tensors, metadata=header))


def load(folder: Path) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """The facts and the tensors of each group; raises CheckpointError."""
    file = folder / FILE
    if not file.is_file():
        raise CheckpointError(
            f"there is no {file}, so nothing to resume. Leave --resume out to begin a new run."
        )
    try:
        with safe_open(file, framework="pt") as opened:
            facts = json.loads(opened.metadata()["facts"])
            groups: list[dict[str, Tensor]] = [{} for _ in facts["groups"]]
            for key in opened.keys():  # noqa: SIM118  it is no dict
                index, _, name = key.partition(".")
                groups[int(index)][name] = opened.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is damaged: {error}. Remove it and begin a new run."
        ) from None
    return facts, groups


def check_same(facts: Mapping[str, Any], model: ModelSpec, how: TrainSpec) -> None:
    """Raise CheckpointError, naming the fields, where a run is resumed under other specs."""
    pairs = ((ModelSpec.parse(facts["model"]), model), (TrainSpec.parse(facts["train"]), how))
    changed = {
        name: values for old, new in pairs for name, values in old.diff(new).items()
    }  # name -> (the run's, the one asked for)
    if changed:
        what = "; ".join(f"{name}: {old!r}, now {new!r}" for name, (old, new) in changed.items())
        raise CheckpointError(
            f"the run was begun with another spec: {what}. Resume without the change, or begin a "
            "new run."
        )

"""Presets: models to start from, by name, with the training that suits them.

Beside them stand the discoveries: recipes that `mendel research verify` found to be better than
every design of the menu, a folder each.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mendel.ledger import home
from mendel.spec import ModelSpec, SpecError, TrainSpec
from mendel.types import did_you_mean

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # small and up to date: rotary attention, SwiGLU
    "modern": {
        "model": {"mixers": [{"part": "attention", "qk_norm": True}]},
        "train": {},
    },
    # attention in one layer of four, a matrix state in the others
    "hybrid": {
        "model": {"mixers": ["gated_delta_net"] * 3 + [{"part": "attention", "qk_norm": True}]},
        "train": {},
    },
    # Karpathy's microgpt.py: 4,192 parameters with the 27 characters of its names
    "microgpt": {
        "model": {
            "width": 16, "n_layers": 1, "context": 16, "init_std": 0.08, "residual_init": "same",
            "embedding": {"part": "token", "position": "learned", "norm": True},
            "mixers": [{"part": "attention", "rotary": False}],
            "channels": [{"part": "mlp", "act": "relu"}],
            "norm": {"part": "rms_norm", "gain": False}, "final_norm": False,
        },
        "train": {
            "batch": 1, "lr": 0.01, "beta1": 0.85, "beta2": 0.99, "weight_decay": 0.0,
            "clip": 0.0, "warmup": 0.0, "shape": "linear", "final": 0.0, "budget": "1000steps",
            "tokenizer": "chars",
        },
    },
    # Karpathy's nanoGPT with its settings for a CPU: GPT-2 without biases
    "nanogpt": {
        "model": {
            "width": 128, "n_layers": 4, "context": 64, "init_std": 0.02, "tied": True,
            "embedding": {"part": "token", "position": "learned"},
            "mixers": [{"part": "attention", "rotary": False}],
            "channels": [{"part": "mlp", "act": "gelu"}],
            "norm": "layer_norm",
        },
        "train": {"batch": 12, "lr": 1e-3, "warmup": 0.05, "tokenizer": "chars"},
    },
}  # fmt: skip


TABLES = {"model": ModelSpec.model_fields, "train": TrainSpec.model_fields}


def discoveries() -> dict[str, Path]:
    """Folders of the verified recipes by name: those of MENDEL_HOME, and those that mendel brings.

    In each: recipe.toml, evidence.json, README.md.
    """
    root = Path(__file__).parent
    folders = [root / "discoveries", root.parent / "discoveries", home() / "discoveries"]
    files = [file for folder in folders for file in sorted(folder.glob("*/recipe.toml"))]
    return {file.parent.name: file.parent for file in files}


def load_recipe(name: str) -> tuple[ModelSpec, TrainSpec]:
    """A preset or a discovery by name, or a TOML file with the tables [model] and [train].

    raises   SpecError for an unknown name, a file that cannot be read, an unknown field
    """
    if name in PRESETS:
        recipe: dict[str, Any] = PRESETS[name]
    elif (found := discoveries().get(name)) is not None:
        recipe = _read(str(found / "recipe.toml"))
    else:
        recipe = _read(name)
    return ModelSpec.parse(recipe.get("model", {})), TrainSpec.parse(recipe.get("train", {}))


def _read(name: str) -> dict[str, Any]:
    file = Path(name)
    if not file.is_file():
        known = [*PRESETS, *discoveries()]
        hint = did_you_mean(name, known) or f"Presets: {', '.join(known)}."
        raise SpecError(f"{name!r} is neither a preset nor a TOML file. {hint}")
    try:
        recipe = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{name} is not TOML: {error}.") from None
    if recipe.keys() <= ModelSpec.model_fields.keys():
        return {"model": recipe}  # the spec.toml of a trained model
    for key in recipe.keys() - {"model", "train"}:
        owner = next((t for t, fields in TABLES.items() if key in fields), None)
        hint = f"It belongs in [{owner}]." if owner else "Wanted [model] and [train]."
        raise SpecError(f"{name} has {key!r} outside its tables. {hint}")
    for key, table in recipe.items():
        if not isinstance(table, dict):
            raise SpecError(f"{name}: {key}={table!r} is no table. Write [{key}] and fields below.")
    return recipe


def override(
    model: ModelSpec, train: TrainSpec, settings: list[str]
) -> tuple[ModelSpec, TrainSpec]:
    """Both specs with the fields of `--set name=value` changed; values are TOML, or plain words.

    A field of the training is named alone or as train.lr; one of a part by its path:
    mixers.0.n_heads=2, head.crf=true.
    """
    specs = {"model": model.to_dict(), "train": train.to_dict()}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise SpecError(f"--set {setting!r}: wanted name=value, such as width=128.")
        path = name.strip().split(".")
        table = path.pop(0) if path[0] in specs and len(path) > 1 else _table_of(path[0])
        _assign(specs[table], path, _value(text), setting)
    return ModelSpec.parse(specs["model"]), TrainSpec.parse(specs["train"])


def _table_of(field: str) -> str:
    for table, fields in TABLES.items():
        if field in fields:
            return table
    known = [name for fields in TABLES.values() for name in fields]
    hint = did_you_mean(field, known) or f"There are {', '.join(known)}."
    raise SpecError(f"no field is called {field!r}. {hint}")


def _assign(spec: Any, path: list[str], value: Any, setting: str) -> None:
    *way, last = path
    for step, key in enumerate(way):
        key_or_index: Any = int(key) if isinstance(spec, list) and key.isdigit() else key
        try:
            inner = spec[key_or_index]
        except (KeyError, IndexError, TypeError):
            raise SpecError(f"--set {setting}: there is no {'.'.join(path[: step + 1])}.") from None
        if isinstance(inner, int | float):
            raise SpecError(f"--set {setting}: {key} is a number and has no fields.")
        if isinstance(inner, str):  # a part that had no fields yet
            inner = spec[key_or_index] = {"part": inner}
        spec = inner
    if isinstance(spec, list):
        raise SpecError(f"--set {setting}: {'.'.join(way)} is a list. Wanted {'.'.join(way)}.0....")
    spec[last] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text.lstrip().startswith(("[", "{")):
            raise SpecError(
                f"{text} is no TOML: {error}. Words in a list need quotes: "
                """'mixers=["gla", "attention"]'."""
            ) from None
        return text

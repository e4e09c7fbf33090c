"""Emitted projects, loaded: numpy and onnxruntime are all it needs."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mendel.parts import text
from mendel.parts.text import features
from mendel.types import InputError

TEMPLATES = Path(__file__).parent / "templates"


def load_model(folder: str | Path) -> Any:
    """The `Model` of an emitted project. Its files are read as data; no code in it is run.

    raises   InputError where the folder holds no project, or its files were changed
    """
    place = Path(folder)
    if not (place / "agent.json").exists():
        raise InputError(
            f"{folder} holds no emitted model. Wanted a folder that `mendel design` wrote. "
            "Look for the one with predict.py and agent.json in it."
        )
    runtime = _runtime()
    try:
        return runtime.Model(place)
    except runtime.ModelError as error:
        raise InputError(f"{folder}: {error}") from error


@cache
def _runtime() -> ModuleType:
    """Our own copy of the predict.py that projects carry; its `textmodel` is our parts/text."""
    spec = importlib.util.spec_from_file_location("mendel_runtime", TEMPLATES / "predict.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    ours = {"textmodel": text, "textmodel.features": features, spec.name: module}
    sys.modules.update(ours)
    try:
        spec.loader.exec_module(module)
    finally:
        for name in ("textmodel", "textmodel.features"):
            del sys.modules[name]
    return module

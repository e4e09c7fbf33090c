"""Emitted projects, loaded: numpy and onnxruntime are all it needs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mendel.parts import conformal, shipping
from mendel.types import InputError

TEMPLATES = Path(__file__).parent / "templates"
TRAVELS_AS = {
    "text": "textmodel",
    "tagger": "tagmodel",
    "writer": "writermodel",
    "search": "searchmodel",
}  # folder of mendel.parts -> package in the project
PACKAGE_OF = {
    "classify": "text", "multilabel": "text", "pair": "text", "regress": "text", "tag": "tagger",
    "extract": "tagger", "generate": "writer", "retrieve": "search",
}  # fmt: skip
AS_IN_PROJECT = (
    "answers",
    "conformal",
    "explain",
    "shipping",
)  # modules of a project that import by these names
ANSWERS_AS = {"pair": "classify"}  # a pair is one text with a tab inside
IMPORTED_TO_ANSWER = {
    "text": ("features",),
    "tagger": ("features", "chain", "spans", "fields", "records"),
    "writer": ("features", "runner", "sampling"),
    "search": ("features",),
}


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
    runtime = _runtime(_kind(place))
    try:
        return runtime.Model(place)
    except runtime.ModelError as error:
        raise InputError(f"{folder}: {error}") from error


def packages(kind: str) -> tuple[str, Any]:
    """The folder of mendel.parts that models of a kind are made by, and its export."""
    package = PACKAGE_OF[kind]
    return package, importlib.import_module(f"mendel.parts.{package}.export")


def template(folder: str, kind: str) -> Path:
    """The file of a folder of templates that projects of a kind carry."""
    return TEMPLATES / folder / f"{ANSWERS_AS.get(kind, kind)}.py"


@cache
def answers_of(kind: str) -> ModuleType:
    """Our own copy of the answers.py that projects of a kind carry."""
    with _their_names(kind):
        return _module("answers", template("answers", kind))


@cache
def _runtime(kind: str) -> ModuleType:
    """Our own copy of the predict.py that projects carry."""
    answers = answers_of(kind)
    with _their_names(kind):
        sys.modules["answers"] = answers
        sys.modules["explain"] = _module("explain", TEMPLATES / "explain.py")
        return _module("mendel_runtime", TEMPLATES / "predict.py")


def _kind(folder: Path) -> str:
    """As agent.json says; one that does not is refused where it is read in full."""
    try:
        kind = json.loads((folder / "agent.json").read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return "classify"
    return kind if kind in PACKAGE_OF else "classify"


def _module(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look a class's module up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _their_names(kind: str) -> Iterator[None]:
    """For as long as a template is loaded, the names that it imports are ours."""
    package = PACKAGE_OF[kind]
    theirs = TRAVELS_AS[package]
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] in (theirs, *AS_IN_PROJECT)}
    sys.modules.update({"conformal": conformal, "shipping": shipping})
    sys.modules[theirs] = importlib.import_module(f"mendel.parts.{package}")
    for name in IMPORTED_TO_ANSWER[package]:
        ours = importlib.import_module(f"mendel.parts.{package}.{name}")
        sys.modules[f"{theirs}.{name}"] = ours
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in (theirs, *AS_IN_PROJECT)]:
            del sys.modules[name]
        sys.modules.update(before)  # a user may have modules of these names

"""The module's side of an audit in the sandbox: open a file's class, then answer what is asked."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from mendel.audit.claims import Claims
from mendel.audit.execute import execute
from mendel.audit.inputs import InputSpec
from mendel.audit.subject import AuditError, Subject
from mendel.audit.wire import pack, unpack_calls
from mendel.parts.part import Part

# torch's counters import this, which takes seconds: once, before the fork. It wants a folder that
# it can write to, and there is none; it writes nothing
tempfile.tempdir = tempfile.tempdir or "/"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/")
import torch._dynamo  # noqa: E402

NAME = "audited"  # of the module that the file becomes


def load_class(source: str, file: str, name: str) -> type[nn.Module]:
    """Run a file's text and take a class from it. Only ever where strangers may run: the sandbox.

    raises   AuditError that names what the file has
    """
    module = execute(source, NAME, file)
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    known = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == NAME
    ]
    raise AuditError(
        f"{file} has no module class {name!r}. It has {', '.join(known) or 'none'}: "
        f"name one after the colon."
    )


class Served:
    """Answers requests of `Remote`."""

    def __init__(self) -> None:
        self.subject: Subject | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, of JSON values and tensors."""
        if request["op"] == "open":
            return self._open(request)
        if self.subject is None:
            raise AuditError("no module was opened")
        return getattr(self, f"_{request['op']}")(self.subject, request)  # type: ignore[no-any-return]

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        cls = load_class(request["source"], request["file"], request["name"])
        kwargs = request["kwargs"]
        spec = InputSpec.parse(request["input"])
        claims = Claims.parse(request["claims"])

        def built(width: int | None = None) -> nn.Module:
            torch.manual_seed(request["seed"])
            known = kwargs if width is None else _widened(kwargs, spec.width, width)
            return _build(cls, known)

        can = spec.width in [v for v in kwargs.values() if not isinstance(v, bool)]
        self.subject = Subject(built(), spec, request["output"], claims, built if can else None)
        return {}

    def _facts(self, subject: Subject, request: dict[str, Any]) -> dict[str, Any]:
        return asdict(subject.facts())

    def _calls(self, subject: Subject, request: dict[str, Any]) -> dict[str, Any]:
        calls = unpack_calls(request["calls"], request)
        told, tensors = pack(subject.calls(calls, request["dtype"], request["fresh"]))
        return {"answers": told, **tensors}

    def _steps(self, subject: Subject, request: dict[str, Any]) -> dict[str, Any]:
        return asdict(subject.train_steps(*request["args"]))

    def _cost(self, subject: Subject, request: dict[str, Any]) -> dict[str, Any]:
        return asdict(subject.cost(*request["args"]))

    def _widened(self, subject: Subject, request: dict[str, Any]) -> dict[str, Any]:
        return {"error": subject.widened(request["width"])}


def _build(cls: type[nn.Module], kwargs: dict[str, Any]) -> nn.Module:
    """A part of mendel's takes its fields and a width, all else its own arguments."""
    if not issubclass(cls, Part):
        return cls(**kwargs)
    fields = {name: value for name, value in kwargs.items() if name != "width"}
    return cls(cls.Fields.parse(fields), kwargs["width"])


def _widened(kwargs: dict[str, Any], old: int, new: int) -> dict[str, Any]:
    """Every number that is the input's width is the new one."""
    return {k: new if v == old and not isinstance(v, bool) else v for k, v in kwargs.items()}

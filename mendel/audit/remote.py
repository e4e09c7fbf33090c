"""A file of a stranger, audited: its class lives in the sandbox and is only asked for calls.

What it answers is checked for its form and judged here. A module cannot replace the auditor, nor
print a verdict of its own; it can only compute something, and that is what is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from mendel import sandbox
from mendel.audit import wire
from mendel.audit.accept import read_source
from mendel.audit.claims import Claims
from mendel.audit.inputs import InputSpec
from mendel.audit.measures import Cost
from mendel.audit.subject import Answer, AuditError, Call, Facts
from mendel.audit.training import Steps
from mendel.presets import PRESETS
from mendel.types import InputError, Json, did_you_mean

CODE = """
from mendel.audit.served import Served
served = Served()
def serve(request):
    return served.answer(request)
"""
LIMITS = sandbox.Limits(
    wall_s=120.0, cpu_s=600.0, memory_bytes=6 << 30, result_bytes=512 << 20, output_bytes=8 << 20
)
MAX_RESTARTS = 5  # of a module that takes its process down


@dataclass(frozen=True)
class Source:
    """Which class of which file, and how it is built."""

    file: Path
    name: str
    kwargs: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, kwargs: Json) -> Source:
        """FILE.py:CLASS; raises InputError that says what was wanted."""
        path, colon, name = text.rpartition(":")
        if not colon or not path or not name.isidentifier():
            hint = did_you_mean(text, PRESETS)
            raise InputError(f"{text!r} names no class. Wanted FILE.py:CLASS. {hint}".rstrip())
        file = Path(path)
        if not file.is_file():
            raise InputError(f"there is no file {path}. Wanted FILE.py:CLASS.")
        return cls(file, name, kwargs)

    def text(self) -> str:
        return read_source(self.file)


class Remote:
    """Answers as a Subject does, out of a session of the sandbox."""

    def __init__(
        self,
        pool: sandbox.Pool,
        source: Source,
        spec: InputSpec,
        output: int | str | None,
        claims: Claims,
    ) -> None:
        self._pool, self._restarts = pool, 0
        self._opening = {
            "op": "open",
            "source": source.text(),
            "file": source.file.name,
            "name": source.name,
            "kwargs": source.kwargs,
            "input": str(spec),
            "output": output,
            "claims": claims.to_dict(),
            "seed": 0,
        }
        self._session = self._open()

    def facts(self) -> Facts:
        return wire.facts(self._must({"op": "facts"})[0])

    def calls(
        self, calls: Sequence[Call], dtype: str = "float64", fresh: bool = True
    ) -> list[Answer]:
        told, tensors = wire.pack(calls)
        request = {"op": "calls", "calls": told, "dtype": dtype, "fresh": fresh}
        try:
            value, arrays = self._ask(request, tensors)
        except sandbox.CallError as error:
            return [Answer(error=f"its process ended: {error.ended}") for _ in calls]
        return wire.unpack_answers(value.get("answers"), arrays, calls)

    def train_steps(self, B: int, T: int, dtype: str, n: int = 3, seed: int = 0) -> Steps:
        return wire.steps(self._must({"op": "steps", "args": [B, T, dtype, n, seed]})[0])

    def cost(self, T: int, repeats: int = 0) -> Cost:
        return wire.cost(self._must({"op": "cost", "args": [T, repeats]})[0])

    def widened(self, width: int) -> str | None:
        error = self._must({"op": "widened", "width": width})[0].get("error")
        return None if error is None else str(error)[:400]

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def _must(self, request: dict[str, Any]) -> tuple[Json, Mapping[str, Any]]:
        try:
            return self._ask(request, {})
        except sandbox.CallError as error:
            raise AuditError(error.said) from None

    def _ask(
        self, request: dict[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Json, Mapping[str, Any]]:
        try:
            return self._session.call(request, tensors)
        except sandbox.CallError as error:
            if not error.alive:
                self._restart(error)
            raise

    def _restart(self, error: sandbox.CallError) -> None:
        self._session.close()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise AuditError(f"it took its process down {self._restarts} times: {error.ended}")
        self._session = self._open()

    def _open(self) -> sandbox.Session:
        session = self._pool.session(CODE, LIMITS)
        try:
            session.call(self._opening)
        except sandbox.CallError as error:
            outcome = session.close()
            last = [line for line in outcome.stderr.strip().splitlines() if line][-1:]
            raise AuditError(f"it could not be built: {error.said} {' '.join(last)}") from None
        return session

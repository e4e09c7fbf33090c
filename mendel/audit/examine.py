"""check(module) -> AuditReport."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mendel.audit.auditor import Asked, Auditor, CallFailed, Profile
from mendel.audit.checks import (
    batch,
    causality,
    cost,
    gradients,
    length,
    mode,
    numerics,
    shapes,
    state,
    step,
)
from mendel.audit.claims import Claims
from mendel.audit.inputs import InputSpec
from mendel.audit.report import CHECKS, AuditReport
from mendel.audit.subject import AuditError, Facts, Subject
from mendel.model import build
from mendel.spec import ModelSpec
from mendel.types import InputError

RUN: dict[str, Callable[[Auditor], None]] = {
    "shapes": shapes.check,
    "state": state.check,
    "batch": batch.check,
    "causality": causality.check,
    "length": length.check,
    "mode": mode.check,
    "step": step.check,
    "gradients": gradients.check,
    "numerics": numerics.check,
    "cost": cost.check,
}
AHEAD = ("causality", "length", "step")  # of no meaning where every output may read all


def check(
    module: nn.Module | ModelSpec,
    example: Tensor | str | InputSpec | None = None,
    *,
    claims: Claims | None = None,
    output: int | str | None = None,
    profile: Profile = "quick",
    rebuild: Callable[[int], nn.Module] | None = None,
    seed: int = 0,
) -> AuditReport:
    """Put a module through every check, in this process.

    module    a ModelSpec, or any module: (B, T, ...) floats or (B, T) tokens -> (B, T, ...)
    example   a tensor (B, T, ...), or what `--input` takes; may be left out for a ModelSpec
    output    which element of what forward returns is the sequence
    rebuild   a width -> the module at that width, so that others can be tried
    profile   quick: about a second at width 64; full: ten times that, every length
    raises    AuditError where it cannot be run at all, InputError for an example that is none
    cost      one core; nothing of the module is changed
    """
    if isinstance(module, ModelSpec):
        module, example, claims = _of_spec(module, claims)
    elif example is None:
        raise InputError('check() needs an example of the input, such as "float:B,T,64".')
    spec = _input(example)
    claims = claims or Claims()
    subject = Subject(module, spec, output, claims, rebuild)
    return examine(subject, spec, claims, profile, seed)


def examine(
    subject: Asked, spec: InputSpec, claims: Claims, profile: Profile = "quick", seed: int = 0
) -> AuditReport:
    """The same for a subject that may live elsewhere."""
    start = time.monotonic()
    with _one_thread(), _own_random():
        facts = subject.facts()
        _runs(facts)
        a = Auditor(subject, spec, claims, profile, seed, facts)
        ran = {name: _ran(a, name) for name in CHECKS}
        known = _facts(a)
    return AuditReport(
        subject=facts.name,
        profile=profile,
        findings=tuple(a.findings),
        ran=ran,
        notes=tuple(a.notes),
        facts=known,
        seconds=time.monotonic() - start,
    )


def _ran(a: Auditor, name: str) -> str:
    if a.claims.bidirectional and name in AHEAD:
        return "skipped"
    before = len(a.findings)
    try:
        RUN[name](a)
    except (CallFailed, AuditError) as error:
        return _undecided(a, name, str(error), before)
    except Exception as error:  # of ours, on a module that nobody thought of: say so, go on
        return _undecided(a, name, f"{type(error).__name__}: {error}", before)
    levels = {finding.level for finding in a.findings[before:]}
    quiet = "skipped" if name in a.skipped else "clean"
    return "error" if "error" in levels else "warning" if levels else quiet


def _undecided(a: Auditor, name: str, why: str, before: int) -> str:
    """A check that broke down: what it found before stands, and the report is not clean."""
    a.note(f"{name} could not be decided: {why}")
    return "error" if len(a.findings) > before else "failed"


def _runs(facts: Facts) -> None:
    if "float32" in facts.dtypes:
        raise AuditError(
            f"{facts.name} does not run on an input of the shape that was named: "
            f"{facts.dtypes['float32']}. Say what it takes by --input and --output."
        )


def _facts(a: Auditor) -> dict[str, Any]:
    decided = a.dtype
    if decided == "float32":
        a.notes.append(
            f"decided in float32, since it does not run in float64: {a.facts.dtypes['float64']}"
        )
    return {
        "n_params": a.facts.n_params,
        "decided_in": decided,
        "input": str(a.spec),
        "lengths": a.lengths,
        "torch": torch.__version__,
        "seed": a.seed,
        **a.measured,
    }


def _of_spec(spec: ModelSpec, claims: Claims | None) -> tuple[nn.Module, str, Claims]:
    known = claims or Claims()
    if known.max_length is None and spec.embedding.fields.get("position") == "learned":
        known = known.model_copy(update={"max_length": spec.context})
    return build(spec), f"tokens:B,T,{spec.vocab}", known


def _input(example: Tensor | str | InputSpec) -> InputSpec:
    if isinstance(example, InputSpec):
        return example
    return InputSpec.parse(example) if isinstance(example, str) else InputSpec.of(example)


@contextmanager
def _own_random() -> Iterator[None]:
    """The caller's generators stand afterwards where they stood."""
    theirs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(theirs[0])
        np.random.set_state(theirs[1])
        torch.set_rng_state(theirs[2])


@contextmanager
def _one_thread() -> Iterator[None]:
    """So that sums are added in one order, and a small module is not slowed down."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n)

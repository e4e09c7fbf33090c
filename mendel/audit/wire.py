"""Calls and answers as JSON and arrays, and back; what comes back is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mendel.audit.measures import Cost
from mendel.audit.subject import Answer, AuditError, Call, Facts
from mendel.audit.training import Steps
from mendel.types import Json

TENSORS = ("x", "cotangent", "y", "gradient")


def pack(
    items: Sequence[Any],
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Calls or answers: each as a dict, its tensors apart, named by field and place."""
    told: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for i, item in enumerate(items):
        values = {f.name: getattr(item, f.name) for f in fields(item)}
        for name in TENSORS:
            if isinstance(values.get(name), Tensor):
                tensors[f"{name}{i}"] = values.pop(name).contiguous()
            else:
                values.pop(name, None)
        told.append(values)
    return told, tensors


def unpack_calls(told: Sequence[Json], tensors: Mapping[str, Any]) -> list[Call]:
    """On the module's side."""
    return [
        Call(
            **{**values, "pieces": tuple(values["pieces"])},
            x=tensors[f"x{i}"],
            cotangent=tensors.get(f"cotangent{i}"),
        )
        for i, values in enumerate(told)
    ]


def unpack_answers(told: object, arrays: Mapping[str, Any], calls: Sequence[Call]) -> list[Answer]:
    """On the auditor's side: nothing is believed that has not the form of an answer."""
    if not isinstance(told, list) or len(told) != len(calls):
        raise nonsense("another number of answers than calls")
    return [
        _answer(values, arrays, i, call)
        for i, (values, call) in enumerate(zip(told, calls, strict=True))
    ]


def _answer(values: object, arrays: Mapping[str, Any], i: int, call: Call) -> Answer:
    if not isinstance(values, dict):
        raise nonsense("an answer that is no record")
    error, size = values.get("error"), values.get("state_bytes")
    answer = Answer(
        error=None if error is None else str(error)[:400],
        changed=_names(values.get("changed")),
        numbers=_names(values.get("numbers")),
        wrote_input=values.get("wrote_input") is True,
        moved_random=values.get("moved_random") is True,
        state_bytes=int(size) if isinstance(size, int) else None,
    )
    if error is not None:
        return answer
    found = {name: _tensor(arrays.get(f"{name}{i}"), call) for name in ("y", "gradient")}
    if found["y"] is None:
        raise nonsense("an answer without an output")
    return replace(answer, **found)  # type: ignore[arg-type]


def _tensor(array: object, call: Call) -> Tensor | None:
    if array is None:
        return None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise nonsense("an output that is no array of floats")
    if array.shape[:2] != tuple(call.x.shape[:2]):
        raise nonsense(f"an output of shape {array.shape}")
    return torch.from_numpy(array.copy())


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(name)[:200] for name in value[:100]) if isinstance(value, list) else ()


def facts(value: Json) -> Facts:
    try:
        state = value["state"]
        return Facts(
            str(value["name"])[:200],
            int(value["n_params"]),
            None if state is None else str(state)[:100],
            {str(k)[:20]: str(v)[:400] for k, v in dict(value["dtypes"]).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise nonsense(f"facts that cannot be read ({error})") from None


def steps(value: Json) -> Steps:
    try:
        error, largest = (
            value["error"],
            {str(k)[:200]: float(v) for k, v in dict(value["largest"]).items()},
        )
        return Steps(
            largest, tuple(map(float, value["losses"])), None if error is None else str(error)[:400]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise nonsense(f"gradients that cannot be read ({error})") from None


def cost(value: Json) -> Cost:
    try:
        seconds = value["seconds"]
        counts = {f.name: int(value[f.name]) for f in fields(Cost) if f.name != "seconds"}
        return Cost(**counts, seconds=None if seconds is None else float(seconds))
    except (KeyError, TypeError, ValueError) as error:
        raise nonsense(f"costs that cannot be read ({error})") from None


def nonsense(what: str) -> AuditError:
    return AuditError(f"the module's process answered {what}. Wanted what it was asked for.")

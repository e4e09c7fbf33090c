"""What a module remembers: weights, buffers and plain attributes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

OWN = {"_parameters", "_buffers", "_modules", "training"}  # torch's own; buffers are read apart
MAX_ITEMS = 1000


@dataclass(frozen=True)
class Snapshot:
    """A mark for each thing that a module remembers."""

    marks: dict[str, object]

    def changed(self, module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names whose mark is another one now; and those of them that are single numbers."""
        now = snapshot(module).marks
        names = sorted(self.marks.keys() | now.keys())
        changed = tuple(n for n in names if self.marks.get(n) != now.get(n))
        values = dict(_remembered(module))
        return changed, tuple(n for n in changed if _is_number(values.get(n)))


def snapshot(module: nn.Module) -> Snapshot:
    return Snapshot({name: _mark(value) for name, value in _remembered(module)})


def bump(module: nn.Module, name: str, value: float) -> None:
    """Set a number that the module keeps."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, leaf)
    if isinstance(old, Tensor):
        with torch.no_grad():
            limit = value if old.is_floating_point() else min(value, torch.iinfo(old.dtype).max)
            old.fill_(limit)
    else:
        setattr(owner, leaf, type(old)(value))


def _remembered(module: nn.Module) -> list[tuple[str, Any]]:
    found = []
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        found += [(prefix + name, value) for name, value in part.named_buffers(recurse=False)]
        found += [(prefix + name, value) for name, value in part.named_parameters(recurse=False)]
        found += [
            (prefix + name, value)
            for name, value in vars(part).items()
            if name not in OWN and "_hooks" not in name
        ]
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.dtype != torch.bool
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mark(value: Any, depth: int = 0) -> object:
    """Equal marks, equal values; things that are not data count as unchanged."""
    if value is None or isinstance(value, int | float | str | bool | bytes):
        return (type(value).__name__, repr(value))
    if isinstance(value, Tensor) and value.layout == torch.strided:
        raw = value.detach().cpu().contiguous()
        data = raw.view(-1).view(torch.uint8).numpy().tobytes() if raw.numel() else b""
        return (str(raw.dtype), tuple(raw.shape), hashlib.blake2b(data, digest_size=16).digest())
    if depth < 3 and isinstance(value, list | tuple) and len(value) <= MAX_ITEMS:
        return tuple(_mark(item, depth + 1) for item in value)
    if depth < 3 and isinstance(value, dict) and len(value) <= MAX_ITEMS:
        return tuple((str(k), _mark(v, depth + 1)) for k, v in value.items())
    return type(value).__name__

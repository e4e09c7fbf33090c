"""Train mode without its dropout, so that all else in which it differs from eval shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

DROPS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout,
}  # fmt: skip


class _NoDropout(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention and "dropout_p" in kwargs:
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Functions of dropout do nothing, and every rate that a module calls dropout is 0."""
    rates = []
    for part in module.modules():
        for name, value in list(vars(part).items()):
            known = "drop" in name or (
                name == "p" and isinstance(part, nn.modules.dropout._DropoutNd)
            )
            if known and isinstance(value, float) and 0 < value <= 1:
                rates.append((part, name, value))
                setattr(part, name, 0.0)
    try:
        with _NoDropout():
            yield
    finally:
        for part, name, value in rates:
            setattr(part, name, value)

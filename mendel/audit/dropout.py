"""Train mode without its dropout, so that all else in which it differs from eval shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# names of rates: dropout, attn_dropout, dropout_p, resid_pdrop, drop_path; not drop_below
RATE = re.compile(r"(^|_)(dropout|pdrop|drop|drop_rate|drop_prob|drop_path)(_p|_prob|_rate)?$")
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
            is_rate = RATE.search(name) or (name == "p" and "Dropout" in type(part).__name__)
            if is_rate and isinstance(value, float) and 0 < value <= 1:
                rates.append((part, name, value))
                setattr(part, name, 0.0)
    try:
        with _NoDropout():
            yield
    finally:
        for part, name, value in rates:
            setattr(part, name, value)

"""What a module takes: floats or tokens, and which axis is time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mendel.types import InputError

WANTED = (
    'Wanted "float:B,T,64" (B batch, T time, numbers for the rest, in the module\'s own order) '
    'or "tokens:B,T,1000" (the last number is the vocabulary).'
)


@dataclass(frozen=True)
class InputSpec:
    """Inputs are drawn as (B, T, *sizes), and laid out as the module wants them."""

    kind: Literal["float", "tokens"]
    layout: tuple[str, ...]  # B, T and numbers
    vocab: int = 0

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Raises InputError that says what was wanted."""
        match = re.fullmatch(r"\s*(float|tokens)\s*:\s*([\w\s,]+)", text)
        if match is None:
            raise InputError(f"--input {text!r} is not an input. {WANTED}")
        kind, items = match[1], tuple(item.strip() for item in match[2].split(","))
        numbers = [item for item in items if item not in ("B", "T")]
        if items.count("B") != 1 or items.count("T") != 1:
            raise InputError(f"--input {text!r} names B and T other than once each. {WANTED}")
        if not all(item.isdecimal() and int(item) > 0 for item in numbers):
            raise InputError(f"--input {text!r} has sizes that are no positive numbers. {WANTED}")
        if kind == "float":
            return cls("float", items)
        if len(numbers) != 1 or items[-1] != numbers[0]:
            raise InputError(f"--input {text!r} does not say the vocabulary. {WANTED}")
        return cls("tokens", items[:-1], int(numbers[0]))

    @classmethod
    def of(cls, example: Tensor) -> InputSpec:
        """From a tensor (B, T, ...); of tokens the largest says the vocabulary."""
        if example.dim() < 2 or not example.numel() or example.is_complex():
            told = f"{example.dtype} of shape {tuple(example.shape)}"
            raise InputError(f"the example is {told}. Wanted floats (B, T, ...) or tokens (B, T).")
        if example.is_floating_point():
            return cls("float", ("B", "T", *map(str, example.shape[2:])))
        if example.dim() > 2:
            raise InputError(f"tokens have shape {tuple(example.shape)}. Wanted (B, T).")
        return cls("tokens", ("B", "T"), int(example.max()) + 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(int(item) for item in self.layout if item not in ("B", "T"))

    @property
    def width(self) -> int:
        return self.sizes[-1] if self.sizes else 0

    def with_width(self, width: int) -> InputSpec:
        old = str(self.width)
        last = max(i for i, item in enumerate(self.layout) if item == old)
        layout = tuple(str(width) if i == last else item for i, item in enumerate(self.layout))
        return InputSpec(self.kind, layout, self.vocab)

    def draw(self, B: int, T: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """(B, T, *sizes) of standard normals, or (B, T) tokens; the same seed draws the same."""
        random = torch.Generator().manual_seed(seed)
        if self.kind == "tokens":
            return torch.randint(self.vocab, (B, T), generator=random)
        return torch.randn(B, T, *self.sizes, generator=random, dtype=torch.float64).to(dtype)

    def lay_out(self, x: Tensor) -> Tensor:
        """(B, T, *sizes) -> as the module takes it."""
        b, t = self.layout.index("B"), self.layout.index("T")
        return x.movedim((0, 1), (b, t))

    def bring_back(self, y: Tensor) -> Tensor:
        """The module's output, whose B and T lie where the input's do -> (B, T, ...)."""
        b, t = self.layout.index("B"), self.layout.index("T")
        if y.dim() <= max(b, t):
            raise InputError(
                f"the output has shape {tuple(y.shape)} and so no time axis. Wanted a sequence "
                "for a sequence; name the output's element by --output."
            )
        y = torch.view_as_real(y) if y.is_complex() else y
        return y.movedim((b, t), (0, 1))

    def __str__(self) -> str:
        items = (*self.layout, *([str(self.vocab)] if self.kind == "tokens" else []))
        return f"{self.kind}:{','.join(items)}"

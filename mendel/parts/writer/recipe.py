"""One writer as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..carried.fields import Fields

FAMILIES = ("attention", "dual")


@dataclass(frozen=True)
class WriterRecipe(Fields):
    """Every dial of a writer; the defaults suit a megabyte of text and a minute.

    family       attention: blocks of attention and a gated net over bytes. dual: the same, added
                 to the logarithm of what counts of bytes say
    order        bytes before that counts look at, at most; fewer where that is as good for new
                 texts, or where there would be more than max_rows counts
    width        of a byte's vector
    layers       blocks; what lies `layers * window` bytes back can still be seen
    heads        of the attention; they divide the width, into an even number
    window       bytes that an attention sees, the newest included
    steps batch  of training: windows of twice that length, batch of them a step
    lr           of Adam, for tables; matrix_lr: of Muon, for the matrices between layers
    decay        of matrices
    """

    of = "a writer"

    family: str = "dual"
    order: int = 6
    max_rows: int = 1_000_000
    width: int = 64
    layers: int = 2
    heads: int = 4
    window: int = 64
    steps: int = 150
    batch: int = 16
    lr: float = 4e-3
    matrix_lr: float = 0.02
    warmup: float = 0.05
    decay: float = 0.05

    is_learned: ClassVar[bool] = True  # by gradient steps

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r}. Wanted one of {', '.join(FAMILIES)}.")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"heads={self.heads} does not divide width={self.width} into even parts."
            )

    @property
    def has_counts(self) -> bool:
        return self.family == "dual"

    @property
    def hidden(self) -> int:
        """Units of the gated net: as many parameters as a plain one of ratio 4."""
        return max(4, round(self.width * 8 / 3 / 4) * 4)

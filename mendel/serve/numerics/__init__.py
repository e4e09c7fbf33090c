"""A model by kernels whose bits do not depend on batch, cuts, cache or threads.

layers, recurrences, pieces   parts -> operations
tape, machine, together       operations, and who goes down them
ops, states, routing          what each does to the rows of a batch
rows, mixing, softmax         the arithmetic
vectors, tiles                its loops in registers
pool, text, kernels           memory, and pieces to logits
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mendel.model import Model
    from mendel.serve.numerics.kernels import Kernels


def program(
    model: Model, *, dtype: Literal["float32", "bf16"] = "float32", capacity_bytes: int
) -> Kernels:
    """A Program of this model.

    dtype            of weights and of what passes between parts; sums are in float32
    capacity_bytes   of all texts together
    raises           InputError for a part that has no exact kernel: use Reference for it
    cost             the first call on a machine compiles for 40 s; later ones read it from the disk
    """
    from mendel.serve.numerics.kernels import Kernels

    return Kernels(model, dtype=dtype, capacity_bytes=capacity_bytes)

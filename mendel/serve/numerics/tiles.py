"""Products of a few rows with a panel of weights, in registers.

Each number is one sum over k from the first to the last, whatever the rows beside it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mendel.serve.numerics.vectors import (
    I64,
    LANES,
    VEC,
    WORDS,
    features,
    lanes_at,
    multiply_add,
    numbers_at,
    pointer_to,
    put_lanes,
    repeat,
    spread,
    sums_of,
)  # fmt: skip

MAX_ROWS = 6  # of a tile: 24 sums and 4 vectors of weights fit AVX-512's 32 registers


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


PAIRS = ir.VectorType(_BFloat(), 2 * LANES)


def panel_columns() -> int:
    """Columns of a panel of weights: as many as leave room for six rows of sums in registers."""
    return 64 if "avx512f" in features() else 16


def has_pairs() -> bool:
    """Whether the CPU multiplies two bf16 numbers a lane at once, and adds both to a float32."""
    return "avx512bf16" in features()


def _pair_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """c + a0 b0 + a1 b1 a lane, by AVX512-BF16; a and b are words of two bf16 numbers."""
    kind = ir.FunctionType(VEC, [VEC, PAIRS, PAIRS])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    f = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(f, [c, builder.bitcast(a, PAIRS), builder.bitcast(b, PAIRS)])


def _tile(n_rows: int, n_vectors: int, halves: bool) -> Any:
    """y[r, :] = bias + sum over k of x[r, k] * w[k, :], for a panel of weights and n_rows rows.

    With has_pairs(), k counts pairs of bf16 numbers, in x and in weights that are halves.
    """
    in_pairs = halves and has_pairs()
    width = 2 * LANES if in_pairs else LANES
    fused = _pair_multiply_add if in_pairs else multiply_add

    @intrinsic
    def tile(
        typing: Any, x: Any, xi: Any, ldx: Any, w: Any, wi: Any, b: Any, bi: Any, y: Any, yi: Any,
        ldy: Any, K: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        signature = types.void(x, i64, i64, w, i64, b, i64, y, i64, i64, i64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def at(i: int, more: Any) -> Any:
                return pointer_to(context, builder, sig.args[i], args[i], more)

            rows = [
                at(0, builder.add(args[1], builder.mul(args[2], ir.Constant(I64, r))))
                for r in range(n_rows)
            ]
            panel, bias = at(3, args[4]), at(5, args[6])
            first = [
                lanes_at(builder, builder.gep(bias, [ir.Constant(I64, LANES * v)]))
                for v in range(n_vectors)
            ]
            sums = sums_of(builder, first * n_rows)

            def step(k: Any) -> None:
                row = builder.gep(panel, [builder.mul(k, ir.Constant(I64, width * n_vectors))])
                places = [builder.gep(row, [ir.Constant(I64, width * v)]) for v in range(n_vectors)]
                if in_pairs:
                    weights = [lanes_at(builder, place, WORDS) for place in places]
                else:
                    weights = [numbers_at(builder, place, halves) for place in places]
                for r in range(n_rows):
                    value = spread(builder, builder.load(builder.gep(rows[r], [k])))
                    for v in range(n_vectors):
                        place = sums[r * n_vectors + v]
                        new = fused(builder, value, weights[v], builder.load(place))
                        builder.store(new, place)

            repeat(builder, args[10], step)
            for r in range(n_rows):
                for v in range(n_vectors):
                    more = builder.add(
                        builder.mul(args[9], ir.Constant(I64, r)), ir.Constant(I64, LANES * v)
                    )
                    target = at(7, builder.add(args[8], more))
                    put_lanes(builder, builder.load(sums[r * n_vectors + v]), target)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def tiles(halves: bool) -> list[Any]:
    """For 1, 2, ... MAX_ROWS rows."""
    return [_tile(n, panel_columns() // LANES, halves) for n in range(1, MAX_ROWS + 1)]

"""The few loops that must be as fast as the machine, written as LLVM vectors of 16 float32.

Columns and positions lie in the lanes, and every lane is one sum in a fixed order: what a row
gives does not depend on how many rows are computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16
UNROLL = 4
MAX_ROWS = 6  # of a tile: 24 sums and 4 vectors of weights fit AVX-512's 32 registers
F = TypeVar("F", bound=Callable[..., Any])
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VEC = ir.VectorType(F32, LANES)
HALVES = ir.VectorType(I16, LANES)
WORDS = ir.VectorType(I32, LANES)


def jit(function: F) -> F:
    """Compiled at its first call from other compiled code, without the interpreter's lock."""
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
    return cast(F, compiled(function))


def panel_columns() -> int:
    """Columns of a panel of weights: as many as leave room for six rows of sums in registers."""
    return 64 if "avx512f" in features() else 16


def features() -> frozenset[str]:
    """Of the CPU that code is made for; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES have their say."""
    from numba.core.registry import cpu_target

    codegen = cpu_target.target_context.codegen()
    words = codegen._get_host_cpu_features() if codegen._tm_features is None else ""
    words = words or codegen._tm_features
    return frozenset(word[1:] for word in words.split(",") if word.startswith("+"))


def _pointer(context: Any, builder: Any, kind: Any, value: Any, at: Any) -> Any:
    return builder.gep(make_array(kind)(context, builder, value).data, [at])


def _load(builder: Any, pointer: Any, kind: Any = VEC) -> Any:
    return builder.load(
        builder.bitcast(pointer, kind.as_pointer()), align=2 if kind == HALVES else 4
    )


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, VEC.as_pointer()), align=4)


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(VEC, ir.Undefined), scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(WORDS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VEC, ir.Undefined), zeros)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in one rounding where the CPU can, in two where it cannot: always the same."""
    kind = ir.FunctionType(VEC, [VEC, VEC, VEC])
    f = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32")
    return builder.call(f, [a, b, c])


def _weights(builder: Any, pointer: Any, halves: bool) -> Any:
    if not halves:
        return _load(builder, pointer)
    words = builder.zext(_load(builder, pointer, HALVES), WORDS)
    return builder.bitcast(builder.shl(words, ir.Constant(WORDS, [16] * LANES)), VEC)


def _sums(builder: Any, first: list[Any]) -> list[Any]:
    sums = [cgutils.alloca_once(builder, VEC) for _ in first]
    for place, value in zip(sums, first, strict=True):
        builder.store(value, place)
    return sums


def _times(builder: Any, n: Any, step: Callable[[Any], None]) -> None:
    """step(0), ..., step(n - 1), several to a turn of the loop."""
    several = ir.Constant(I64, UNROLL)
    turns = builder.sdiv(n, several)
    with cgutils.for_range(builder, turns) as loop:
        base = builder.mul(loop.index, several)
        for i in range(UNROLL):
            step(builder.add(base, ir.Constant(I64, i)))
    with cgutils.for_range_slice(builder, builder.mul(turns, several), n, ir.Constant(I64, 1)) as (
        i,
        _,
    ):
        step(i)


def _tile(n_rows: int, n_vectors: int, halves: bool) -> Any:
    """y[r, :] = bias + sum over k of x[r, k] * w[k, :], for a panel of weights and n_rows rows."""

    @intrinsic
    def tile(
        typing: Any, x: Any, xi: Any, ldx: Any, w: Any, wi: Any, b: Any, bi: Any, y: Any, yi: Any,
        ldy: Any, K: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        signature = types.void(x, i64, i64, w, i64, b, i64, y, i64, i64, i64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def at(i: int, more: Any) -> Any:
                return _pointer(context, builder, sig.args[i], args[i], more)

            rows = [
                at(0, builder.add(args[1], builder.mul(args[2], ir.Constant(I64, r))))
                for r in range(n_rows)
            ]
            panel, bias = at(3, args[4]), at(5, args[6])
            first = [
                _load(builder, builder.gep(bias, [ir.Constant(I64, LANES * v)]))
                for v in range(n_vectors)
            ]
            sums = _sums(builder, first * n_rows)

            def step(k: Any) -> None:
                row = builder.gep(panel, [builder.mul(k, ir.Constant(I64, LANES * n_vectors))])
                weights = [
                    _weights(builder, builder.gep(row, [ir.Constant(I64, LANES * v)]), halves)
                    for v in range(n_vectors)
                ]
                for r in range(n_rows):
                    value = _spread(builder, builder.load(builder.gep(rows[r], [k])))
                    for v in range(n_vectors):
                        place = sums[r * n_vectors + v]
                        new = _multiply_add(builder, value, weights[v], builder.load(place))
                        builder.store(new, place)

            _times(builder, args[10], step)
            for r in range(n_rows):
                for v in range(n_vectors):
                    more = builder.add(
                        builder.mul(args[9], ir.Constant(I64, r)), ir.Constant(I64, LANES * v)
                    )
                    target = at(7, builder.add(args[8], more))
                    _store(builder, builder.load(sums[r * n_vectors + v]), target)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def tiles(halves: bool) -> list[Any]:
    """For 1, 2, ... MAX_ROWS rows."""
    return [_tile(n, panel_columns() // LANES, halves) for n in range(1, MAX_ROWS + 1)]


def _scores(typing: Any, q: Any, qi: Any, k: Any, ki: Any, y: Any, yi: Any, D: Any) -> Any:
    """y[:16] = sum over d of q[d] * k[d, :16], in four sums by d mod 4."""
    i64 = types.int64
    signature = types.void(q, i64, k, i64, y, i64, i64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        query, keys, target = (
            _pointer(context, builder, sig.args[i], args[i], args[i + 1]) for i in (0, 2, 4)
        )
        sums = _sums(builder, [ir.Constant(VEC, [0.0] * LANES)] * UNROLL)
        turns = [0]

        def step(d: Any) -> None:
            place = sums[turns[0] % UNROLL]
            turns[0] += 1
            key = _load(builder, builder.gep(keys, [builder.mul(d, ir.Constant(I64, LANES))]))
            value = _spread(builder, builder.load(builder.gep(query, [d])))
            builder.store(_multiply_add(builder, value, key, builder.load(place)), place)

        _times(builder, args[6], step)
        a, b, c, d = (builder.load(place) for place in sums)
        _store(builder, builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), target)
        return context.get_dummy_value()

    return signature, codegen


def _mean(n_vectors: int) -> Any:
    """y[:16 n] += sum over t < n of w[t] * v[t, :16 n]."""

    @intrinsic
    def mean(
        typing: Any, w: Any, wi: Any, v: Any, vi: Any, ldv: Any, y: Any, yi: Any, n: Any
    ) -> Any:
        i64 = types.int64
        signature = types.void(w, i64, v, i64, i64, y, i64, i64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weights, values, target = (
                _pointer(context, builder, sig.args[i], args[i], args[i + 1]) for i in (0, 2, 5)
            )
            places = [builder.gep(target, [ir.Constant(I64, LANES * j)]) for j in range(n_vectors)]
            sums = _sums(builder, [_load(builder, place) for place in places])

            def step(t: Any) -> None:
                weight = _spread(builder, builder.load(builder.gep(weights, [t])))
                row = builder.gep(values, [builder.mul(t, args[4])])
                for j in range(n_vectors):
                    value = _load(builder, builder.gep(row, [ir.Constant(I64, LANES * j)]))
                    new = _multiply_add(builder, weight, value, builder.load(sums[j]))
                    builder.store(new, sums[j])

            _times(builder, args[7], step)
            for place, total in zip(places, sums, strict=True):
                _store(builder, builder.load(total), place)
            return context.get_dummy_value()

        return signature, codegen

    return mean


mean_1, mean_4 = _mean(1), _mean(4)


def _arrive(typing: Any, counter: Any) -> Any:
    """counter[0] += 1 for all threads to see; returns what it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", pointer, ir.Constant(I64, 1), "seq_cst")

    return types.int64(counter), codegen


def _seen(typing: Any, counter: Any) -> Any:
    """counter[0] as the other threads left it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(counter), codegen


scores: Any = intrinsic(_scores)
arrive: Any = intrinsic(_arrive)
seen: Any = intrinsic(_seen)

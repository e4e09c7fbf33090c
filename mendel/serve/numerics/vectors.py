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
F = TypeVar("F", bound=Callable[..., Any])
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VEC = ir.VectorType(F32, LANES)
HALVES = ir.VectorType(I16, LANES)
WORDS = ir.VectorType(I32, LANES)


def jit(function: F) -> F:
    """Compiled at its first call from other compiled code, without the interpreter's lock."""
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
    return cast(F, compiled(function))


def ordered(function: F) -> F:
    """The same, but each sum is in the order it is written in: LLVM may not choose one.

    For what has a copy for one row and another for several: they must not be ordered apart.
    """
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
    return cast(F, compiled(function))


def reducing(function: F) -> F:
    """The same for a maximum: only where no NaN need be told apart is it taken lane by lane."""
    compiled = numba.njit(nogil=True, fastmath={"nnan", "nsz", "reassoc"})
    return cast(F, compiled(function))


def target() -> tuple[str, str, str]:
    """System, CPU and its features that code is made for, as NUMBA_CPU_NAME and the like say."""
    from numba.core.registry import cpu_target

    system, cpu, words = cpu_target.target_context.codegen().magic_tuple()
    return str(system), str(cpu), str(words)


def features() -> frozenset[str]:
    """Of the CPU that code is made for."""
    return frozenset(word[1:] for word in target()[2].split(",") if word.startswith("+"))


def pointer_to(context: Any, builder: Any, kind: Any, value: Any, at: Any) -> Any:
    return builder.gep(make_array(kind)(context, builder, value).data, [at])


def lanes_at(builder: Any, pointer: Any, kind: Any = VEC) -> Any:
    return builder.load(
        builder.bitcast(pointer, kind.as_pointer()), align=2 if kind == HALVES else 4
    )


def numbers_at(builder: Any, pointer: Any, halves: bool) -> Any:
    """16 float32, or as many bf16 made float32."""
    if not halves:
        return lanes_at(builder, pointer)
    words = builder.zext(lanes_at(builder, pointer, HALVES), WORDS)
    return builder.bitcast(builder.shl(words, ir.Constant(WORDS, [16] * LANES)), VEC)


def rows_of(builder: Any, pointer: Any, stride: Any, n: int) -> list[Any]:
    return [builder.gep(pointer, [builder.mul(stride, ir.Constant(I64, r))]) for r in range(n)]


def put_lanes(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, VEC.as_pointer()), align=4)


def spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(VEC, ir.Undefined), scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(WORDS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VEC, ir.Undefined), zeros)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in one rounding where the CPU can, in two where it cannot: always the same."""
    kind = ir.FunctionType(VEC, [VEC, VEC, VEC])
    f = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32")
    return builder.call(f, [a, b, c])


def sums_of(builder: Any, first: list[Any]) -> list[Any]:
    sums = [cgutils.alloca_once(builder, VEC) for _ in first]
    for place, value in zip(sums, first, strict=True):
        builder.store(value, place)
    return sums


def repeat(builder: Any, n: Any, step: Callable[[Any], None]) -> None:
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


def _scores(n_queries: int) -> Any:
    """y[r, :16] = sum over d of q[r, d] * k[d, :16], in four sums by d mod 4; k full or bf16."""

    @intrinsic
    def scores(
        typing: Any, q: Any, qi: Any, ldq: Any, k: Any, ki: Any, y: Any, yi: Any, ldy: Any, D: Any
    ) -> Any:
        i64 = types.int64
        signature = types.void(q, i64, i64, k, i64, y, i64, i64, i64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            halves = sig.args[3].dtype == types.uint16
            query, keys, target = (
                pointer_to(context, builder, sig.args[i], args[i], args[i + 1]) for i in (0, 3, 5)
            )
            rows = rows_of(builder, query, args[2], n_queries)
            sums = sums_of(builder, [ir.Constant(VEC, [0.0] * LANES)] * (UNROLL * n_queries))
            turns = [0]

            def step(d: Any) -> None:
                first = turns[0] % UNROLL
                turns[0] += 1
                row = builder.gep(keys, [builder.mul(d, ir.Constant(I64, LANES))])
                key = numbers_at(builder, row, halves)
                for r in range(n_queries):
                    place = sums[UNROLL * r + first]
                    value = spread(builder, builder.load(builder.gep(rows[r], [d])))
                    builder.store(multiply_add(builder, value, key, builder.load(place)), place)

            repeat(builder, args[8], step)
            for r, place in enumerate(rows_of(builder, target, args[7], n_queries)):
                a, b, c, d = (builder.load(one) for one in sums[UNROLL * r : UNROLL * (r + 1)])
                put_lanes(builder, builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), place)
            return context.get_dummy_value()

        return signature, codegen

    return scores


def _mean(n_queries: int, n_vectors: int) -> Any:
    """y[r, :16 n] += sum over t < n of w[r, t] * v[t, :16 n]; v full or bf16."""

    @intrinsic
    def mean(
        typing: Any, w: Any, wi: Any, ldw: Any, v: Any, vi: Any, ldv: Any, y: Any, yi: Any,
        ldy: Any, n: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        signature = types.void(w, i64, i64, v, i64, i64, y, i64, i64, i64)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            halves = sig.args[3].dtype == types.uint16
            weight, values, target = (
                pointer_to(context, builder, sig.args[i], args[i], args[i + 1]) for i in (0, 3, 6)
            )
            weights = rows_of(builder, weight, args[2], n_queries)
            places = [
                builder.gep(row, [ir.Constant(I64, LANES * j)])
                for row in rows_of(builder, target, args[8], n_queries)
                for j in range(n_vectors)
            ]
            sums = sums_of(builder, [lanes_at(builder, place) for place in places])

            def step(t: Any) -> None:
                row = builder.gep(values, [builder.mul(t, args[5])])
                found = [
                    numbers_at(builder, builder.gep(row, [ir.Constant(I64, LANES * j)]), halves)
                    for j in range(n_vectors)
                ]
                for r in range(n_queries):
                    by = spread(builder, builder.load(builder.gep(weights[r], [t])))
                    for place, value in zip(sums[n_vectors * r :], found, strict=False):
                        new = multiply_add(builder, by, value, builder.load(place))
                        builder.store(new, place)

            repeat(builder, args[9], step)
            for place, total in zip(places, sums, strict=True):
                put_lanes(builder, builder.load(total), place)
            return context.get_dummy_value()

        return signature, codegen

    return mean


QUERIES = 4 if "avx512f" in features() else 1  # that share a page's loads, as registers allow
scores_1, scores_all = _scores(1), _scores(QUERIES)
mean_1, mean_4 = _mean(1, 1), _mean(1, 4)
mean_1_all, mean_4_all = _mean(QUERIES, 1), _mean(QUERIES, 4)


def _update(has_second: bool) -> Any:
    """S2[d, :16] = a[d] S[d, :16] + c[d] v[:16], less p[d] u[:16] where there is a second."""

    @intrinsic
    def update(
        typing: Any, S: Any, Si: Any, T: Any, Ti: Any, ld: Any, a: Any, ai: Any, astep: Any,
        c: Any, ci: Any, v: Any, vi: Any, p: Any, pi: Any, u: Any, ui: Any, D: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        signature = types.void(
            S, i64, T, i64, i64, a, i64, i64, c, i64, v, i64, p, i64, u, i64, i64
        )

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            old, new, decay, write, values, erase, erased = (
                pointer_to(context, builder, sig.args[i], args[i], args[i + 1])
                for i in (0, 2, 5, 8, 10, 12, 14)
            )
            value, gone = lanes_at(builder, values), lanes_at(builder, erased)

            def step(d: Any) -> None:
                row = builder.mul(d, args[4])
                scalar = builder.load(builder.gep(decay, [builder.mul(d, args[7])]))
                kept = builder.fmul(
                    spread(builder, scalar), lanes_at(builder, builder.gep(old, [row]))
                )
                by = spread(builder, builder.load(builder.gep(write, [d])))
                kept = multiply_add(builder, by, value, kept)
                if has_second:
                    by = builder.fneg(builder.load(builder.gep(erase, [d])))
                    kept = multiply_add(builder, spread(builder, by), gone, kept)
                put_lanes(builder, kept, builder.gep(new, [row]))

            repeat(builder, args[16], step)
            return context.get_dummy_value()

        return signature, codegen

    return update


update_1, update_2 = _update(False), _update(True)


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


arrive: Any = intrinsic(_arrive)
seen: Any = intrinsic(_seen)

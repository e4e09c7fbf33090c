"""Any batch, any length, any width, any memory layout."""

from __future__ import annotations

import torch

from mendel.audit.auditor import Auditor
from mendel.audit.subject import UNBUILT, AuditError

QUICK = (1, 2, 7, 17, 64, 65, 330)
FULL = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256,
        257, 330)  # fmt: skip
BATCHES = (1, 2, 3, 5)


def check(a: Auditor) -> None:
    _lengths(a)
    _batches(a)
    _layout(a)
    _width(a)


def _lengths(a: Auditor) -> None:
    wanted, limit = list(FULL if a.full else QUICK), a.claims.max_length
    if limit is not None:
        wanted = sorted({*(T for T in wanted if limit >= T), min(limit, 2 * max(wanted))})
    failed: dict[int, str] = {}
    for T in wanted:
        answer = a.ask(a.draw(1 if a.wide and T > 17 else 2, T, T))
        if answer.error is None:
            a.lengths.append(T)
        else:
            failed[T] = answer.error
    if not a.lengths:
        raise AuditError(f"it runs at no length of {wanted}: {failed[wanted[0]]}")
    if failed:
        T, error = next(iter(failed.items()))
        a.report(
            "shapes",
            f"it fails at {_times(failed)}, and works at {_times(a.lengths)}",
            sure=f"it raised {error}",
            cause=_why_lengths(a, list(failed)),
            reproduce=a.recipe(2, T, T, "model(x) raises"),
            failed={str(T): error for T, error in failed.items()},
        )


def _why_lengths(a: Auditor, failed: list[int]) -> str:
    worked = a.lengths
    if failed == [1]:
        return "an average, a difference or a squeeze over time that one position does not have"
    if len(worked) == 1:
        return f"a length of {worked[0]} is written into it"
    if min(failed) > max(worked):
        return (
            f"a table or a mask for {max(worked)} positions or few more; where that is meant, "
            "say so by --max-length"
        )
    for step in (2, 4, 8, 16, 32, 64, 128):
        if all(T % step for T in failed) and all(T % step == 0 for T in worked):
            return f"it needs a multiple of {step}: pad the last chunk, and cut the padding off"
    if max(failed) < min(worked):
        return f"a kernel or a chunk that needs at least {min(worked)} positions"
    return "a reshape or a chunk that these lengths do not fit"


def _batches(a: Auditor) -> None:
    T = a.short
    failed = {B: error for B in BATCHES if (error := a.ask(a.draw(B, T, B)).error) is not None}
    if failed:
        B, error = next(iter(failed.items()))
        a.alone = 1 not in failed and len(failed) > 1
        a.report(
            "shapes",
            f"it fails at batch size {', '.join(map(str, failed))}",
            sure=f"it raised {error}",
            cause="a batch size is written into it, or an axis of length 1 is squeezed away",
            reproduce=a.recipe(B, T, B, "model(x) raises"),
            failed={str(B): error for B, error in failed.items()},
        )


def _layout(a: Auditor) -> None:
    if a.spec.kind == "tokens" and not a.full:
        return
    T = a.lengths[-1]
    x = a.draw(2, T, T)
    plain, again, strided = a.ask(x), a.ask(x), a.ask(x, strided=True)
    if strided.error is not None:
        a.report(
            "shapes",
            "it fails on an input that is not contiguous in memory",
            sure=f"it raised {strided.error}",
            cause="view() where reshape() is needed",
            reproduce=a.recipe(2, T, T, "model(torch.stack((x, x), -1)[..., 0]) raises"),
        )
    elif plain.y is not None and again.y is not None and strided.y is not None:
        if not torch.equal(plain.y.nan_to_num(), again.y.nan_to_num()):
            return  # equal calls differ: `state` says so
        gap = float((plain.y - strided.y).abs().max())
        scale = float(plain.y.abs().max())
        if gap > 1e-3 * scale:  # another memory order is read, not another rounding
            a.report(
                "shapes",
                "an input that is not contiguous in memory gives another output",
                sure=f"outputs differ by {gap:.3g} of {scale:.3g}",
                cause="it reads memory in its own order (as_strided, data_ptr)",
                reproduce=a.recipe(2, T, T, "compare model(torch.stack((x, x), -1)[..., 0])"),
                gap=gap,
            )


def _width(a: Auditor) -> None:
    if a.spec.kind != "float" or not a.spec.width:
        return
    errors = {}
    for other in (a.spec.width * 2, a.spec.width * 3 // 2):
        error = a.subject.widened(other)
        if error is None:
            a.measured["widths"] = [a.spec.width, other]
            return
        errors[other] = error
    built = {width: error for width, error in errors.items() if not error.startswith(UNBUILT)}
    if not built:
        a.note(f"other widths were not tried: {next(iter(errors.values()))}")
        return
    other, error = next(iter(built.items()))
    a.report(
        "shapes",
        f"it works at width {a.spec.width} and fails at {', '.join(map(str, built))}",
        sure=f"it raised {error}",
        cause=f"{a.spec.width} is written into it where the width is meant",
        reproduce=f"build it with {other} for {a.spec.width}, and give it that width",
        error=error,
    )


def _times(lengths: dict[int, str] | list[int]) -> str:
    found = [f"T={T}" for T in lengths]
    return ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")

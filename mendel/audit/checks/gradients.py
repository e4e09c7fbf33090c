"""Gradients are finite, alive, and do not explode with length."""

from __future__ import annotations

import math

import torch

from mendel.audit.auditor import Auditor
from mendel.audit.subject import Call
from mendel.audit.training import Steps

SIZES = {"zeros": 0.0, "constant": 1.0}
TOO_STEEP = 4.0  # powers of T by which a gradient may grow; exponential growth is far above


def check(a: Auditor) -> None:
    steps = _steps(a)
    _finite(a, steps)
    _alive(a, steps["float32"])
    _special(a)
    _with_length(a)


def _steps(a: Auditor) -> dict[str, Steps]:
    T = max((T for T in a.lengths if T <= 33), default=a.lengths[0])
    return {
        dtype: a.subject.train_steps(4, T, dtype, 3, a.seed) for dtype in ("float32", "bfloat16")
    }


def _finite(a: Auditor, steps: dict[str, Steps]) -> None:
    for dtype, found in steps.items():
        if found.error is not None:
            if dtype == "float32":
                _fails(a, found.error)
                return
            a.notes.append(f"bfloat16: it does not run ({found.error})")
            continue
        wrong = [name for name, size in found.largest.items() if not math.isfinite(size)]
        if wrong or not all(map(math.isfinite, found.losses)):
            _not_finite(a, dtype, found, wrong)
            return


def _not_finite(a: Auditor, dtype: str, found: Steps, wrong: list[str]) -> None:
    forward = not math.isfinite(found.losses[0])  # before any gradient: the numbers' own fault
    what = "the output already" if forward else ", ".join(wrong[:4]) or "the loss"
    a.report(
        "numerics" if forward else "gradients",
        f"NaN or infinity in {dtype} after at most 3 steps: {what}",
        sure=f"losses {[f'{loss:.3g}' for loss in found.losses]} on standard normal inputs",
        cause="overflow or underflow: a constant too large for the type, an exponential, a "
        "division by what is rounded to 0",
        reproduce=_how(a, dtype),
        parameters=wrong,
    )


def _how(a: Auditor, dtype: str) -> str:
    return (
        f"4 rows, seed {a.seed}, {dtype}, train mode, mean squared error to standard normals, "
        "3 steps of -1e-3 * gradient.sign()"
    )


def _fails(a: Auditor, error: str) -> None:
    a.report(
        "gradients",
        "a training step raises",
        sure=f"it raised {error}",
        cause="an in-place change of something that the gradient needs, or no gradient at all",
        reproduce=_how(a, "float32"),
    )


def _alive(a: Auditor, steps: Steps) -> None:
    if steps.error is not None:
        return
    dead = {name for name, size in steps.largest.items() if size == 0}
    if dead:  # an expert that few tokens reach, a memory that only long texts use
        again = a.subject.train_steps(16, a.lengths[-1], "float32", 3, a.seed + 1)
        dead &= {name for name, size in again.largest.items() if size == 0}
    if dead:
        a.report(
            "gradients",
            f"no gradient ever reaches {', '.join(sorted(dead)[:4])}",
            sure="exactly 0 or none, four times on 4 rows and four times on 16 rows of the longest "
            "length, all outputs in the loss; weights moved in between, so a gate at 0 had opened",
            cause="never used, detached, multiplied by 0, or behind a function that is flat",
            reproduce=_how(a, "float32"),
            parameters=sorted(dead),
        )


def _special(a: Auditor) -> None:
    """Where derivatives of square roots, norms and quotients are infinite."""
    if a.spec.kind == "tokens" or a.found("gradients"):
        return
    T = a.short
    base = a.draw(2, T, 5)
    for name, size in SIZES.items():
        x = torch.full_like(base, size)
        answer = a.subject.calls(
            [Call(x, cotangent=torch.ones((), dtype=torch.float64))], "float32"
        )[0]
        if answer.gradient is None or answer.y is None or not answer.y.isfinite().all():
            continue  # numerics says so
        if not answer.gradient.isfinite().all():
            a.report(
                "gradients",
                f"on {name} the output is finite and the gradient is not",
                sure="float32, the gradient of the sum of all outputs",
                cause="the derivative of sqrt, norm, log or a power at 0: add an epsilon inside",
                reproduce=f"x = torch.full((2, {T}, ...), {size}); model(x).sum().backward()",
            )
            return


def _with_length(a: Auditor) -> None:
    lengths = a.fits(17, 65, 330)
    if len(lengths) < 3 or a.found("gradients") or a.alone:
        return
    sizes: dict[int, float] = {}
    for T in lengths:
        x = a.draw(2, T, 800)
        y = a.ask(x).y
        if y is None or not y.isfinite().all():
            return  # numerics says so
        last = torch.zeros(y.shape, dtype=torch.float64)
        last[:, -1] = 1.0
        gradient = a.ask(x, cotangent=last).gradient
        if gradient is None:
            return
        sizes[T] = float(gradient.abs().max())
    _judge(a, sizes)


def _judge(a: Auditor, sizes: dict[int, float]) -> None:
    a.measured["gradient_of_last_output"] = {str(T): size for T, size in sizes.items()}
    T, late = list(sizes), list(sizes.values())
    powers = [
        math.log(max(late[i + 1], 1e-300) / max(late[i], 1e-300)) / math.log(T[i + 1] / T[i])
        for i in range(len(T) - 1)
    ]
    if not all(map(math.isfinite, late)) or (powers[-1] > TOO_STEEP and late[-1] > 1e3 * late[0]):
        a.report(
            "gradients",
            f"the gradient of the last output explodes: {late[0]:.3g} at T={T[0]}, {late[-1]:.3g} "
            f"at T={T[-1]}",
            sure=f"it grows like T^{powers[-1]:.1f} and faster with each length ({a.dtype})",
            cause="a recurrence whose decay exceeds 1, or a product over time",
            reproduce=a.recipe(2, T[-1], 800, "the gradient of the sum of the last outputs"),
            sizes=a.measured["gradient_of_last_output"],
        )

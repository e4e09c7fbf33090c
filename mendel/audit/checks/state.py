"""A forward in eval mode leaves nothing behind, draws nothing, and spares its input."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mendel.audit.auditor import Auditor
from mendel.audit.subject import Answer, Call

LATER = (1e3, 1e6)  # what a counter might reach


def check(a: Auditor) -> None:
    short, long = _two_lengths(a)
    x, other = a.draw(2, short, 1), a.draw(3, long, 2)
    calls = [Call(x), Call(x), Call(other), Call(x), Call(x, seed=1)]
    calls = [replace(call, watch=True) for call in calls]
    first, again, _, after, reseeded = a.subject.calls(calls, a.dtype)
    _input(a, first, short)
    if _differ(first, again):
        _advances(a, x, first, again, "the same input twice")
    elif _beyond_rounding(a, x, first, after):
        _advances(a, x, first, after, f"the same input after another one of length {long}")
    elif _differ(after, reseeded):  # of the same history
        _random(a, after, reseeded, short)
    else:
        _quiet(a, x, first, again, long)
    _order(a, x, other)
    a.settled = not (a.found("state") or first.changed or again.changed or after.changed)


def _two_lengths(a: Auditor) -> tuple[int, int]:
    short = a.short
    return short, min((T for T in a.lengths if short < T), default=short)


def _beyond_rounding(a: Auditor, x: Tensor, one: Answer, two: Answer) -> bool:
    """After another history a sound module may round differently, as with a longer FFT."""
    if one.y is None or two.y is None or not _differ(one, two):
        return _differ(one, two)
    return a.apart(one.y, two.y, lambda: [a.noise(x)], broken=True) is not None


def _differ(one: Answer, two: Answer) -> bool:
    """Any bit: the same call of the same copy has nothing to round differently."""
    if one.y is None or two.y is None:
        return one.error != two.error
    return not torch.equal(one.y.nan_to_num(), two.y.nan_to_num())


def _gap(one: Answer, two: Answer) -> str:
    if one.y is None or two.y is None:
        return f"one of the calls raised {one.error or two.error}"
    return f"outputs differ by {float((one.y - two.y).abs().max()):.3g}"


def _advances(a: Auditor, x: Tensor, first: Answer, later: Answer, when: str) -> None:
    fresh = a.ask(x)
    reset = not _differ(first, fresh)
    names = ", ".join(later.changed[:4]) or ", ".join(first.changed[:4])
    if not reset:
        a.unstable = True
    if names:
        cause = f"forward writes to {names}"
    elif reset:
        cause = "something that belongs to the copy: an attribute that is no tensor or number"
    else:
        cause = "numbers drawn past the seed (os.urandom, time), or a global variable or closure"
    a.report(
        "state",
        f"a forward in eval mode changes a later one: {when} gives another output",
        sure=f"seeds set alike before each call; {_gap(first, later)}, where equality is exact",
        cause=cause,
        reproduce=a.recipe(len(x), x.shape[1], 1, "call it on x, and again; compare"),
        changed=list(later.changed),
        reset_by_a_fresh_copy=reset,
    )


def _random(a: Auditor, first: Answer, reseeded: Answer, T: int) -> None:
    a.noisy = True
    a.report(
        "state",
        "it draws random numbers in eval mode: another seed gives another output",
        sure=f"{_gap(first, reseeded)}; with the same seed they are equal",
        cause="noise or dropout that does not look at self.training",
        reproduce=a.recipe(
            2, T, 1, "torch.manual_seed(0); model(x); torch.manual_seed(1); model(x)"
        ),
    )


def _input(a: Auditor, first: Answer, T: int) -> None:
    if first.wrote_input:
        a.report(
            "state",
            "it writes into its input",
            sure="the tensor that was given differs after the call",
            cause="an in-place operation (add_, mul_, x[...] = ) on the input",
            reproduce=a.recipe(2, T, 1, "kept = x.clone(); model(x); compare x and kept"),
        )


def _quiet(a: Auditor, x: Tensor, first: Answer, again: Answer, long: int) -> None:
    """Nothing shows yet: what of that which moves would show later?"""
    names = sorted(again.numbers)  # what the second of two equal calls moves counts calls
    for name in names:
        for value in LATER:
            late = a.ask(x, bump={name: value})
            if late.error is None and _differ(first, late):
                a.report(
                    "state",
                    f"forwards in eval mode count in {name}, and the output depends on it later",
                    sure=f"with {name} set to {value:g}, {_gap(first, late)}",
                    cause=f"a schedule or a step counter in {name}",
                    reproduce=a.recipe(len(x), x.shape[1], 1, f"set {name} to {value:g}; compare"),
                    changed=names,
                )
                return
    if first.moved_random:
        a.report(
            "state",
            "a forward in eval mode moves the global random generator",
            sure="its state differs after the call, though the output does not depend on the seed",
            cause="torch.manual_seed, or numbers drawn and not used",
            reproduce=a.recipe(2, x.shape[1], 1, "compare torch.get_rng_state() before and after"),
        )
    elif first.changed or again.changed:
        moved = ", ".join(sorted({*first.changed, *again.changed})[:4])
        a.notes.append(f"a forward changes {moved}; no output was seen to depend on it")


def _order(a: Auditor, x: Tensor, other: Tensor) -> None:
    """Long before short, train before eval: a cache of the first call must not serve the second."""
    if a.found("state"):
        return
    plain = a.ask(x)
    for calls, when in (
        ([Call(other), Call(x)], f"a call of length {other.shape[1]} and batch {len(other)}"),
        ([Call(x[:1]), Call(x)], "a call with one row"),
        ([Call(other[:2, :1]), Call(x[:, :1])], "a call of length 1"),
        ([Call(x, cotangent=torch.ones(())), Call(x)], "a call with gradients"),
    ):
        after = a.subject.calls(calls, a.dtype)[-1]
        alone = plain if len(calls[-1].x[0]) == len(x[0]) else a.ask(calls[-1].x)
        if _beyond_rounding(a, calls[-1].x, alone, after):
            a.report(
                "state",
                f"what came before shows: after {when} the output is another one",
                sure=_gap(alone, after),
                cause=f"forward keeps {', '.join(after.changed[:4]) or 'something'} of that call",
                reproduce=a.recipe(len(x), x.shape[1], 1, f"make {when} first; compare"),
            )
            return

"""FLOPs, memory and time grow with length as claimed."""

from __future__ import annotations

import math

from mendel.audit.auditor import Auditor, CallFailed
from mendel.audit.measures import Cost
from mendel.audit.subject import AuditError

LINEAR = 1.25  # T log T between 512 and 2,048 is 1.13; a chunk that is not full adds some
QUICK, FULL = (128, 256, 512), (512, 1024, 2048)
CONFIRM, FARTHER = (256, 512, 1024), (1024, 2048, 4096)  # before anybody is accused
MANY_CALLS = 64  # of operators at T=32: a loop over time


def check(a: Auditor) -> None:
    costs = _costs(a)
    if len(costs) < 3:
        if a.claims.linear:
            raise CallFailed("it claims to be linear, and its cost could not be counted")
        a.skip("cost", "too few lengths that it can take")
        return
    powers = _powers(costs)
    a.measured["cost_lengths"] = [c.T for c in costs]
    a.measured["powers"] = {name: round(p, 3) for name, p in powers.items() if p is not None}
    a.measured["flops_per_token"] = costs[-1].flops / costs[-1].T
    if all(c.seconds is not None for c in costs):
        a.measured["seconds"] = {str(c.T): c.seconds for c in costs}
        a.measured["power_of_time"] = _power([int(1e9 * (c.seconds or 0)) for c in costs])
    if a.claims.linear:
        _claim(a, powers, costs)


def _costs(a: Auditor) -> list[Cost]:
    longest = a.claims.max_length or math.inf
    wanted = [T for T in (FULL if a.full else QUICK) if longest >= T]
    if len(wanted) < 3 and longest >= 32:
        wanted = [int(longest) // 4, int(longest) // 2, int(longest)]
    if len(wanted) == 3 and not a.full:
        first = _cost(a, [wanted[0] // 4])
        if first and first[0].n_calls > MANY_CALLS:
            wanted = [T // 8 for T in wanted]
    return _cost(a, wanted)


def _cost(a: Auditor, lengths: list[int]) -> list[Cost]:
    found = []
    for T in lengths:
        try:
            found.append(a.subject.cost(T, repeats=_repeats(a)))
        except AuditError as error:  # a length that it cannot take: `shapes` says why
            a.notes.append(f"cost at T={T}: {error}")
            break
    return found


def _repeats(a: Auditor) -> int:
    return 0 if not a.full else 1 if a.wide else 3


def _power(values: list[int]) -> float | None:
    """The power of T by which the increments of three doublings grow: fixed costs drop out."""
    low, high = values[1] - values[0], values[2] - values[1]
    return math.log2(high / low) if low > 0 and high > 0 else None


def _claim(a: Auditor, powers: dict[str, float | None], costs: list[Cost]) -> None:
    if not _steeper(powers):
        return
    limit = a.claims.max_length or math.inf
    longer = [T for T in (CONFIRM if CONFIRM[0] > costs[0].T else FARTHER) if limit >= T]
    again = _cost(a, longer) if len(longer) == 3 else []  # what is fixed or padded drops out
    costs = again if len(again) == 3 else costs
    wrong = _steeper(_powers(costs))
    if not wrong:
        return
    words = {"flops": "FLOPs", "touched": "numbers touched", "memory": "memory"}
    told = ", ".join(f"{words[name]} like T^{power:.2f}" for name, power in wrong.items())
    a.report(
        "cost",
        f"it claims to be linear, and grows otherwise: {told}",
        sure=f"counted, not timed, at T={', '.join(str(c.T) for c in costs)}",
        cause="a T x T matrix of scores or masks, or a loop over prefixes",
        reproduce=f"one row of {costs[-1].T}, float32",
        powers=wrong,
    )


def _powers(costs: list[Cost]) -> dict[str, float | None]:
    return {
        "flops": _power([c.flops for c in costs]),
        "touched": _power([c.touched for c in costs]),
        "memory": _power([c.peak_bytes for c in costs]),
    }


def _steeper(powers: dict[str, float | None]) -> dict[str, float]:
    return {name: p for name, p in powers.items() if p is not None and p > LINEAR}

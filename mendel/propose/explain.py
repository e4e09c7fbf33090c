"""What a run starts from and why, in a few lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from mendel.propose.evidence import Past
from mendel.propose.order import Expected
from mendel.propose.relative import Relative

COLD = "Nothing like this task is in the ledger: the ladder in its own order."
N_NAMED = 3  # earlier tasks


def explained(
    near: Sequence[tuple[float, Past]],
    found: Sequence[Expected],
    mutations: Sequence[tuple[str, float]],
) -> tuple[str, ...]:
    """Which tasks are like it, what it starts from, what comes before and what last.

    near        earlier runs by likeness
    found       what is expected, in the order of trying
    mutations   and what they gained, the best first
    """
    opener, first = found[0], found[1] if len(found) > 1 else found[0]
    late = [named(e.recipe) for e in found if e.when == "last"]
    last = f" Last, known losers: {', '.join(late)}." if late else ""
    begin = f"First of all, so that something can ship: {named(opener.recipe)}.{last}"
    changes = [f"{name} ({gain:+.1%})" for name, gain in mutations[:N_NAMED] if gain > 0]
    if changes:
        begin += f" Changes to what leads that mended most errors: {', '.join(changes)}."
    return (_tasks(near), f"Starts from {named(first.recipe)}: {_evidence(first)}", begin)


def why(e: Expected) -> str:
    """What the ladder's table says of a recipe."""
    if not e.seen:
        return f"{e.why}; not tried on tasks like this"
    _, past, tried = e.seen[0]
    return f"{e.why}; {100 * tried.points:+.1f} points beside linear on {past.traits.name!r}"


def named(recipe: Relative) -> str:
    """The family and what sets it apart: dual (copies 2, dim 48)."""
    fields = ", ".join(
        f"{name} x {value:g}" if name == "epochs" else f"{name} {value}"
        for name, value in recipe.items()
        if name != "family"
    )
    return f"{recipe['family']} ({fields})" if fields else str(recipe["family"])


def _tasks(near: Sequence[tuple[float, Past]]) -> str:
    told = [
        f"{past.traits.name!r} ({past.traits.n_rows:,} rows, {past.traits.n_labels} outputs, "
        f"likeness {likeness:.2f})"
        for likeness, past in near[:N_NAMED]
    ]
    more = f" and {len(near) - N_NAMED} more" if len(near) > N_NAMED else ""
    runs = "run" if len(near) == 1 else "runs"
    return f"{len(near)} earlier {runs} on tasks like it: {', '.join(told)}{more}."


def _evidence(e: Expected) -> str:
    """Where it was tried, and what is expected of it here."""
    expected = f"it is expected to mend {e.gain:.0%} of the linear model's errors"
    if e.gain <= 0:
        expected = "no recipe is expected to mend errors of the linear model"
    pace = f"in {e.seconds:.0f} s a round."
    if not e.seen:
        return f"not tried there; by others of its family {expected}, {pace}"
    led = sum(tried is max(past.tried, key=lambda t: t.gain) for _, past, tried in e.seen)
    _, past, tried = e.seen[0]
    return (
        f"tried in {len(e.seen)} of them, the best of {led} ({past.traits.name!r}: "
        f"{100 * tried.points:+.1f} points beside linear, {tried.seconds:.0f} s a round); "
        f"{expected}, {pace}"
    )

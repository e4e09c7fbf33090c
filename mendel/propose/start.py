"""Where a run starts and why, as it is kept with the run: workers and --resume read it there."""

from __future__ import annotations

from collections.abc import Sequence

from mendel.kinds import KINDS
from mendel.propose.evidence import Past
from mendel.propose.explain import COLD, explained, why
from mendel.propose.order import When, alike, changes, ordered
from mendel.propose.traits import Traits
from mendel.spec import Spec


class Step(Spec):
    """One recipe to try.

    recipe    what sets it apart from the starting point of the task
    gain      share of the linear model's errors that it is expected to mend; below 0 it adds
    seconds   expected of one round
    n_seen    earlier runs that tried it
    when      first: it is expected to gain, or lets something ship early; last: a known loser
    """

    recipe: dict[str, int | float | str]
    why: str
    gain: float
    seconds: float
    n_seen: int
    when: When


class Start(Spec):
    """The order in which a run tries what it knows of; without steps the ladder's own.

    mutations   by name, those that gained elsewhere, the best first; they are tried on what leads
                after the first steps, and all others after the second ones
    why         in a few lines, for people
    """

    steps: tuple[Step, ...] = ()
    mutations: tuple[str, ...] = ()
    why: tuple[str, ...] = (COLD,)


def start_from(traits: Traits, earlier: Sequence[Past], looking_s: float) -> Start:
    """What earlier runs advise; nothing where none of them was on a task like this.

    looking_s   seconds for training, before what is kept for the end
    """
    near = alike(traits, earlier)
    if not near:
        return Start()
    found = ordered(traits, near, looking_s)
    steps = tuple(
        Step(
            recipe=dict(e.recipe),
            why=why(e),
            gain=round(e.gain, 4),
            seconds=round(e.seconds, 2),
            n_seen=len(e.seen),
            when=e.when,
        )
        for e in found
    )
    mutations = changes(KINDS[traits.kind].builder, near)
    return Start(
        steps=steps,
        mutations=tuple(name for name, gain in mutations if gain > 0),
        why=explained(near, found, mutations),
    )

"""Operators compete: those whose trials gain are drawn more often.

Thompson sampling on the share of trials that gain; what happened long ago counts for less, since
what helps a weak design need not help a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mendel.propose.spaces import Rng

FADING = 0.98  # of what is remembered, a trial later: about the last 50 count
FIRST = (1.0, 2.0)  # gains and losses that each operator starts with


class Bandit:
    """A function of what it was told, in the order of telling.

    arms   names of the operators
    """

    def __init__(self, arms: Sequence[str]) -> None:
        self.told = {arm: (0.0, 0.0) for arm in arms}

    def learn(self, arm: str, gained: bool) -> None:
        """Of an operator that is not known nothing is learned."""
        if arm not in self.told:
            return
        faded = {a: (won * FADING, lost * FADING) for a, (won, lost) in self.told.items()}
        won, lost = faded[arm]
        faded[arm] = (won + gained, lost + (not gained))
        self.told = faded

    def draw(self, rng: Rng) -> dict[str, float]:
        """For each operator a share of trials that may gain, drawn from what is believed of it."""
        return {
            arm: float(rng.beta(FIRST[0] + won, FIRST[1] + lost))
            for arm, (won, lost) in self.told.items()
        }

    def mean(self, arm: str) -> float:
        won, lost = self.told[arm]
        return (FIRST[0] + won) / (sum(FIRST) + won + lost)

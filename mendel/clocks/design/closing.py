"""How long the end of a run will take: what must be left of its budget when looking stops.

fits on all rows + readying + answers that the end asks for + processes that it starts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendel.clocks.design.behaviour import N_TEXTS
from mendel.clocks.design.ladder import Standing, finalists
from mendel.clocks.design.run import RunSpec
from mendel.emit.project import explains
from mendel.emit.runtime import answers_of
from mendel.kinds import KINDS, Shape, recipe_of
from mendel.train.folds import Rows

MOST = 2_000  # texts of a group of `changes`, which the model before answers too
N_WAYS = 13  # in which behaviour.py asks each text
TIMED = 2.5  # answers of benchmark.py for each of its runs: warm, cold and in batches
RUNS = 2_000  # of benchmark.py
START_S = 1.0  # of a worker, as long as none has said what it took
STARTS = 5.5  # choosing, processes, slices and the report take so many times as long
STARTS_BESIDE = 1.5  # more where there is a model before
CHOOSING_S_A_ROW = 4e-4
MOST_TO_CLOSE = 0.6  # of a budget: better a little late than without anything tried
USUAL_MS = 0.3  # of an answer, as long as none was timed


@dataclass(frozen=True)
class Ending:
    """What the end of a run has to do, besides fits."""

    n_sealed: int
    n_compared: int = 0  # texts that are answered because there is a model before
    goes_on: bool = False  # there is one

    @classmethod
    def of(cls, spec: RunSpec, rows: Rows) -> Ending:
        if spec.after is None:
            return cls(spec.n_sealed)
        n_added = 0 if rows.added is None else int(rows.added.sum())
        both = min(n_added, MOST) + min(len(rows.inputs.unlabeled), MOST)
        return cls(spec.n_sealed, spec.n_sealed + 2 * both, True)

    def n_answers(self, kind: str) -> int:
        """Of the benchmark, the opening, the texts written otherwise, and the comparison."""
        timed = TIMED * min(RUNS, getattr(answers_of(kind), "RUNS", RUNS))
        otherwise = N_WAYS * min(self.n_sealed, N_TEXTS) if explains(kind) else 0
        return round(timed) + self.n_sealed + otherwise + self.n_compared


def closing_s(shape: Shape, found: Sequence[Standing], ending: Ending) -> float:
    """Seconds to keep for the end, on a machine as busy as the rounds have found it."""
    turns = [turn for s in found for turn in s.turns]
    facts = [turn.result.facts for turn in turns]
    more = KINDS[shape.kind].builder.refit(shape)
    readying = max((f.get("readying_s", 0.0) for f in facts), default=0.0)  # who came first waited
    start = max((f.get("starting_s", 0.0) for f in facts), default=0.0) or START_S
    starts = STARTS + STARTS_BESIDE * ending.goes_on
    choosing = CHOOSING_S_A_ROW * shape.n_rows * start / START_S
    answers = ending.n_answers(shape.kind) * _answer_s(found)
    return _fits_s(shape, found) * more + readying * more + starts * start + choosing + answers


def _fits_s(shape: Shape, found: Sequence[Standing]) -> float:
    """One of what may ship, and the rival's."""
    maker = KINDS[shape.kind].builder
    final = max((s.seconds for s in finalists(found)), default=0.0)
    linear = [s.seconds for s in found if recipe_of(s.spec).family == "linear"]
    guessed = [
        maker.guess_s(recipe, shape)
        for recipe, _ in maker.rungs(shape)
        if recipe.family == "linear"
    ]
    return final + maker.rival * max(linear or guessed, default=0.0)


def _answer_s(found: Sequence[Standing]) -> float:
    """Of what may ship the slowest."""
    timed = [s.turns[0].result.facts.get("float32", {}) for s in finalists(found)]
    return max((f.get("latency_ms", USUAL_MS) for f in timed), default=USUAL_MS) / 1e3

"""Is a mechanism found again that nobody told the search of?

It is taken out of the menu, of the notes and of the start; all that is judged by is parity, which
needs it. Training, race, judge and ledger are the real ones.
Found: a design that has it, that the judge kept, and that answers parity at 112 to 128 tokens with
an accuracy of .9, trained on 32 at most. A trial counts from the first design of the menu on.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from mendel.clocks.research.clock import ResearchClock, recipe_of, trials_of
from mendel.clocks.research.request import START
from mendel.clocks.research.run import ProposerName, Run, RunSpec
from mendel.clocks.research.suite import Leg, Suites, normalised
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.parts.part import parse_fields, resolve
from mendel.propose.matching import caps_of
from mendel.propose.menu import Named, designs
from mendel.propose.notes import notes
from mendel.propose.recipes import Problem
from mendel.propose.spelling import canonical
from mendel.spec import PartSpec, Recipe
from mendel.types import Turn
from research_sections.rows import Row, Rows

ACCURACY = 0.9
PROPOSERS: tuple[ProposerName, ...] = ("builtin", "random")
WANTED = 3  # of five seeds
PARTS = {"n_heads": 2, "key_norm": True, "write": "beta", "conv": 4}


class Alone(Suites):
    """One proxy of the states suite, where the learning rate is swept as well."""

    only: str = "parity"

    def _legs(self, order: Sequence[str]) -> tuple[Leg, ...]:
        legs = super()._legs([name for name in order if name == self.only])
        return tuple(replace(leg, swept=True) for leg in legs)


@dataclass(frozen=True)
class Mechanism:
    """What is hidden: which fields of a recurrence have it, and what notes say of it."""

    has: Callable[[Mapping[str, Any]], bool]
    said: tuple[str, ...]

    def is_in(self, recipe: Recipe) -> bool:
        return any(self.has(fields) for fields in _recurrences(recipe))


def _turns_signs(fields: Mapping[str, Any]) -> bool:
    """Can a step turn the sign of what is stored? 1 - b |k|^2 does where b is above 1 or k longer
    than 1, a - g of the removal key where a decay a is below its gate g."""
    if fields["erase"] != "delta":
        return fields["erase"] == "key" and fields["decay"] != "none"
    above_1 = fields["write"] == "dt" or (fields["write"] == "beta" and fields["beta_max"] > 1)
    return above_1 or not fields["key_norm"]


MECHANISMS = {
    "erase": Mechanism(lambda fields: fields["erase"] != "none", ("mixers.erase",)),
    "signs": Mechanism(_turns_signs, ("mixers.beta_max",)),
}


def _recurrences(recipe: Recipe) -> Iterator[Mapping[str, Any]]:
    for part in recipe.model.mixers:
        cls, given = resolve("mixer", part)
        if cls.name == "recurrence":
            yield parse_fields(cls, part.part, given).to_dict()


def start() -> Recipe:
    """DeltaNet without its erase term, two changes from what solves parity: erase, b up to 2."""
    part = PartSpec(part="recurrence", fields=PARTS)
    model = START.model.model_copy(update={"mixers": (part,)})
    return canonical(START.model_copy(update={"model": model}))


class Hidden(ResearchClock):
    """The research clock, on a menu and with notes that know nothing of a mechanism."""

    def __init__(self, run: Run, ledger: Ledger, mechanism: Mechanism) -> None:
        super().__init__(run, ledger)
        self.mechanism = mechanism

    @cached_property
    def menu(self) -> tuple[Named, ...]:
        found = designs(self.run.spec.caps, self.run.spec.start)
        return tuple(each for each in found if not self.mechanism.is_in(each.recipe))

    @property
    def problem(self) -> Problem:
        spec = self.run.spec
        told = notes(without=self.mechanism.said)
        return Problem(spec.caps, spec.start, self.menu, told, spec.seed, self.line.task)


def rediscovery(options: argparse.Namespace) -> dict[str, Any]:
    """Trials until found, of --runs seeds and both proposers; --folder keeps what is unfinished."""
    asked = {"mechanism": options.mechanism, "trials": options.trials, "share": options.share}
    rows = Rows(options.rows, {"section": "rediscovery", **asked})
    found: dict[str, list[Row]] = {name: [] for name in PROPOSERS}
    with _folder(options.folder) as folder:
        for seed in range(options.runs):
            for name in PROPOSERS:
                row = rows.get(f"{name} {seed}", lambda n=name, s=seed: search(folder, n, s, asked))
                found[name].append(row)
                print(name, seed, row, flush=True)
    return {**asked, **compared(found)}


def search(folder: Path, proposer: ProposerName, seed: int, asked: Mapping[str, Any]) -> Row:
    """One line until it is found, or all trials are used up; goes on where it was killed."""
    name = f"{asked['mechanism']}-{proposer}-{seed}-{asked['share']:g}"
    own = folder / name
    ledger = Ledger(f"sqlite:///{own / 'ledger.db'}", _made(own))
    try:
        clock = Hidden(_run(ledger, name, proposer, seed, asked), ledger, _mechanism(asked))
        assert not clock.mechanism.is_in(clock.run.spec.start)
        driver = Driver(clock, ledger)
        driver.start()
        driver.release(forgive=True)
        while (row := told(clock)) is None:
            if driver.turn() is None:
                return {**counted(clock), "found": None}
            turn = ledger.turns(clock.line, limit=1)[-1]
            words = f"{turn.candidate.motivation[:60]} | {turn.verdict.reason}"
            print(f"{name}: {len(trials_of(ledger.turns(clock.line)))} {words}", flush=True)
        return row
    finally:
        ledger.close()


def told(clock: Hidden) -> Row | None:
    """The number of the trial that found it; None: not yet."""
    turns = clock.ledger.turns(clock.line)
    order = [turn.trial for turn in trials_of(turns)]
    for turn in turns:
        if turn.trial and is_found(turn, turns, clock.mechanism, clock.run.spec.suites):
            won = {"turn": turn.id, "motivation": turn.candidate.motivation}
            score = statistics.fmean(turn.result.scores)
            return {
                **counted(clock), "found": 1 + order.index(turn.trial), **won,
                "mixers": turn.candidate.state["model"]["mixers"], "score": round(score, 4),
            }  # fmt: skip
    return None


def is_found(turn: Turn, turns: Sequence[Turn], mechanism: Mechanism, suites: Suites) -> bool:
    """Kept on fresh pairs, of which the mean over all rounds is as high as asked."""
    if not turn.verdict.keep or turn.verdict.level is None:
        return False
    fresh = [t for t in turns if t.trial == turn.trial and t.round and t.id <= turn.id]
    scores = [score for each in fresh for score in each.result.scores]
    good = normalised(suites.whole[0].proxy, ACCURACY)
    return mechanism.is_in(recipe_of(turn.candidate)) and statistics.fmean(scores) >= good


def counted(clock: Hidden) -> Row:
    turns = clock.ledger.turns(clock.line)
    trials = trials_of(turns)
    had = [t for t in trials if clock.mechanism.is_in(recipe_of(t.candidate))]
    return {
        "trials": len(trials),
        "menu": len(clock.menu),
        "had it": len(had),
        "failed": sum(turn.result.error is not None for turn in trials),
        "core hours": round(sum(turn.result.cost.seconds for turn in turns) / 3600, 3),
    }


def compared(found: Mapping[str, Sequence[Row]]) -> Row:
    """In how many seeds, and sooner than random? What was not found counts as later than all."""
    late = {name: [row["found"] or float("inf") for row in rows] for name, rows in found.items()}
    mine, its = late["builtin"], late["random"]
    hits = sum(n < float("inf") for n in mine)
    median = {name: statistics.median(each) for name, each in late.items()}
    return {
        "runs": {name: list(rows) for name, rows in found.items()},
        "found": {
            name: sum(row["found"] is not None for row in rows) for name, rows in found.items()
        },
        "median trials": {n: None if m == float("inf") else m for n, m in median.items()},
        "seeds sooner than random": sum(a < b for a, b in zip(mine, its, strict=True)),
        "reached": hits >= WANTED and median["builtin"] < median["random"],
    }


def _run(
    ledger: Ledger, name: str, proposer: ProposerName, seed: int, asked: Mapping[str, Any]
) -> Run:
    """What was asked follows from the name, so a folder that is there is gone on with."""
    assert proposer in get_args(ProposerName)
    suites, first = Alone(names=("states",), share=asked["share"]), start()
    caps = caps_of(first, suites.vocab, suites.n_tokens)
    spec = RunSpec(
        id=name, suites=suites, caps=caps, start=first, menu=designs(caps, first),
        given=False, proposer=proposer, seed=seed, trials=asked["trials"], n_workers=1,
        command="benchmarks/research.py rediscovery", started=0.0,
    )  # fmt: skip
    folder = ledger.folder / "research" / name
    return Run(folder, spec) if (folder / "run.json").exists() else Run.create(ledger, spec)


def _mechanism(asked: Mapping[str, Any]) -> Mechanism:
    return MECHANISMS[asked["mechanism"]]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Where runs, audits and no discoveries of the user's are."""
    with TemporaryDirectory() as made:
        folder = _made((given or Path(made)).resolve())
        before = os.environ.get("MENDEL_HOME")
        os.environ["MENDEL_HOME"] = str(folder)
        try:
            yield folder
        finally:
            del os.environ["MENDEL_HOME"]
            if before is not None:
                os.environ["MENDEL_HOME"] = before


SECTIONS = {"rediscovery": rediscovery}

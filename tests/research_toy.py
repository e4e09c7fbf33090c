"""A research line small enough to test: a real clock, driver, ledger and judge on a formula.

The formula stands for training: a recipe's score is its weight decay plus noise, so a test plants
a gain by a field, and its menu is empty unless it says otherwise.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mendel.audit import check_spec
from mendel.clocks.research import bench
from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.request import START
from mendel.clocks.research.run import Run, RunSpec
from mendel.clocks.research.suite import Suites
from mendel.data.proxies import AnyProxy
from mendel.ledger import Ledger, home
from mendel.propose.matching import Caps, caps_of
from mendel.propose.novelty import canonical
from mendel.spec import Recipe
from mendel.types import Candidate, Turn, digest

SUITES = Suites(names=("recall", "states"))
NOISE = 0.0025
FLOOR = 0.4
IDS = itertools.count()  # the same seeds in each run of the tests


def recipe(gain: float = 0.0, number: int = 0) -> Recipe:
    """A recipe that scores `gain` above the start; others of the same gain by their number."""
    start = canonical(START)
    train = start.train.model_copy(update={"weight_decay": gain, "eps": 1e-8 * (1 + number)})
    return start.model_copy(update={"train": train})


def formula(recipe: Recipe, proxy: AnyProxy, seed: int) -> float:
    rng = np.random.default_rng(int(digest([recipe.hash, proxy.name, seed])[:12], 16))
    return FLOOR + recipe.train.weight_decay + NOISE * float(rng.normal())


def by_formula(
    score: Callable[[Recipe, AnyProxy, int], float] = formula,
) -> Callable[..., Measured]:
    def measure(recipe: Recipe, factor: float, proxy: AnyProxy, seed: int, asked: int) -> Measured:
        return Measured(
            factor=factor, score=score(recipe, proxy, seed), n_steps=3, curve=((3, 1.0),)
        )

    return measure


class Listed:
    """Proposes what it was given, in order."""

    def __init__(self, *recipes: Recipe) -> None:
        self.candidates = [
            Candidate(each.to_dict(), f"mutate: {i}") for i, each in enumerate(recipes)
        ]
        self.learned: list[Turn] = []

    def learn(self, turns: Sequence[Turn]) -> None:
        self.learned += turns

    def propose(self, pending: Sequence[Candidate]) -> Candidate | None:
        known = {turn.candidate.id for turn in self.learned} | {each.id for each in pending}
        return next((each for each in self.candidates if each.id not in known), None)


@functools.cache
def caps() -> Caps:
    return caps_of(canonical(START), SUITES.vocab, SUITES.n_tokens)


def spec(**changed: object) -> RunSpec:
    known = dict(
        id=f"run-{next(IDS)}", suites=SUITES, caps=caps(), start=canonical(START),
        given=True, menu=(), n_workers=1, command="mendel research", started=time.time(),
        budget_s=3600.0,
    )  # fmt: skip
    return RunSpec.model_validate({**known, **changed})


@functools.cache
def audits(folder: str) -> Path:
    """The start's audit, made once for all tests: it takes seconds."""
    check_spec(canonical(START).model, cache=Path(folder))
    return Path(folder)


def line(
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    *recipes: Recipe,
    audited: Path,
    score: Callable[[Recipe, AnyProxy, int], float] = formula,
    **changed: object,
) -> tuple[ResearchClock, Listed]:
    """A clock whose proposer has these recipes to offer, and whose training is the formula."""
    measure = by_formula(score)
    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "sweep", lambda recipe, *rest: measure(recipe, 1.0, *rest))
    shutil.copytree(audits(str(audited)), home() / "audits", dirs_exist_ok=True)
    proposer = Listed(*recipes)
    run = Run.create(ledger, spec(**changed))
    return ResearchClock(run, ledger, proposer), proposer

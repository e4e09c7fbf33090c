"""Measures recipes on the proxies of a line, and keeps what it measured in the run's folder.

(recipe, leg, seed) -> kept before? -> the score; the rate is swept once a recipe, suite and seed
that rates are chosen on: both sides of a trial choose theirs on the same one
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mendel.blobs import write_atomically
from mendel.clocks.research.measure import FACTORS, Measured, measure, sweep
from mendel.clocks.research.suite import Leg, Suites
from mendel.spec import Recipe, SpecError
from mendel.types import Digest, digest


class Bench:
    """What both sides of a trial are measured with.

    suites   the proxies
    folder   of the run: a recipe's scores and rates are kept in scores/, one file each, so that a
             killed trial goes on where it was and a champion is measured once
    stand_in what is trained for every recipe, each on seeds of its own: so all are truly alike, and
             every gain is luck. None: each recipe itself
    """

    def __init__(self, suites: Suites, folder: Path, *, stand_in: Recipe | None = None) -> None:
        self.suites, self.folder, self.stand_in = suites, folder / "scores", stand_in
        self.trained_s = 0.0  # by this process
        self.after: Callable[[], None] = lambda: None  # each training: a round takes minutes

    def tuned(self, recipe: Recipe, leg: Leg, seed: int, tuning: int) -> Measured:
        """One seed at the rate of the leg's suite, which is swept where it is not known yet.

        tuning   the seed that rates are chosen on; one chosen on another seed is not taken, for a
                 champion would keep an unlucky choice for all its reign, and its challengers not
        """
        factor = self.factor(recipe, leg.suite, tuning)
        if factor is None and leg.swept:
            mine, own = self._trained(recipe, seed)
            found = self._timed(lambda: sweep(mine, leg.proxy, own, seed))
            self.write(_score_key(recipe.hash, leg, seed, found.factor), found)
            self.set_factor(recipe, leg.suite, tuning, found.factor)
            return found
        return self.kept(recipe, leg, seed, 1.0 if factor is None else factor)

    def kept(self, recipe: Recipe, leg: Leg, seed: int, factor: float) -> Measured:
        """One seed at a rate; trained only where that was not done before."""
        key = _score_key(recipe.hash, leg, seed, factor)
        found = self.read(key)
        if found is None:
            mine, own = self._trained(recipe, seed)
            found = self._timed(lambda: measure(mine, factor, leg.proxy, own, seed))
            self.write(key, found)
        return found

    def factor(self, recipe: Recipe, suite: str, tuning: int) -> float | None:
        """Of the recipe's learning rates, as chosen for a suite on a seed; None: not yet."""
        found = self.read(_rate_key(recipe.hash, suite, tuning))
        return None if found is None else found.factor

    def set_factor(self, recipe: Recipe, suite: str, tuning: int, factor: float) -> None:
        """Chosen elsewhere."""
        self.write(_rate_key(recipe.hash, suite, tuning), Measured(factor=factor))

    def keys(self, recipe: Recipe, asked: Iterable[tuple[Leg, int]], tuning: int) -> list[Digest]:
        """What is kept of a recipe on legs and seeds has one of these names, whatever its rates."""
        name = recipe.hash
        scores = [_score_key(name, leg, seed, f) for leg, seed in asked for f in FACTORS]
        return [*(_rate_key(name, suite, tuning) for suite in self.suites.names), *scores]

    def read(self, key: Digest) -> Measured | None:
        try:
            return Measured.from_json(self._file(key).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, SpecError):
            return None  # not measured yet, or spoiled: it is measured again

    def write(self, key: Digest, found: Measured) -> None:
        """Raises OSError where the disk is full."""
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(found.to_dict()).encode())

    def _trained(self, recipe: Recipe, seed: int) -> tuple[Recipe, int]:
        """Which recipe is trained, on which seed; of a stand-in no two recipes have the same.

        Asked are the examples of the seed as given, so that both sides of a pair meet the same.
        """
        if self.stand_in is None:
            return recipe, seed
        return self.stand_in, number(recipe.hash, str(seed))

    def _timed(self, train: Callable[[], Measured]) -> Measured:
        began = time.perf_counter()
        try:
            return train()
        finally:
            self.trained_s += time.perf_counter() - began
            self.after()

    def _file(self, key: Digest) -> Path:
        return self.folder / key[:2] / f"{key[2:34]}.json"


def number(*names: str) -> int:
    """A seed by its name: the same names give the same, others another."""
    return int(digest(list(names))[:12], 16)


def _score_key(recipe: Digest, leg: Leg, seed: int, factor: float) -> Digest:
    return digest([recipe, leg.name, leg.proxy.n_steps, seed, factor])


def _rate_key(recipe: Digest, suite: str, tuning: int) -> Digest:
    return digest([recipe, "rate", suite, tuning])

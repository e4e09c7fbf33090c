"""Search skill on recipes without training one: scores are planted, and noise is added.

Each seed draws a landscape of its own: main effects of a third of the features that a recipe can
have, as many interactions of two, the best rate of learning, and noise a seed of training. Nobody
is told it. The recipes, their changes, their costs and the menu are the real ones, at a small size.
A trial counts from the first design of the menu on.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mendel.propose.baselines import EvolutionOver, RandomOver
from mendel.propose.builtin import Builtin
from mendel.propose.changes import changes
from mendel.propose.matching import caps_of
from mendel.propose.menu import designs
from mendel.propose.notes import notes
from mendel.propose.novelty import features, key
from mendel.propose.options import Broods
from mendel.propose.recipes import MARGIN, Name, Problem, Proposer, make_proposer, recipe_of
from mendel.spec import ModelSpec, PartSpec, Recipe, TrainSpec
from mendel.types import Candidate, Decision, Digest, Kind, Line, Result, Turn, Verdict

LINE = Line("research", "0" * 64)
N_TOKENS, VOCAB = 16, 16
N_SEEDS = 4  # of a trial, as on the screen
NOISE = 0.02  # standard deviation of one seed
SHARE = 1 / 3  # of the features that matter
SPREAD = 0.04  # standard deviation of an effect
TOP = 0.9  # of the way from the best of the menu to the best that a climb without noise finds
MAX_TRIALS = 150  # after the menu
N_CLIMBS = 3  # from the best of the menu
KNOWN = (0, 1_000, 10_000, 100_000)
N_TIMED = 31


def problem(seed: int) -> Problem:
    start = Recipe(
        model=ModelSpec(
            width=16,
            n_layers=2,
            context=N_TOKENS,
            mixers=(PartSpec(part="gated_delta_net", fields={"n_heads": 2}),),
        ),
        train=TrainSpec(),
    )
    caps = caps_of(start, VOCAB, N_TOKENS)
    menu = designs(caps, start)
    return Problem(caps, start, menu, notes(), seed)


class Landscape:
    """What recipes are worth. Features that no design of the menu or neighbour of one has are
    worth nothing."""

    def __init__(self, rows: Sequence[Mapping[str, float | str]], seed: int) -> None:
        rng = np.random.default_rng([seed, 2026])
        names = sorted({name for row in rows for name in words(row)})
        picked = rng.permutation(len(names))[: round(SHARE * len(names))]
        self.main = {names[i]: float(rng.normal(0, SPREAD)) for i in picked}
        met = sorted(
            {pair for row in rows for pair in itertools.combinations(sorted(words(row)), 2)}
        )
        pairs = rng.permutation(len(met))[: len(picked)]
        self.pairs = {met[i]: float(rng.normal(0, SPREAD)) for i in pairs}
        self.rate = float(rng.normal(-8.4, 1))  # log2 of the best one

    def __call__(self, row: Mapping[str, float | str]) -> float:
        has = words(row)
        value = 0.5 + sum(effect * has.get(name, 0) for name, effect in self.main.items())
        for (a, b), effect in self.pairs.items():
            value += effect * has.get(a, 0) * has.get(b, 0)
        return value - 0.02 * min(abs(float(row["train.lr"]) - self.rate), 4)


def words(row: Mapping[str, float | str]) -> dict[str, float]:
    """Shares of the layers that have a value, and 1 for each word."""
    plain = {f"{name}={value}": 1.0 for name, value in row.items() if isinstance(value, str)}
    shares = {name: float(v) for name, v in row.items() if "=" in name and not isinstance(v, str)}
    return plain | shares


@dataclass
class World:
    """What all seeds and methods share: it knows nothing of scores."""

    problem: Problem
    broods: Broods

    def __post_init__(self) -> None:
        self.row = lru_cache(1 << 16)(self._row)
        self.recipes: dict[Digest, Recipe] = {}
        self.around: dict[Digest, dict[Digest, Recipe]] = {}

    def near(self, recipe: Recipe) -> list[Digest]:
        """All that are one change away, by key."""
        name = key(recipe)
        if name not in self.around:
            found = [change.recipe for change in changes(recipe, self.problem.caps)]
            self.around[name] = {key(each): each for each in found}
            self.recipes |= self.around[name]
        return list(self.around[name])

    def features(self, recipe: Recipe) -> Mapping[str, float | str]:
        name = key(recipe)
        self.recipes[name] = recipe
        return self.row(name)

    def _row(self, name: Digest) -> Mapping[str, float | str]:
        return features(self.recipes[name])


def landscape(shared: Path, sets: Sequence[str], n_runs: int) -> dict[str, Any]:
    """Trials to the top by method, the menu's included."""
    world = World(problem(0), Broods(problem(0)))
    rows = [world.features(design.recipe) for design in world.problem.menu]
    rows += [world.row(name) for d in world.problem.menu[::4] for name in world.near(d.recipe)]
    found: dict[str, Any] = {"designs on the menu": len(world.problem.menu)}
    runs = {name: [] for name in get_args(Name)}
    seconds = dict.fromkeys(runs, 0.0)
    for seed in range(n_runs):
        land = Landscape(rows, seed)
        wanted = top(world, land)
        for name in runs:
            began = time.process_time()
            runs[name].append(play(world, proposer(name, world, seed), land, wanted, seed))
            seconds[name] += time.process_time() - began
            print(seed, name, runs[name][-1], f"{seconds[name]:.1f} s", flush=True)
    n_menu = len(world.problem.menu)
    for name, trials in runs.items():
        found[name] = {
            "median trials": statistics.median(trials),
            "median trials after the menu": statistics.median(trials) - n_menu,
            "trials": trials,
            "missed": sum(n > n_menu + MAX_TRIALS for n in trials),
            "cpu_ms a trial": 1e3 * seconds[name] / sum(trials),
        }
        print(name, found[name], flush=True)
    return found


def proposer(name: Name, world: World, seed: int) -> Proposer:
    task = replace(world.problem, seed=seed)
    shared = {"builtin": Builtin, "random": RandomOver, "evolution": EvolutionOver}
    return shared[name](task, world.broods) if name in shared else make_proposer(name, task)


def top(world: World, land: Landscape) -> float:
    """The worth that counts as found."""
    menu = [design.recipe for design in world.problem.menu]
    worth = [land(world.features(recipe)) for recipe in menu]
    order = sorted(range(len(menu)), key=lambda i: -worth[i])
    best = max(climb(world, land, menu[i]) for i in order[:N_CLIMBS])
    return max(worth) + TOP * (best - max(worth))


def climb(world: World, land: Landscape, recipe: Recipe) -> float:
    """The worth where no change is better."""
    here = land(world.features(recipe))
    while True:
        near = world.near(recipe)
        worth = [land(world.row(name)) for name in near]
        if not worth or max(worth) <= here:
            return here
        here = max(worth)
        recipe = world.recipes[near[worth.index(here)]]


def play(world: World, proposer: Proposer, land: Landscape, wanted: float, seed: int) -> int:
    """Trials until one is worth as much, without its noise; a champion is kept by its mean."""
    rng = np.random.default_rng([seed, 4])
    champion, turn = measured(land(world.features(world.problem.start)), rng), 1
    n_all = len(world.problem.menu) + MAX_TRIALS
    for n in range(1, n_all + 1):
        candidate = proposer.propose([])
        if candidate is None:
            return n_all + 1
        worth = land(world.features(recipe_of(candidate)))
        if worth >= wanted:
            return n
        scores = measured(worth, rng)
        keep = statistics.fmean(scores) > statistics.fmean(champion) + MARGIN
        proposer.learn([told(candidate, scores, champion, turn, n + 1, keep)])
        if keep:
            champion, turn = scores, n + 1
    return n_all + 1


def measured(worth: float, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(float(worth + each) for each in rng.normal(0, NOISE, N_SEEDS))


def told(
    candidate: Candidate,
    scores: tuple[float, ...],
    baseline: tuple[float, ...],
    champion: int,
    id: int,
    keep: bool = False,
) -> Turn:
    verdict = Verdict(Decision.KEEP if keep else Decision.DISCARD, "by its mean")
    result = Result(scores, baseline, facts={"stage": "screen"})
    return Turn(LINE, Kind.TRIAL, candidate, result, verdict, champion, str(id), 0, id)


def proposals(shared: Path, sets: Sequence[str], n_runs: int) -> dict[str, Any]:
    """CPU time of a proposal, and of learning a turn, with so many turns known."""
    task = problem(0)
    world = World(task, Broods(task))
    land = Landscape([world.features(design.recipe) for design in task.menu], 0)
    researcher, n, found = Builtin(task), 0, {}
    gc.freeze()  # as a worker does
    feed = turns(world, land)
    for known in KNOWN[: n_runs if n_runs < len(KNOWN) else None]:
        batch = list(itertools.islice(feed, known - n))
        began = time.process_time()
        researcher.learn(batch)
        learning, n = time.process_time() - began, known
        found[f"{known:,} turns"] = {
            "ms to learn a turn": 1e3 * learning / max(1, len(batch)),
            **timed(researcher, known),
        }
        print(known, found[f"{known:,} turns"], flush=True)
    return found


def timed(researcher: Builtin, known: int) -> dict[str, float]:
    """The first proposal works out what its parents give; each later one has learned a turn."""
    times = []
    for i in range(N_TIMED):
        began = time.process_time()
        candidate = researcher.propose([])
        times.append(1e3 * (time.process_time() - began))
        assert candidate is not None
        scores = measured(0.3, np.random.default_rng([known, i]))
        researcher.learn([told(candidate, scores, (0.5,) * N_SEEDS, 1, 10**6 + known + i)])
    return {
        "first ms": times[0],
        "median ms": statistics.median(times[1:]),
        "95th percentile ms": statistics.quantiles(times[1:], n=20)[-1],
        "mean ms": statistics.fmean(times[1:]),
        "longest ms": max(times[1:]),
    }


def turns(world: World, land: Landscape) -> Any:
    """The menu, then neighbours of its designs at one rate of learning after the other."""
    rng, menu = np.random.default_rng(0), [design.recipe for design in world.problem.menu]
    near = [world.recipes[name] for recipe in menu[::6] for name in world.near(recipe)]
    for id in itertools.count(2):
        recipe = menu[id - 2] if id - 2 < len(menu) else near[id % len(near)]
        if id - 2 >= len(menu):
            rate = 3e-3 * 2 ** float(rng.normal())
            train = recipe.train.model_copy(update={"lr": float(f"{rate:.9g}")})
            recipe = recipe.model_copy(update={"train": train})
        worth = land(features(recipe)) if id < 1_000 else float(rng.normal(0.5, 0.1))
        words = "menu: a design." if id - 2 < len(menu) else "mutate: a rate."
        candidate = Candidate(recipe.to_dict(), words, (f"turn:{max(2, id // 2)}",))
        yield told(candidate, measured(worth, rng), (0.5,) * N_SEEDS, 1, id)


SECTIONS = {"landscape": landscape, "proposals": proposals}

"""A research line whose training is replaced by draws: race, driver, ledger and judge are real.

No recipe is better than another, so whatever is promoted, other than by selection, is promoted by
luck. Three worlds of noise, by what seeds of proxies do:

even     Gaussian around a level of the proxy's own, as wide as seeds of proxies are (.02 to .2)
torn     a seed finds the solution or does not, as on parity and recall of overwritten keys
skewed   each recipe fails on a share of seeds of its own, and makes up for it on the others: equal
         means, unequal shapes, which is what the judge's evidence is least protected against

How wide they are is assumed (SPREAD), unless a real run is given: then there is one world,

measured   each seed of a proxy is off by what one seed of it was off in the run: pairs as measured,
           without their mean, drawn anew
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from mendel.clocks.research.bench import Bench
from mendel.clocks.research.clock import ResearchClock, recipe_of
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.race import SCREEN, SELECTION, confirmation, first_round, fresh
from mendel.clocks.research.request import START
from mendel.clocks.research.run import Run, RunSpec
from mendel.clocks.research.suite import Leg, Suites
from mendel.ledger import Ledger
from mendel.propose.matching import Caps, caps_of, price
from mendel.propose.menu import Named, designs
from mendel.propose.recipes import Proposer
from mendel.propose.spelling import canonical
from mendel.spec import Recipe
from mendel.types import Account, Candidate, Cost, Decision, Digest, Result, Trial, Turn, Verdict

SUITES = Suites(names=("recall", "states"))
WORLDS = ("even", "torn", "skewed")
MEASURED = "measured"
SPREAD = (0.02, 0.2)  # over seeds, of a proxy
FAILED, SOLVED = 0.05, 0.97  # where a seed does all or nothing
MOST_FAILED = 0.3  # of a recipe's seeds, in the skewed world
AUDIT = {"verdict": "clean", "cached": True, "profile": "full"}  # who is lucky is audited in full
CURVE = tuple((30 * i, 4.0 / i) for i in range(1, 13))  # as many points as a real one


Noise = Mapping[str, Sequence[float]]  # of each proxy, how far off single seeds were


def noise_of(turns: Sequence[Turn]) -> dict[str, list[float]]:
    """From paired differences of real trials to their champions, each around its trial's mean.

    A difference has the noise of two seeds, or of what each side was trained on for a pair, and a
    mean of n takes 1/n of it away: what is given back is scaled to one seed.
    """
    found = defaultdict[str, list[float]](list)
    for turn in turns:
        facts = turn.result.facts
        for proxy, mine in facts.get("proxies", {}).items():
            its = facts.get("champion", {}).get(proxy, ())
            if turn.result.error is None and 1 < len(mine) == len(its):
                apart = [a - b for a, b in zip(mine, its, strict=True)]
                a, b = facts.get("trained", {}).get(proxy, (1, 1))
                noise = (1 / a + 1 / b) * (1 - 1 / len(mine))
                mean, scale = statistics.fmean(apart), math.sqrt(1 / noise)
                found[proxy] += [scale * (each - mean) for each in apart]
    return dict(found)


class World:
    """What seeds of each proxy give, whoever trains; a line has one of its own.

    noise   of the world "measured"; a proxy without any is as in the even world
    """

    def __init__(self, kind: str, seed: int, noise: Noise | None = None) -> None:
        self.kind, self.seed, self.noise = kind, seed, noise or {}
        draw = random.Random(f"{kind} {seed}")
        self.truth = {
            leg.name: (draw.uniform(0.2, 0.7), math.exp(draw.uniform(*map(math.log, SPREAD))))
            for leg in SUITES.whole
        }

    def score(self, design: Digest, proxy: str, n_steps: int, seed: int) -> float:
        """The same for the same seed of the same design, as of real training."""
        draw = random.Random(f"{self.seed} {design} {proxy} {n_steps} {seed}")
        level, spread = self.truth[proxy]
        if self.kind == "torn":
            level = SOLVED if draw.random() < level else FAILED
            spread = SPREAD[0]
        elif self.kind == "skewed":
            fails = MOST_FAILED * random.Random(f"{self.seed} {design} {proxy}").random()
            level = FAILED if draw.random() < fails else (level - fails * FAILED) / (1 - fails)
            spread = SPREAD[0]
        elif found := self.noise.get(proxy):
            return min(1.0, level + draw.choice(found))
        return min(1.0, draw.gauss(level, spread))


class DrawnBench(Bench):
    """The bench of a line, whose scores are drawn. `names` are the ids of the two at work."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(SUITES, folder)
        self.world, self.names = world, dict[int, Digest]()

    def tuned(self, recipe: Recipe, leg: Leg, seed: int, tuning: int) -> Measured:
        return self.kept(recipe, leg, seed, 1.0)

    def kept(self, recipe: Recipe, leg: Leg, seed: int, factor: float) -> Measured:
        steps = leg.proxy.n_steps
        score = self.world.score(self.names[id(recipe)], leg.name, steps, seed)
        return Measured.model_construct(
            factor=factor, score=score, n_steps=steps, curve=CURVE, seconds=10.0, flops=1e9,
            repairs=(), error=None,
        )  # fmt: skip

    def factor(self, recipe: Recipe, suite: str, tuning: int) -> float:
        return 1.0


class Variants:
    """The menu, then its designs at one weight decay after the other: as many as are asked for."""

    def __init__(self, menu: Sequence[Named], seed: int) -> None:
        self.menu, self.draw, self.n = menu, random.Random(seed), 0

    def learn(self, turns: Sequence[Turn]) -> None: ...

    def propose(self, pending: Sequence[Candidate]) -> Candidate:
        self.n += 1
        if self.n <= len(self.menu):
            design = self.menu[self.n - 1]
            return Candidate(design.recipe.to_dict(), f"menu: {design.name}")
        recipe = self.draw.choice(self.menu).recipe
        train = recipe.train.model_copy(update={"weight_decay": self.n / 1e6})
        return Candidate(recipe.model_copy(update={"train": train}).to_dict(), "mutate: a decay")


class DrawnClock(ResearchClock):
    """The research clock, with drawn scores and without audits, which no score depends on."""

    def __init__(self, run: Run, ledger: Ledger, proposer: Proposer | None, menu: Menu) -> None:
        super().__init__(run, ledger, proposer)
        self.shown = menu

    @cached_property
    def menu(self) -> tuple[Named, ...]:
        return self.shown.designs

    def in_world(self, world: World) -> DrawnClock:
        self.bench = DrawnBench(self.run.folder, world)
        return self

    def trial(self, trial: Trial) -> Result:
        """As the clock's own; the race, its cuts, the seeds of a reign and the facts are real."""
        mine, its = recipe_of(trial.candidate), recipe_of(trial.champion.candidate)
        bench, seeds = self.bench, self.seeds(trial)
        assert isinstance(bench, DrawnBench)
        bench.names = {id(mine): trial.candidate.id, id(its): trial.champion.candidate.id}
        if trial.round:
            sheet = confirmation(bench, mine, its, fresh(trial.id, trial.round), seeds.tuning)
        else:
            bar = SELECTION if self._is_selection(trial) else SCREEN
            sheet = first_round(bench, mine, its, seeds, bar)
        paid = price(mine, self.run.spec.caps.vocab, self.run.spec.caps.n_tokens)
        facts = {**sheet.facts(), **paid._asdict(), "audit": AUDIT, "null": True}
        cost = Cost(10.0 * len(sheet.mine), sheet.flops, paid.n_params, paid.state_bytes)
        return Result(sheet.scores, sheet.baseline, cost, {}, facts, sheet.error)


class GreedyClock(DrawnClock):
    """The same with another rule: whatever is ahead at the end of a screen is kept."""

    def policy(self, trial: Trial, account: Account) -> Verdict:
        verdict = super().policy(trial, account)
        result = trial.results[-1]
        if self._is_selection(trial) or result.facts["cut"]:
            return verdict
        if sum(result.scores) > sum(result.baseline):
            return Verdict(Decision.KEEP, "better on the screen", 1.0)
        return Verdict(Decision.DISCARD, "not better on the screen")


class Menu:
    """Start, caps and the real menu: worked out once for all lines."""

    def __init__(self) -> None:
        self.start = canonical(START)
        self.caps: Caps = caps_of(self.start, SUITES.vocab, SUITES.n_tokens)
        self.designs = designs(self.caps, self.start)

    def spec(self, name: str) -> RunSpec:
        return RunSpec(
            id=name, suites=SUITES, caps=self.caps, start=self.start, menu=self.designs,
            given=False, null=True,
            n_workers=1, command="benchmarks/research.py", started=time.time(),
        )  # fmt: skip


@contextmanager
def fresh_ledger() -> Iterator[Ledger]:
    """A SQLite ledger of its own, in memory where the system has a folder that is."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
        try:
            yield ledger
        finally:
            ledger.close()

"""One recipe, one proxy, one seed -> a normalised score; and the learning rate that suits it.

fitted -> Training -> the seed's test set, asked once. A seed that diverges is tried once more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np

from mendel.clocks.research.suite import normalised
from mendel.data.proxies import AnyProxy
from mendel.spec import Recipe, Spec, TrainSpec
from mendel.train.proxy import fitted, fitted_training, score
from mendel.train.run import Outcome, Progress, Training

FACTORS = (1.0, 1 / 3, 3.0)  # of the recipe's learning rates; the first wins where none is clear
# nats of validation by which another rate has to be better than an earlier one. What one seed says
# of two rates on word_z60 differs by that much from what another says (standard deviation, five
# signed designs), and parity, which is trained at the rate that is chosen there, pays for one too
# high: of nine seeds of gated designs four learn nothing of it at three times the recipe's rate,
# one at the recipe's (means .55 and .74, .70 at a third).
CLEAR = 0.15
THIRD = 1 / 3  # of the steps that each rate of a sweep is given; then the best goes on alone
N_POINTS = 12  # of a curve


class Measured(Spec):
    """What one seed of one proxy showed."""

    factor: float  # of the recipe's learning rates
    score: float | None = None  # normalised; None: it failed
    n_steps: int = 0
    curve: tuple[tuple[int, float], ...] = ()  # step, nats of training around it
    seconds: float = 0.0
    flops: float = 0.0
    repairs: tuple[str, ...] = ()
    error: str | None = None


def measure(
    recipe: Recipe, factor: float, proxy: AnyProxy, seed: int, asked: int | None = None
) -> Measured:
    """Train a seed at a factor of the recipe's rates; once more, tamely, where it diverges.

    asked    the seed whose test examples are asked; None: its own
    raises   InputError where the recipe cannot run on the proxy
    """
    began = time.perf_counter()
    outcome = _training(recipe, factor, proxy, seed).run()
    repairs: tuple[str, ...] = ()
    if outcome.finished and outcome.result.error is not None:
        repairs = (f"{proxy.name}: {outcome.result.error} Tried at a third of the rate, clip 1",)
        tame = recipe.model_copy(update={"train": recipe.train.model_copy(update={"clip": 1.0})})
        outcome = _training(tame, factor / 3, proxy, seed).run()
    test = seed if asked is None else asked
    return _measured(outcome, proxy, test, factor, repairs, began)


def sweep(recipe: Recipe, proxy: AnyProxy, seed: int, asked: int | None = None) -> Measured:
    """All rates for a third of the steps; the first that no other is clearly better than, by
    validation loss, goes on to the end."""
    began = time.perf_counter()
    test = seed if asked is None else asked
    found: list[tuple[float, float, Training]] = []
    for factor in FACTORS:
        training = _training(recipe, factor, proxy, seed)
        training.run(_until(THIRD))
        curve = training.curves[seed]
        if curve.diverged is None:
            found.append((curve.evaluations[-1][1], factor, training))
    while found:
        best = found[chosen([loss for loss, _, _ in found])]
        outcome = best[2].run()
        if outcome.result.error is None:
            return _measured(outcome, proxy, test, best[1], (), began)
        found.remove(best)
    # no rate of the three is survived: the repair of a seed, from the lowest
    last = measure(recipe, min(FACTORS), proxy, seed, asked)
    return last.model_copy(update={"seconds": time.perf_counter() - began})


def chosen(losses: Sequence[float]) -> int:
    """The place of the first loss that none is better than by CLEAR or more."""
    return next(i for i, loss in enumerate(losses) if loss - min(losses) < CLEAR)


def at_rate(how: TrainSpec, factor: float) -> TrainSpec:
    """The training with its learning rates times a factor."""
    rates = {"lr": how.lr * factor}
    if how.optimizer == "muon":
        rates["matrix_lr"] = how.matrix_lr * factor
    return how.model_copy(update=rates)


def _training(recipe: Recipe, factor: float, proxy: AnyProxy, seed: int) -> Training:
    model = fitted(recipe.model, proxy)
    how = fitted_training(at_rate(recipe.train, factor), proxy, range(seed, seed + 1))
    return Training(model, how, proxy.source(), together=False)


class _until:
    """Stops a training once, at a share of its steps; running it again goes on."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, progress: Progress) -> None:
        if progress.share >= self.share:
            raise KeyboardInterrupt


def _measured(
    outcome: Outcome,
    proxy: AnyProxy,
    test: int,
    factor: float,
    repairs: tuple[str, ...],
    began: float,
) -> Measured:
    if not outcome.finished:
        raise KeyboardInterrupt
    value: float | None = None
    (curve,) = outcome.curves.values()
    if outcome.result.error is None:
        value = normalised(proxy, score(outcome.models[0], proxy, test))
    return Measured(
        factor=factor,
        score=value,
        n_steps=int(outcome.result.facts["step"]),
        curve=points(curve.losses),
        seconds=time.perf_counter() - began,
        flops=outcome.result.cost.flops,
        repairs=repairs,
        error=outcome.result.error,
    )


def points(losses: Sequence[float], n: int = N_POINTS) -> tuple[tuple[int, float], ...]:
    """At most n points of a curve: the last step of each piece, and the mean loss over it."""
    losses = [loss for loss in losses if math.isfinite(loss)]
    edges = np.linspace(0, len(losses), min(n, len(losses)) + 1).astype(int).tolist()
    return tuple((end, float(f"{fmean(losses[at:end]):.5g}")) for at, end in pairwise(edges))

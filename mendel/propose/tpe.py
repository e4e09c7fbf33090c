"""Optuna's tree of Parzen estimators as a search: a baseline. Needs the extra [research]."""

from __future__ import annotations

import math
import warnings
from typing import Any

from mendel.propose.searchers import MAX_REPEATS, Remembering
from mendel.propose.spaces import Choices, Picks


class TreeParzen(Remembering[Picks]):
    """Multivariate: it models the fields together. Everything else is Optuna's default.

    source   Bergstra et al., 2011; Falkner et al., 2018 for several fields together
    """

    def __init__(self, space: Choices, seed: int) -> None:
        import optuna

        super().__init__(space, seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(direction="maximize")
        self.reseed(seed)
        self.fields: dict[str, Any] = {
            f"field_{i}": optuna.distributions.CategoricalDistribution(range(size))
            for i, size in enumerate(space.sizes)
        }
        self.trials: dict[Picks, Any] = {}

    def reseed(self, seed: int) -> None:
        """What is drawn next follows from the seed and what was told."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)

    def draw(self) -> Picks:
        """What it would try, known or not; nothing is remembered of it."""
        trial = self.study.ask(self.fields)
        self._tell_study(trial, math.nan)
        return tuple(int(trial.params[name]) for name in self.fields)

    def ask(self) -> Picks:
        for _ in range(MAX_REPEATS):
            trial = self.study.ask(self.fields)
            picks = tuple(int(trial.params[name]) for name in self.fields)
            if self.is_new(picks):
                self.trials[picks] = trial
                return self.lease(picks)
            self._tell_study(trial, self.told.get(picks, math.nan))
        return self.lease(self.fresh())

    def tell(self, candidate: Picks, score: float) -> None:
        super().tell(candidate, score)
        trial = self.trials.pop(candidate, None)
        if trial is None:  # not asked for: as if it had been
            self.study.enqueue_trial(dict(zip(self.fields, candidate, strict=True)))
            trial = self.study.ask(self.fields)
        self._tell_study(trial, score)

    def _tell_study(self, trial: Any, score: float) -> None:
        from optuna.trial import TrialState

        if math.isfinite(score):
            self.study.tell(trial, score)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

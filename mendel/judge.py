"""The only place that decides: tests, gates and the error budget.

    screen (round 0, spends nothing) -> level -> confirm on fresh pairs -> keep at e >= 1/level

A pair is one independent repeat of what is claimed: a seed for a recipe, an example for a model.
Champion and challenger are measured side by side on each pair, so what moves both cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mendel.evidence import Floats, Stratum, e_process, e_process_of_mean, next_level, sign_flip
from mendel.types import Account, Cost, Decision, InputError, Result, Trial, Verdict

N_EXCHANGES = 1_000
MEAN_T = 2.0  # costs a Gaussian gain nothing; rare big losses often fail it


@dataclass(frozen=True)
class Rule:
    """What one policy asks of its candidates."""

    margin: float = 0.0  # added to every difference; 0 asks better, above 0 not worse by more
    max_pairs: int = 80
    min_t: float = 1.0  # the screen's
    ceiling: float | None = None  # the best score there is, where all pairs may well reach it


def superiority(
    trial: Trial,
    account: Account,
    *,
    max_pairs: int = 80,
    min_t: float = 1.0,
    ceiling: float | None = None,
) -> Verdict:
    """Is the candidate better than its champion?

    trial      round 0 is the screen, never looked at again; the rest are fresh pairs: seeds or
               examples that no earlier trial used, lest a champion be met where it was lucky
    max_pairs  of the confirmation; rounds may split them as they like
    ceiling    a constant challenger loses, unless its scores are 0/1 or all equal to this
    returns    CONTINUE with a level = the screen is passed and a confirmation begins
    """
    return _decide(trial, account, Rule(0.0, max_pairs, min_t, ceiling))


def noninferiority(
    trial: Trial, account: Account, *, margin: float, max_pairs: int = 80, min_t: float = 1.0
) -> Verdict:
    """Is the candidate worse than its champion by less than a margin?

    margin   above 0, in units of the score, named before anything is measured
    null     0/1 scores: mean difference <= -margin. Others: difference + margin is symmetric
             about 0 or smaller, so use it on seeds, not on skewed scores of examples
    raises   InputError for any other margin
    """
    if not 0 < margin < math.inf:
        raise InputError(f"margin={margin} is no margin. Wanted a number above 0. Set margin=0.01.")
    return _decide(trial, account, Rule(margin, max_pairs, min_t))


def better_than(
    scores: Sequence[float],
    baseline: Sequence[float],
    account: Account,
    *,
    ceiling: float | None = None,
) -> Verdict:
    """May a report say "better than"? One confirmation on the pairs given; it spends a level.

    scores   for example 0/1 per sealed example, in an order fixed before they were opened
    returns  KEEP = may say so
    """
    result = Result(scores=tuple(scores), baseline=tuple(baseline))
    return _confirm((result,), next_level(account), Rule(max_pairs=len(scores), ceiling=ceiling))


def better_on_the_whole(strata: Sequence[Stratum], level: float) -> Verdict:
    """Is a weighted sum of independent parts above 0? For where a pair takes minutes.

    strata   at a number of gains that was fixed in advance; of one look, if there are several
    level    that this look was given, before anything was measured: those of all looks sum to the
             claim's. As 1{p <= level} / level is an e-value for gains that are new, `next_level`
             may charge it like any other
    returns  KEEP, or CONTINUE; a part without gains, or a NaN, never keeps
    null     as of `superiority`: each gain symmetric about 0, or stochastically smaller
    """
    n, p = sum(len(each.gains) for each in strata), sign_flip(strata)
    mean = sum(each.weight * float(np.mean(each.gains)) for each in strata if each.gains)
    told = f"mean difference {mean:+.4g} on {n} gains, p = {p:.2g} of all flips of their signs"
    decision = Decision.KEEP if p <= level else Decision.CONTINUE
    return Verdict(decision, told, level)


def screen(scores: Sequence[float], baseline: Sequence[float], *, min_t: float = 1.0) -> Verdict:
    """Is a candidate worth a confirmation? Spends nothing; its pairs must not be used again.

    scores   3 to 6 pairs; with 4 and min_t = 1, 20 % of no-ops pass, 84 % of gains of 1 sigma
    returns  CONTINUE or DISCARD
    """
    flaw = _flaw(Result(scores=tuple(scores), baseline=tuple(baseline)))
    if flaw:
        return Verdict(Decision.DISCARD, flaw)
    t = _t(_floats(scores) - _floats(baseline))
    if t >= min_t:
        return Verdict(Decision.CONTINUE, f"screen passed: t = {t:.2f} on {len(scores)} pairs")
    return Verdict(Decision.DISCARD, f"screened out: t = {t:.2f} < {min_t:g}")


def stands(
    score: Callable[[NDArray[np.float32]], float],
    mine: NDArray[np.float32],
    its: NDArray[np.float32],
    *,
    level: float = 0.05,
) -> Verdict:
    """May a variant be chosen in its parent's place? Asked where more is done to no known end.

    score      of what both kept on the same out-of-fold rows, (n, M) each
    level      one-sided; it spends nothing, for it only lets the variant stand in a selection
    returns    KEEP or DISCARD. Exact for rows that are alike: under the null the two sides of a row
               may be exchanged (Noreen 1989, Yeh 2000). What one seed did to all rows of a fold at
               once is not in it
    """
    chance, gain = np.random.default_rng(0), score(mine) - score(its)
    n_above = 0
    for _ in range(N_EXCHANGES):
        swapped = (chance.random(len(mine)) < 0.5)[:, None]
        one, other = np.where(swapped, its, mine), np.where(swapped, mine, its)
        n_above += score(one) - score(other) >= gain - 1e-12
    p = (1 + n_above) / (1 + N_EXCHANGES)
    decision = Decision.KEEP if gain > 0 and p < level else Decision.DISCARD
    return Verdict(decision, f"{gain:+.2%} on {len(mine):,} rows, p = {p:.3f}", level)


@np.errstate(over="ignore", invalid="ignore")  # then it is NaN, and loses
def _t(gains: Floats) -> float:
    """Mean over standard error; one pair, or pairs all alike, say no more than their sign."""
    mean = float(gains.mean())
    spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread * math.sqrt(len(gains))


@np.errstate(over="ignore")
def _flaw(result: Result) -> str | None:
    """Why these scores lose without a look at which are higher."""
    if result.error is not None:
        return f"the trial failed: {' '.join(result.error.split())[:200]}"
    n, n_baseline = len(result.scores), len(result.baseline)
    if n == 0 or n != n_baseline:
        return f"scores are missing: {n} of the challenger, {n_baseline} of the champion"
    scores, baseline = _floats(result.scores), _floats(result.baseline)
    for name, side in (("challenger", scores), ("champion", baseline)):
        if not np.isfinite(side).all():
            return f"a score of the {name} is not finite"
    return None if np.isfinite(scores - baseline).all() else "scores are too large to subtract"


def _floats(scores: Sequence[float]) -> Floats:
    return np.asarray(scores, dtype=np.float64)  # booleans and None (a NaN) too


def _decide(trial: Trial, account: Account, rule: Rule) -> Verdict:
    if not trial.results:
        return Verdict(Decision.DISCARD, "nothing was measured")
    if trial.level is not None:
        return _confirm(trial.results[1:], trial.level, rule)
    if len(trial.results) > 1:
        return Verdict(Decision.DISCARD, "measured past the screen without a level")
    return _begin(trial.results[0], account, rule)


def _begin(result: Result, account: Account, rule: Rule) -> Verdict:
    """Screen; if it passes and can be confirmed at all, give it a level."""
    flaw = _flaw(result)
    if flaw:
        return Verdict(Decision.DISCARD, flaw)
    scores = [score + rule.margin for score in result.scores]
    verdict = screen(scores, result.baseline, min_t=rule.min_t)
    if verdict.decision is Decision.DISCARD:
        return verdict
    level = next_level(account)
    if level <= 2.0**-rule.max_pairs:  # each pair at most doubles e
        why = f"max_pairs={rule.max_pairs} cannot reach the level in force, {level:.1e}"
        return Verdict(Decision.DISCARD, why)
    return replace(verdict, level=level)


@np.errstate(over="ignore", invalid="ignore")
def _confirm(results: Sequence[Result], level: float, rule: Rule) -> Verdict:
    for result in results:
        flaw = _flaw(result)
        if flaw:
            return Verdict(Decision.DISCARD, flaw, level)
    scores = _floats([s for r in results for s in r.scores])[: rule.max_pairs]
    baseline = _floats([s for r in results for s in r.baseline])[: rule.max_pairs]
    if len(scores) == 0:
        return Verdict(Decision.CONTINUE, "no pair yet", level, 1.0)
    binary = bool(np.isin((scores, baseline), (0.0, 1.0)).all())
    gains = scores - baseline + rule.margin
    e = e_process_of_mean(scores - baseline, margin=rule.margin) if binary else e_process(gains)
    kept = (e * level >= 1) & _mean_is_clear(gains)
    if not kept.any():
        return _unproven(e, gains, level, rule)
    n = int(kept.argmax()) + 1
    if np.ptp(scores[:n]) == 0 and not binary and scores[0] != rule.ceiling:
        reason = f"constant scores are no evidence: {scores[0]:g} on each of {n} pairs"
        return Verdict(Decision.DISCARD, reason, level, 0.0)
    claim = f"not worse by {rule.margin:g}" if rule.margin else "better"
    reason = f"{claim} on {n} fresh pairs: {_tally(e[:n], gains[:n] - rule.margin, level)}"
    return Verdict(Decision.KEEP, reason, level, float(e[n - 1]))


def _mean_is_clear(gains: Floats) -> NDArray[np.bool_]:
    """After each pair: is the mean MEAN_T standard errors above 0? Makes keeping only harder."""
    n = np.arange(1, len(gains) + 1)
    mean = np.cumsum(gains) / n
    variance = (np.cumsum(gains**2) - n * mean**2) / np.maximum(n - 1, 1)
    clear: NDArray[np.bool_] = mean >= MEAN_T * np.sqrt(np.maximum(variance, 0) / n)
    return clear & (mean > 0)


def _unproven(e: Floats, gains: Floats, level: float, rule: Rule) -> Verdict:
    """Go on, unless the pairs left cannot or will hardly change the outcome.

    Stopping early never costs validity. Each pair at most doubles e. Below its start after a third
    of the pairs, a gain of 1 sigma is given up in 0.1 % of cases, and a no-op is spared half.
    """
    n, n_left, now = len(e), rule.max_pairs - len(e), float(e[-1])
    tally = _tally(e, gains - rule.margin, level)
    if n_left == 0 and now * level >= 1:
        why = f"wins more pairs than it loses, but without a clear mean gain, in {n} pairs"
    elif n_left == 0:
        why = f"not shown in {n} pairs"
    elif now * level < 2.0**-n_left:
        why = f"given up after {n} pairs, {n_left} more cannot suffice"
    elif now < 1 and 3 * n >= rule.max_pairs:
        why = f"given up after {n} of {rule.max_pairs} pairs, evidence fell"
    else:
        return Verdict(Decision.CONTINUE, f"undecided after {n} pairs: {tally}", level, now)
    return Verdict(Decision.DISCARD, f"{why}: {tally}", level, now)


def _tally(e: Floats, differences: Floats, level: float) -> str:
    return f"mean difference {differences.mean():+.4g}, e = {e[-1]:.3g} (keeps at {1 / level:.3g})"


def matched_cost(champion: Cost, challenger: Cost) -> str | None:
    """None at matched cost: parameters within 2 %, FLOPs and bytes within 5 % of the champion's.

    returns  else one line that says the difference
    """
    rows = (
        ("parameters", champion.n_params, challenger.n_params, 0.02),
        ("FLOPs", champion.flops, challenger.flops, 0.05),
        ("bytes", champion.n_bytes, challenger.n_bytes, 0.05),
    )
    off = [
        f"{name} {mine:.4g} -> {theirs:.4g}" + (f" ({theirs / mine - 1:+.1%})" if mine else "")
        for name, mine, theirs, limit in rows
        if not abs(theirs - mine) <= limit * abs(mine)  # so that NaN is a difference
    ]
    return f"not at matched cost: {', '.join(off)}" if off else None


def interval(n_correct: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion; (0, 1) where nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    # imported here: it takes a second, which a verdict does not need
    from scipy.stats import binomtest

    low, high = binomtest(n_correct, n).proportion_ci(method="wilson")
    return float(low), float(high)


@dataclass(frozen=True)
class Miss:
    """A limit of the user's that an option does not meet."""

    limit: str
    over: float  # 0.2 = 20 % beyond it


@dataclass(frozen=True)
class Option:
    """One model of a design run, as it may be shipped."""

    name: str
    score: float  # out-of-fold, higher is better
    stderr: float = 0.0
    n_bytes: int = 0
    misses: tuple[Miss, ...] = ()

    @property
    def worst(self) -> Miss:
        return max(self.misses, key=lambda miss: miss.over)


@dataclass(frozen=True)
class Choice:
    option: Option | None  # None = nothing had a finite score
    reason: str


def select(options: Sequence[Option], *, prefer: Literal["accuracy", "size"]) -> Choice:
    """What a design run ships: a selection by point estimate, which claims nothing.

    prefer   accuracy = the smallest within 0.003 of the best, size = within its standard error,
             among those that meet every limit; if none does, the one whose worst miss is least
    """
    if prefer not in ("accuracy", "size"):
        raise InputError(f"prefer={prefer!r} is unknown. Wanted accuracy or size.")
    finite = [option for option in options if math.isfinite(option.score)]
    if not finite:
        return Choice(None, f"none of {len(options)} options has a finite score")
    able = [option for option in finite if not option.misses]
    if not able:
        nearest = min(finite, key=lambda option: (option.worst.over, -option.score))
        miss = nearest.worst
        why = f"no option meets every limit; {nearest.name} comes nearest"
        return Choice(nearest, f"{why}: {miss.limit} binds, missed by {miss.over:.1%}")
    best = max(able, key=lambda option: option.score)
    slack = 0.003 if prefer == "accuracy" else best.stderr
    close = [option for option in able if option.score >= best.score - slack]
    chosen = min(close, key=lambda option: (option.n_bytes, -option.score))
    why = (
        f"smallest of {len(close)} within {slack:.3g} of {best.name}, the best at {best.score:.4g}"
    )
    return Choice(chosen, f"{chosen.name} at {chosen.score:.4g}: {why}")

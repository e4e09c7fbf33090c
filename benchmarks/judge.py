"""Does the judge refuse no-ops and find true gains? Beside two rules of the field, by simulation.

    python benchmarks/judge.py [--quick] [--out FILE.json]

A line is a run of candidates against one champion. sigma = sd of one paired difference. Rules:
  mendel   mendel.judge.superiority: 4 screen pairs, then up to 80 fresh pairs in rounds of 4
  greedy   one score each; keep whatever beats the champion's score, which is not measured again
  5 seeds  five scores each; keep at t > 2 against the champion's five, not measured again
The simulation is vectorised; `check` shows that it equals the real judge, trial by trial.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.stats import binomtest

from mendel import evidence, judge
from mendel.types import Account, Candidate, Champion, Decision, Line, Result, Trial

Floats = Any  # arrays of float64
Rng = np.random.Generator
Noise = Callable[[Rng, tuple[int, ...]], Floats]

N_CANDIDATES, N_SCREEN, N_ROUND, MAX_PAIRS, MIN_T = 500, 4, 4, 80, 1.0
LEVELS = [evidence.next_level(Account(n_begun=i)) for i in range(N_CANDIDATES + 1)]

# every noise has mean 0 and sd 1
NOISES: dict[str, Noise] = {
    "Gaussian": lambda rng, shape: rng.standard_normal(shape),
    "t, 3 df": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skew, rare big gains": lambda rng, shape: rng.standard_exponential(shape) - 1,
    "skew, rare big losses": lambda rng, shape: 1 - rng.standard_exponential(shape),
    "log-normal losses": lambda rng, shape: (
        (math.exp(0.5) - rng.lognormal(0, 1, shape)) / math.sqrt((math.e - 1) * math.e)
    ),
}


# the judge, vectorised over candidates: one row each


def t_of(gains: Floats) -> Floats:
    return gains.mean(-1) / gains.std(-1, ddof=1) * math.sqrt(gains.shape[-1])


def e_processes(gains: Floats) -> Floats:
    """evidence.e_process of each row."""
    magnitudes = np.abs(gains)
    medians = np.empty_like(magnitudes)
    for n in range(1, gains.shape[1] + 1):
        medians[:, n - 1] = np.partition(magnitudes[:, :n], n // 2, axis=1)[:, n // 2]
    stakes = np.clip(gains / medians, -evidence.MAX_GAIN, evidence.MAX_GAIN)
    total = np.zeros_like(stakes)
    for bet, share in zip(evidence.BETS, evidence.SHARES, strict=True):
        total += share * np.exp(np.cumsum(math.log(2) - np.log1p(np.exp(-2 * bet * stakes)), 1))
    return total


@dataclass(frozen=True)
class Confirmations:
    """What would become of each candidate at any level."""

    e: Floats  # (candidates, MAX_PAIRS)
    clear: np.ndarray[Any, Any]  # judge._mean_is_clear of each row

    @classmethod
    def of(cls, gains: Floats) -> Confirmations:
        n = np.arange(1, MAX_PAIRS + 1)
        mean = np.cumsum(gains, axis=1) / n
        variance = (np.cumsum(gains**2, axis=1) - n * mean**2) / np.maximum(n - 1, 1)
        clear = (mean > 0) & (mean >= judge.MEAN_T * np.sqrt(np.maximum(variance, 0) / n))
        return cls(e_processes(gains), clear)

    def end(self, level: float | Floats, rows: Any = slice(None)) -> tuple[Any, Any, Any]:
        """Kept or not, the pair that decided, and the pairs measured until then."""
        e, level = self.e[rows], np.reshape(level, (-1, 1))
        n = np.arange(1, MAX_PAIRS + 1)
        kept = (e * level >= 1) & self.clear[rows]
        stop = (e * level < 2.0 ** -(MAX_PAIRS - n)) | ((e < 1) & (3 * n >= MAX_PAIRS))
        stop |= n == MAX_PAIRS
        stop &= n % N_ROUND == 0
        first = np.where(kept.any(1), kept.argmax(1), MAX_PAIRS) + 1
        given_up = stop.argmax(1) + 1
        keep = first <= given_up
        measured = np.where(keep, -(-first // N_ROUND) * N_ROUND, given_up)
        return keep, np.where(keep, first, given_up), measured


@dataclass
class Lines:
    """Counts over many lines of candidates under one rule."""

    n_kept: list[int] = field(default_factory=list)  # per line
    n_false: list[int] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)  # where each line ended
    n_pairs: int = 0

    def play(self, begun: Confirmations, truly: Any, n_screened: int) -> None:
        """One line: its confirmations in order, each at the level in force."""
        keep, _, measured = begun.end(np.array(LEVELS[: len(truly)]))
        account = Account()
        if not keep.any():
            account = Account(n_begun=len(truly))
        for i in range(len(truly)) if keep.any() else ():
            level = evidence.next_level(account)
            keep[[i]], _, measured[[i]] = begun.end(level, [i])
            account = replace(
                account, n_begun=account.n_begun + 1, n_kept=account.n_kept + bool(keep[i])
            )
        self.n_kept.append(int(keep.sum()))
        self.n_false.append(int((keep & ~truly).sum()))
        self.accounts.append(account)
        self.n_pairs += int(measured.sum()) + n_screened * N_SCREEN


def our_lines(
    rng: Rng, noise: Noise, n_lines: int, n_candidates: int, good: float = 0.0, gain: float = 0.0
) -> Lines:
    """Lines of candidates of which a share `good` is truly better by `gain` sigma."""
    lines = Lines()
    for _ in range(n_lines):
        truly = rng.uniform(size=n_candidates) < good
        screened = noise(rng, (n_candidates, N_SCREEN)) + gain * truly[:, None]
        truly = truly[t_of(screened) >= MIN_T]
        gains = noise(rng, (len(truly), MAX_PAIRS)) + gain * truly[:, None]
        lines.play(Confirmations.of(gains), truly, n_candidates)
    return lines


# the rules of the field, vectorised over lines


@dataclass(frozen=True)
class FieldRule:
    """The champion's scores stay what they were when it was kept."""

    name: str
    n_scores: int
    min_t: float | None  # None = a higher score will do

    def beats(self, scores: Floats, stale: Floats) -> np.ndarray[Any, Any]:
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = scores.mean(-1) - stale.mean(-1)
            if self.min_t is None:
                return np.asarray(gap > 0)
            variance = (scores.var(-1, ddof=1) + stale.var(-1, ddof=1)) / self.n_scores
            return np.asarray(gap / np.sqrt(variance) > self.min_t)

    def lines(
        self,
        rng: Rng,
        noise: Noise,
        n_lines: int,
        gains: Callable[[int], Floats | float],
        drift: float = 0.0,
        n_candidates: int = N_CANDIDATES,
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(false keeps, true keeps) of each line; `gains(i)` are candidate i's, in sigma."""
        sd = math.sqrt(0.5)  # of one score: their difference has sd 1
        level = np.zeros(n_lines)
        stale = sd * noise(rng, (n_lines, self.n_scores))
        n_false, n_true = np.zeros(n_lines, dtype=int), np.zeros(n_lines, dtype=int)
        for i in range(n_candidates):
            gain = np.broadcast_to(gains(i), n_lines)
            truth = level + gain + drift * (i + 1) / n_candidates
            scores = truth[:, None] + sd * noise(rng, (n_lines, self.n_scores))
            kept = self.beats(scores, stale)
            stale = np.where(kept[:, None], scores, stale)
            level = level + gain * kept
            n_false += kept & (gain <= 0)
            n_true += kept & (gain > 0)
        return n_false, n_true


FIELD = [FieldRule("greedy", 1, None), FieldRule("5 seeds, t > 2", 5, 2.0)]


# the real judge, called as the driver calls it

CANDIDATE = Candidate({"no": "op"})
TRIAL = Trial("t", Line("bench", "0" * 64), CANDIDATE, Champion(CANDIDATE))


def real(
    account: Account, scores: Floats, baseline: Floats, *, n_screen: int = N_SCREEN
) -> tuple[bool, int, int, Account]:
    """One candidate through `superiority`: kept, the pair that decided, pairs measured, account."""
    told, start, stop = TRIAL, 0, n_screen
    while True:
        round = Result(tuple(scores[start:stop]), tuple(baseline[start:stop]))
        told = replace(told, results=(*told.results, round))
        verdict = judge.superiority(told, account, max_pairs=MAX_PAIRS, min_t=MIN_T)
        if verdict.level is not None and told.level is None:
            told = replace(told, level=verdict.level)
            account = replace(account, n_begun=account.n_begun + 1)
        if verdict.decision is not Decision.CONTINUE:
            break
        start, stop = stop, stop + N_ROUND
    account = replace(account, n_kept=account.n_kept + verdict.keep)
    n_measured = stop - n_screen
    n_decided = int(verdict.reason.split()[2]) if verdict.keep else n_measured
    return verdict.keep, n_decided, n_measured, account


def check(rng: Rng, n: int) -> dict[str, Any]:
    """The vectorised judge decides as the real one: random noises, gains, levels."""
    n_begun = n_kept = 0
    for name, noise in NOISES.items():
        gains = noise(rng, (n, N_SCREEN + MAX_PAIRS)) + rng.choice([0, 0.5, 1, 2], size=(n, 1))
        baseline = 1024 * rng.integers(-8, 8, size=gains.shape)
        scores = baseline + gains
        gains = scores - baseline
        passed = t_of(gains[:, :N_SCREEN]) >= MIN_T
        accounts = [Account(n_begun=int(i), n_kept=int(i) // 9) for i in rng.integers(0, 400, n)]
        levels = np.array([evidence.next_level(account) for account in accounts])
        keep, decided, measured = Confirmations.of(gains[:, N_SCREEN:]).end(levels)
        for i in range(n):
            ours = real(accounts[i], scores[i], baseline[i])[:3]
            theirs = (bool(keep[i]), int(decided[i]), int(measured[i]))
            assert ours == (theirs if passed[i] else (False, 0, 0)), (name, i, ours, theirs)
        n_begun, n_kept = n_begun + int(passed.sum()), n_kept + int((keep & passed).sum())
    return {"verdicts_equal": n * len(NOISES), "confirmations": n_begun, "kept": n_kept}


# the questions


def proportion(k: int, n: int) -> dict[str, Any]:
    low, high = binomtest(k, n).proportion_ci(method="exact")
    return {"share": k / n, "low": float(low), "high": float(high), "n": n}


def null_row(case: str, rule: str, n_false: Any, **more: Any) -> dict[str, Any]:
    n_false = np.asarray(n_false)
    any_false = proportion(int((n_false > 0).sum()), len(n_false))
    per_line = float(n_false.mean())
    return {"table": "null", "case": case, "rule": rule, **any_false, "per_line": per_line, **more}


def nulls(rng: Rng, n_lines: int) -> Iterator[dict[str, Any]]:
    for name, noise in NOISES.items():
        lines = our_lines(rng, noise, n_lines, N_CANDIDATES)
        cost = lines.n_pairs / n_lines / N_CANDIDATES
        yield null_row(name, "mendel", lines.n_false, pairs_per_no_op=cost)
        for rule in FIELD:
            yield null_row(name, rule.name, rule.lines(rng, noise, n_lines, lambda _: 0.0)[0])


def drifting(rng: Rng, n_lines: int, drift: float = 4.0) -> Iterator[dict[str, Any]]:
    """The level of both sides of a pair rises by several sigma over a line. The real judge."""
    case, n_false = f"baseline drifts by +{drift:g} sigma", []
    for _ in range(n_lines):
        account = Account()
        for i in range(N_CANDIDATES):
            now = drift * (i + np.linspace(0, 1, N_SCREEN + MAX_PAIRS)) / N_CANDIDATES
            both = math.sqrt(0.5) * rng.standard_normal((2, len(now))) + now
            *_, account = real(account, both[0], both[1])
        n_false.append(account.n_kept)
    yield null_row(case, "mendel", n_false)
    for rule in FIELD:
        counts = rule.lines(rng, NOISES["Gaussian"], n_lines, lambda _: 0.0, drift)[0]
        yield null_row(case, rule.name, counts)


def power(rng: Rng, n_lines: int, n_before: int = 250) -> Iterator[dict[str, Any]]:
    """A true gain that comes after 250 no-ops on the same line."""
    for name in ("Gaussian", "t, 3 df"):
        noise = NOISES[name]
        accounts = our_lines(rng, noise, n_lines, n_before).accounts
        levels = np.array([evidence.next_level(account) for account in accounts])
        for gain, n_allowed in ((2.0, 20), (1.0, 80), (0.5, 80)):
            passed = t_of(noise(rng, (n_lines, N_SCREEN)) + gain) >= MIN_T
            confirmations = Confirmations.of(noise(rng, (n_lines, MAX_PAIRS)) + gain)
            keep, decided, _ = confirmations.end(levels)
            keep &= decided <= n_allowed
            row = {"table": "power", "noise": name, "gain": gain, "n_allowed": n_allowed}
            yield row | {
                "rule": "mendel",
                **proportion(int((keep & passed).sum()), n_lines),
                "given_screen": float(keep[passed].mean()),
                "median_pairs": float(np.median(decided[keep])) if keep.any() else None,
                "median_begun": float(np.median([a.n_begun for a in accounts])),
            }
            for rule in FIELD:
                late = lambda i, gain=gain: gain if i == n_before else 0.0  # noqa: E731
                n_true = rule.lines(rng, noise, n_lines, late, n_candidates=n_before + 1)[1]
                yield row | {
                    "rule": rule.name,
                    **proportion(int(n_true.sum()), n_lines),
                    "n_allowed": rule.n_scores,
                }


def mixed(rng: Rng, n_lines: int, good: float = 0.1, gain: float = 1.5) -> Iterator[dict[str, Any]]:
    """One candidate in ten is truly better: what is found, and how much of it is false."""
    noise, n_good = NOISES["Gaussian"], N_CANDIDATES * good
    lines = our_lines(rng, noise, n_lines, N_CANDIDATES, good, gain)
    n_false, n_all = np.array(lines.n_false), np.array(lines.n_kept)
    results = {"mendel": (n_false, n_all - n_false)}
    for rule in FIELD:
        truth: Callable[[int], Floats] = lambda _: gain * (rng.uniform(size=n_lines) < good)  # noqa: E731
        results[rule.name] = rule.lines(rng, noise, n_lines, truth)
    for name, (false, true) in results.items():
        yield {
            "table": "mixed",
            "rule": name,
            "false_discovery_rate": float((false / np.maximum(false + true, 1)).mean()),
            "found": float(true.mean() / n_good),
            "n": n_lines,
        }


def broken(rng: Rng, n: int) -> Iterator[dict[str, Any]]:
    """Challengers 3 sigma better wherever they have a score, but one round is broken."""
    n_pairs = N_SCREEN + MAX_PAIRS
    for name in ("NaN", "+inf", "-inf of the champion", "missing", "constant"):
        n_kept = dict.fromkeys(["mendel", *(rule.name for rule in FIELD)], 0)
        for _ in range(n):
            scores, baseline = 3 + rng.normal(size=n_pairs), rng.normal(size=n_pairs)
            at = int(rng.integers(0, N_SCREEN + 8))  # before a gain of 3 sigma is kept
            if name in ("NaN", "+inf"):
                scores[at] = math.nan if name == "NaN" else math.inf
            elif name == "-inf of the champion":
                baseline[at] = -math.inf
            elif name == "missing":
                scores = scores[:at]
            else:
                scores[:] = 3.0
            n_kept["mendel"] += real(Account(), scores, baseline)[0]
            for rule in FIELD:  # they see the broken score and its neighbours
                seen = slice(at, at + rule.n_scores)
                if name != "missing":  # they have no answer to it
                    n_kept[rule.name] += bool(rule.beats(scores[seen], baseline[seen]))
        for rule_name, k in n_kept.items():
            if name != "missing" or rule_name == "mendel":
                yield {"table": "broken", "case": name, "rule": rule_name, "kept": k, "n": n}


def gates(rng: Rng, n: int, n_examples: int = 1000) -> Iterator[dict[str, Any]]:
    """Not worse by more than 2 % on 0/1 examples, at a level of 5 %."""
    margin, level = 0.02, 0.05
    for name, wins, losses in (("equal", 0.01, 0.01), ("worse by the margin", 0.0, margin)):
        kept = symmetric = 0
        for _ in range(n):
            u = rng.uniform(size=n_examples)
            gains = np.where(u < wins, 1.0, np.where(u > 1 - losses, -1.0, 0.0))
            baseline = np.where(gains > 0, 0.0, 1.0)
            rounds = (Result((1.0,), (0.0,)), Result(tuple(baseline + gains), tuple(baseline)))
            told = replace(TRIAL, results=rounds, level=level)
            kept += judge.noninferiority(told, Account(), margin=margin, max_pairs=n_examples).keep
            symmetric += bool((evidence.e_process(gains + margin) >= 1 / level).any())
        for rule, k in (("mendel", kept), ("e_process + margin", symmetric)):
            yield {"table": "gate", "case": name, "rule": rule, **proportion(k, n)}


def timing(rng: Rng, n: int) -> Iterator[dict[str, Any]]:
    for n_pairs in (0, 8, 40, 80, 2000):
        rounds = [Result((1.0, 2.0, 2.5, 3.1), (0.0, 1.1, 1.2, 2.0))]
        if n_pairs:
            both = rng.normal(size=(2, n_pairs)) + np.array([[0.2], [0.0]])
            rounds.append(Result(tuple(both[0]), tuple(both[1])))
        told = replace(TRIAL, results=tuple(rounds), level=1e-9 if n_pairs else None)
        times = []
        for _ in range(max(20, n // max(1, n_pairs))):
            began = time.perf_counter()
            judge.superiority(told, Account(), max_pairs=max(80, n_pairs))
            times.append(time.perf_counter() - began)
        what = f"confirmation at {n_pairs} pairs" if n_pairs else "screen of 4 pairs"
        yield {"table": "time", "case": what, "microseconds": 1e6 * float(np.median(times))}


# printing


def show(rows: list[dict[str, Any]]) -> None:
    print("\nNo-ops kept: 500 no-ops a line (the shares must not exceed 5 % in rows not marked *)")
    print(f"{'noise':32}{'rule':16}{'lines with a false keep [95 %]':>34}{'per line':>10}{'n':>7}")
    for row in (r for r in rows if r["table"] == "null"):
        star = " *" if "skew" in row["case"] or "log-normal" in row["case"] else ""
        ci = f"{row['share']:8.2%} [{row['low']:.2%}, {row['high']:.2%}]"
        print(f"{row['case'] + star:32}{row['rule']:16}{ci:>34}{row['per_line']:10.3f}{row['n']:7}")
    print("* mean 0 and skew: outside the judge's null. It claims nothing there.")
    print("\nPairs that mendel spends on a no-op, screen and confirmation, on average:")
    for row in (r for r in rows if "pairs_per_no_op" in r):
        print(f"  {row['case']:30}{row['pairs_per_no_op']:6.2f}")
    print("\nTrue gain after 250 no-ops on the line: probability that it is kept")
    print(
        f"{'noise':10}{'gain':>6}  {'rule':16}{'pairs <=':>9}{'kept [95 %]':>26}"
        f"{'given screen':>14}{'median pairs':>14}"
    )
    for row in (r for r in rows if r["table"] == "power"):
        ci = f"{row['share']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        given = f"{row['given_screen']:.3f}" if "given_screen" in row else ""
        median = f"{row['median_pairs']:g}" if row.get("median_pairs") else ""
        print(
            f"{row['noise']:10}{row['gain']:6g}  {row['rule']:16}{row['n_allowed']:9}{ci:>26}"
            f"{given:>14}{median:>14}"
        )
    print("\nOne candidate in ten better by 1.5 sigma, 500 a line")
    print(f"{'rule':16}{'false discovery rate':>22}{'found':>10}")
    for row in (r for r in rows if r["table"] == "mixed"):
        print(f"{row['rule']:16}{row['false_discovery_rate']:22.2%}{row['found']:10.1%}")
    print("\nBroken scores of a challenger that would win: kept")
    for row in (r for r in rows if r["table"] == "broken"):
        print(f"  {row['case']:24}{row['rule']:16}{row['kept']:7} of {row['n']}")
    print("\nNot worse by more than 2 %, 1,000 examples, level 5 %: kept")
    for row in (r for r in rows if r["table"] == "gate"):
        ci = f"{row['share']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        print(f"  {row['case']:24}{row['rule']:20}{ci:>24}")
    print("\nTime of one verdict, median")
    for row in (r for r in rows if r["table"] == "time"):
        print(f"  {row['case']:32}{row['microseconds']:10.0f} us")


def demands(rows: list[dict[str, Any]]) -> list[str]:
    """Promises that this run does not bear out."""
    ours = [row for row in rows if row.get("rule") == "mendel"]
    covered = ("Gaussian", "t, 3 df", "baseline")
    nulls = [r for r in ours if r["table"] == "null" and r["case"].startswith(covered)]
    found = {(r["noise"], r["gain"]): r for r in ours if r["table"] == "power"}
    pairs = [found[name, 1.0]["median_pairs"] or math.inf for name in ("Gaussian", "t, 3 df")]
    broken = [
        *(f"null, {r['case']}: {r['share']:.2%}" for r in nulls if r["low"] > 0.05),
        *(f"power at {g:g} sigma" for g in (1.0, 2.0) if found["Gaussian", g]["share"] < 0.8),
        *(f"kept {r['case']}" for r in ours if r["table"] == "broken" and r["kept"]),
        *(f"gate, {r['case']}" for r in ours if r["table"] == "gate" and gate_fails(r)),
    ]
    return (
        [*broken, "heavy tails need more than twice the pairs"]
        if pairs[1] > 2 * pairs[0]
        else broken
    )


def gate_fails(row: dict[str, Any]) -> bool:
    return bool(row["share"] < 0.8 if row["case"] == "equal" else row["low"] > 0.05)


def machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    part, began = (10 if options.quick else 1), time.perf_counter()
    rng = np.random.default_rng(options.seed)
    checked = check(rng, 2000 // part)
    print(f"The vectorised judge equals the real one: {checked}")
    rows = [
        *nulls(rng, 1000 // part),
        *drifting(rng, 400 // part),
        *power(rng, 2000 // part),
        *mixed(rng, 300 // part),
        *broken(rng, 1000 // part),
        *gates(rng, 1000 // part),
        *timing(rng, 2000),
    ]
    seconds = time.perf_counter() - began
    show(rows)
    missed = demands(rows)
    print(f"\n{seconds:.0f} s. " + ("Every promise holds." if not missed else f"MISSED: {missed}"))
    if options.out:
        command = " ".join(["python", "benchmarks/judge.py", *sys.argv[1:]])
        result = {"command": command, "machine": machine(), "seconds": seconds}
        result |= {"check": checked, "missed": missed, "rows": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

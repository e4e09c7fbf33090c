"""Does a ledger of five other tasks make a new one quicker? Cold and warm start, paired.

python benchmarks/across.py [--shared FOLDER] [--seeds 5] [--out FILE.json]

Five small tasks fill a ledger; then BANKING77 (40 rows an intent) is designed cold and warm, the
same rows, folds and seed in both. Every round is really trained and measured, by the design
clock, its driver and ledger; the clock on the wall is not: two workers are played one after the
other, each round takes the CPU seconds that it took, and a round that both arms ask for is
trained once. So a busy machine changes neither the order nor the ratio. Training files only.

Of what leads at a moment (highest mean, as if all had run the same folds) the gain is that over
TF-IDF + LinearSVC on the same folds, by all folds that either arm has measured of it. One
seed's leaders differ by what luck there is in 3,080 rows (0.3 points, where 95 % of a gain of
3.5 asks for 0.2), so gains are averaged over seeds at each moment before it is told when an arm
has 95 % of the final gain, which is the higher of the two arms' at the end of their budgets.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy: a worker computes on one thread

from across_tasks import new_task, other_tasks  # noqa: E402

from mendel.clocks.design import ladder  # noqa: E402
from mendel.clocks.design.clock import DesignClock  # noqa: E402
from mendel.clocks.design.ladder import Standing  # noqa: E402
from mendel.clocks.design.prepare import plan, prepare  # noqa: E402
from mendel.clocks.design.request import Request  # noqa: E402
from mendel.clocks.design.run import Run  # noqa: E402
from mendel.driver import Driver  # noqa: E402
from mendel.ledger import Earlier, Ledger  # noqa: E402
from mendel.propose import Past, pasts  # noqa: E402
from mendel.train.baseline import svc  # noqa: E402
from mendel.types import Result, Trial, Turn  # noqa: E402

N_WORKERS = 2
BEGIN_S = 4.0  # reading, sealing, and the workers' imports: the same in both arms
SHARE = 0.95  # of the final gain
ARMS = ("cold", "warm")
Rounds = dict[tuple[str, int], Result]  # candidate, fold -> what was measured


@dataclass
class Played:
    """What time it is in a run that is played, seconds since it began."""

    at_s: float = BEGIN_S


class PlayedClock(DesignClock):
    """The design clock, asked what time it is in the run that is played."""

    def __init__(self, run: Run, ledger: Ledger, played: Played, known: Rounds) -> None:
        super().__init__(run, ledger, math.inf)
        self.played, self.known, self.measuring = played, known, False

    def left_s(self, found: Sequence[Standing]) -> float:
        if self.measuring:
            return math.inf  # a round is never cut short; one that ends too late is not told
        return self.run.spec.budget_s - self.played.at_s - self.closing_s(found)

    def trial(self, trial: Trial) -> Result:
        key = trial.candidate.id, trial.round
        if key not in self.known:
            self.measuring, began = True, time.process_time()
            try:
                result = super().trial(trial)
            finally:
                self.measuring, seconds = False, time.process_time() - began
            self.known[key] = replace(result, cost=replace(result.cost, seconds=seconds))
        return self.known[key]


def play(clock: PlayedClock) -> list[tuple[float, Turn]]:
    """Turn the clock with two workers; returns the rounds told and when, in seconds."""
    began = clock.run.spec.started
    driver = Driver(clock, clock.ledger, lease_s=1e6, now=lambda: began + clock.played.at_s)
    driver.start()
    free = list(range(N_WORKERS))
    busy: list[tuple[float, int, Trial, Result]] = []
    while True:
        while free and clock.left_s(ladder.standings(clock.history.turns())) > 0:
            trial = driver.ask()
            if trial is None:
                break
            result = driver.measure(trial)
            ends_s = clock.played.at_s + result.cost.seconds
            heapq.heappush(busy, (ends_s, free.pop(), trial, result))
        if not busy:
            break
        clock.played.at_s, worker, trial, result = heapq.heappop(busy)
        if clock.left_s(ladder.standings(clock.history.turns())) <= 0:
            break  # what a worker has not told by then, nobody was promised
        driver.tell(trial, result)
        free.append(worker)
    return [(turn.at - began, turn) for turn in clock.history.turns()]


def design(
    request: Request, ledger: Ledger, earlier: Sequence[Past], known: Rounds
) -> tuple[PlayedClock, list[tuple[float, Turn]]]:
    clock = PlayedClock(prepare(plan(request, earlier), ledger), ledger, Played(), known)
    return clock, play(clock)


def curve(
    told: Sequence[tuple[float, Turn]], known: Rounds, beside: Sequence[float]
) -> Iterator[tuple[float, float, str]]:
    """Seconds, gain over the rival of what leads then, and its name, after each round."""
    for i, (at_s, _) in enumerate(told):
        ahead = ladder.leader(ladder.standings([turn for _, turn in told[: i + 1]]))
        folds = [fold for (id, fold) in known if id == ahead.candidate.id]
        gains = [known[ahead.candidate.id, fold].scores[0] - beside[fold] for fold in folds]
        yield at_s, statistics.fmean(gains), ahead.spec.name


def rival(clock: DesignClock) -> list[float]:
    """Accuracy of TF-IDF + LinearSVC on each fold."""
    rows, scores = clock.rows, []
    for fold in range(clock.shape.n_folds):
        train, test = rows.only(rows.folds != fold), rows.only(rows.folds == fold)
        said = svc(train.texts, train.targets)(test.texts)
        hits = [a["label"] == t for a, t in zip(said, test.targets, strict=True)]
        scores.append(statistics.fmean(hits))
    return scores


def pair(seed: int, file: Path, ledger_of_others: Path, folder: Path, budget_s: float) -> Any:
    """Both arms on one seed; which goes first alternates."""
    ready()
    known: Rounds = {}
    others = Ledger(folder=ledger_of_others)
    earlier = pasts(Earlier(others, "design").turns())
    found: dict[str, Any] = {}
    told: dict[str, list[tuple[float, Turn]]] = {}
    for arm in ARMS if seed % 2 == 0 else reversed(ARMS):
        out = folder / f"{arm}-{seed}"
        request = Request(
            "Route bank customers' questions to the right intent",
            file, budget_s=budget_s, seed=seed, out=out / "model",
        )  # fmt: skip
        ledger = Ledger(folder=out)
        clock, told[arm] = design(request, ledger, earlier if arm == "warm" else [], known)
        beside = rival(clock)
        found[arm] = {"why": clock.run.spec.start.why}
        ledger.close()
    others.close()
    curves = {arm: list(curve(told[arm], known, beside)) for arm in told}
    final = max(points[-1][1] for points in curves.values())
    for arm, points in curves.items():
        reached = [at_s for at_s, gain, _ in points if gain >= SHARE * final]
        found[arm] |= {
            "to_95_s": reached[0] if final > 0 and reached else None,
            "final_gain": points[-1][1],
            "leads": points[-1][2],
            "curve": [[round(at_s, 2), round(gain, 5), name] for at_s, gain, name in points],
        }
    return {"seed": seed, "rival": statistics.fmean(beside), "final_gain": final, **found}


def fill_one(words: str, file: Path, home: Path, budget_s: float) -> str:
    """One of the others into the ledger of all."""
    ready()
    ledger = Ledger(folder=home)
    request = Request(words, file, budget_s=budget_s, out=home / f"{file.stem}-model")
    _, told = design(request, ledger, [], {})
    ledger.close()
    ahead = ladder.leader(ladder.standings([turn for _, turn in told]))
    scored = f"{statistics.fmean(ahead.scores):.1%}"
    return f"{words}: {len(told)} rounds, {ahead.spec.name} leads with {scored}"


def ready() -> None:
    """What rounds import, before any is timed."""
    import sklearn.svm  # noqa: F401
    import torch

    torch.set_num_threads(1)


def show(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    print(f"{'seed':>4} {'rival':>7} {'gain':>6} {'cold s':>7} {'warm s':>7}")
    for row in rows:
        cold, warm = (row[arm]["to_95_s"] or math.nan for arm in ARMS)
        gain = f"{100 * row['final_gain']:>6.2f}"
        print(f"{row['seed']:>4} {row['rival']:>7.2%} {gain} {cold:>7.1f} {warm:>7.1f}")
    moments = sorted({point[0] for row in rows for arm in ARMS for point in row[arm]["curve"]})
    means = {
        arm: [statistics.fmean(gain_at(row, arm, at_s) for row in rows) for at_s in moments]
        for arm in ARMS
    }
    final = max(means[arm][-1] for arm in ARMS)
    reached = {
        f"{share:.0%}": {
            arm: next(
                (s for s, g in zip(moments, means[arm], strict=True) if g >= share * final), None
            )
            for arm in ARMS
        }
        for share in (0.8, 0.9, SHARE)
    }
    print(f"mean of {len(rows)} seeds: final gain {100 * final:.2f}")
    for share, times in reached.items():
        cold, warm = (times[arm] or math.nan for arm in ARMS)
        print(f"  {share} of it: cold {cold:.1f} s, warm {warm:.1f} s: {warm / cold:.0%}")
    return {"final_gain": final, "reached_s": reached}


def gain_at(row: dict[str, Any], arm: str, at_s: float) -> float:
    """Of what led then; without any model all that the rival gets right is lost."""
    so_far = [gain for told_s, gain, _ in row[arm]["curve"] if told_s <= at_s]
    return so_far[-1] if so_far else -row["rival"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=40, help="of an intent, in the new task")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds, of the new task")
    parser.add_argument("--others", type=float, default=240.0, help="seconds, of each other task")
    parser.add_argument("--processes", type=int, default=2, help="tasks and seeds at once")
    parser.add_argument("--ledger", type=Path, help="of the others, from an earlier --keep")
    parser.add_argument("--keep", type=Path, help="make the files here, and leave them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        home, seeds = options.ledger or folder / "others", range(options.seeds)
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            if options.ledger is None:
                Ledger(folder=home).close()
                tasks = [
                    (*task, home, options.others) for task in other_tasks(options.shared, folder)
                ]
                for line in pool.map(fill_one, *zip(*tasks, strict=True)):
                    print(line, flush=True)
            file = new_task(options.shared, folder, options.rows)
            jobs = [pool.submit(pair, seed, file, home, folder, options.budget) for seed in seeds]
            rows = [job.result() for job in jobs]
        if not rows:
            return
        found = show(rows)
    if options.out:
        words = f"--seeds {options.seeds} --rows {options.rows}"
        command = f"python benchmarks/across.py {words} --budget {options.budget:g}"
        command += f" --others {options.others:g}"
        facts = {"command": command, "python": platform.python_version()}
        options.out.write_text(json.dumps({**facts, **found, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

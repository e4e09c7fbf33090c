"""Driver and ledger: milliseconds a turn, and what asking costs when 100,000 turns are behind it.

python benchmarks/driver.py [--turns 100000] [--url postgresql+psycopg://...] [--out FILE.json]

A turn is ask + trial + tell of the toy clock, whose trial costs nothing: all of it is ours. The
peer, optuna on SQLite doing ask + tell of as small a trial, runs in the same process if installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.rows import replay
from mendel.types import Candidate, Decision, Kind, Result, Turn, Verdict
from tests.toy import ToyClock

KEEP_EVERY = 100  # of the turns that fill the ledger: a chain of 1,000 champions


def milliseconds(work: Callable[[], object], n: int) -> dict[str, float]:
    times = []
    for _ in range(n):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return {
        "median_ms": statistics.median(times),
        "p95_ms": times[int(0.95 * (n - 1))],
        "max_ms": times[-1],
        "n": n,
    }


def fill(ledger: Ledger, clock: ToyClock, n: int) -> None:
    """Write n turns as the driver would, many to a transaction."""
    champion = ledger.champion(clock.line)
    assert champion is not None
    last = champion.turn
    for begin in range(0, n, 1000):
        with ledger.writing(clock.line) as connection:
            for i in range(begin, min(begin + 1000, n)):
                keep = i % KEEP_EVERY == 0
                candidate = Candidate({"x": float(i)}, "filling", (str(last),))
                verdict = Verdict(Decision.KEEP if keep else Decision.DISCARD, "filled")
                turn = Turn(
                    clock.line, Kind.TRIAL, candidate, Result((float(i),)), verdict, last, f"f{i}"
                )
                written = ledger.append(connection, turn)
                last = written.id if keep else last


def optuna_turns(folder: Path, n: int) -> dict[str, float] | None:
    try:
        import optuna
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", sampler=optuna.samplers.RandomSampler()
    )

    def turn() -> None:
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))

    return milliseconds(turn, n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--url", help="a ledger's URL; default SQLite in a temporary folder")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: dict[str, dict[str, float] | None] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger(options.url, folder)
        clock = ToyClock(folder / "live.json", seed=0)
        driver = Driver(clock, ledger)
        driver.start()
        rows["turn, empty ledger"] = milliseconds(driver.turn, 300)
        rows["turn, optuna on SQLite"] = optuna_turns(folder, 300)
        fill(ledger, clock, options.turns)
        driver.start()
        champion = ledger.champion(clock.line)
        assert champion is not None
        label = f"{options.turns:,} turns"
        rows[f"turn, {label}"] = milliseconds(driver.turn, 300)
        rows[f"ask, {label}"] = milliseconds(driver.ask, 100)
        rows[f"why, {label}, {len(ledger.why(champion.turn)):,} champions"] = milliseconds(
            lambda: ledger.why(champion.turn), 20
        )
        rows[f"newest 30 turns, {label}"] = milliseconds(lambda: ledger.turns(limit=30), 20)
        rows[f"replay of all, {label}"] = milliseconds(lambda: replay(ledger.turns()), 2)
        ledger.close()
    facts = {
        "command": "python " + " ".join(sys.argv),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    print(f"{'what':<48} {'median':>9} {'p95':>9} {'max':>9}  ms")
    for what, row in rows.items():
        numbers = (
            "not installed"
            if row is None
            else "".join(f" {row[k]:>9.2f}" for k in ("median_ms", "p95_ms", "max_ms"))
        )
        print(f"{what:<48}{numbers}")
    if options.out:
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Kill -9 a research run at random moments, resume it, and look: is anything lost or counted twice?

The runs are real `mendel research` processes with real workers and training, of tasks cut short.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mendel.clocks.research.run import Run
from mendel.clocks.research.work import LEASE_S
from mendel.driver import REPLACED
from mendel.ledger import Ledger
from mendel.rows import replay
from mendel.types import Kind, Line, Turn

ASKED = ("--suite", "states", "--share", "0.01", "--trials", "100000", "--workers", "2")
MOST_S = 12.0  # of work before a kill: a few rounds of such trials
STARTING_S = 600.0  # a worker is given so long to lease its first round


def kill(shared: Path, sets: Sequence[str], n_kills: int) -> dict[str, Any]:
    """n_kills of the driver, every second time of its workers first; what was found."""
    chance = random.Random(0)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        seen: list[Turn] = []
        n_rounds_cut = 0
        for n in range(n_kills):
            process = _start(home, resume=n > 0)
            try:
                _until_at_work(home, process)
                time.sleep(chance.uniform(0.0, MOST_S))
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            n_rounds_cut += _in_flight(home)
            seen = look(home, seen)
            print(f"kill {n + 1}: {len(seen)} turns, all once", flush=True)
        return {"kills": n_kills, "turns": len(seen), "rounds cut off": n_rounds_cut}


def look(home: Path, before: Sequence[Turn]) -> list[Turn]:
    """`check` of the newest run of a home."""
    ledger = Ledger(url=f"sqlite:///{home / 'ledger.db'}", folder=home)
    try:
        turns = check(ledger, Run.newest(ledger).line, before)
        first = [t for t in turns if t.trial and not t.round and t.verdict.reason != REPLACED]
        tried = [turn.candidate.id for turn in first]
        assert len(tried) == len(set(tried)), "a candidate was tried twice"
        return turns
    finally:
        ledger.close()


def check(ledger: Ledger, line: Line, before: Sequence[Turn]) -> list[Turn]:
    """All turns; raises AssertionError where one is lost, doubled, or the accounts do not fit."""
    turns = ledger.turns(line)
    assert turns[: len(before)] == list(before), "a turn was lost or changed"
    told = [turn for turn in turns if turn.kind is Kind.TRIAL]
    rounds: dict[str, list[int]] = {}
    for turn in told:
        rounds.setdefault(turn.trial, []).append(turn.round)
    for found in rounds.values():
        assert found == list(range(len(found))), "a round is missing, or was told twice"
    champion = ledger.champion(line)
    assert champion is not None and champion == replay(turns)[line], "the pointer moved alone"
    account = ledger.account(line)
    begun = {turn.trial for turn in told if turn.verdict.level is not None}
    assert account.n_begun == len(begun), "a confirmation was charged twice or never"
    kept = sum(turn.verdict.keep and turn.verdict.level is not None for turn in told)
    assert account.n_kept == kept, "a promotion was counted twice or never"
    return turns


def _start(home: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    asked = ("--resume",) if resume else ASKED
    environment = {**os.environ, "MENDEL_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("MENDEL_LEDGER", None)
    argv = [sys.executable, "-m", "mendel", "research", *asked]
    with (home / "session.log").open("ab") as log:
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)


def _until_at_work(home: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a worker of this sitting has leased a round: its lease is younger than the sitting."""
    began, limit = time.time(), time.monotonic() + STARTING_S
    while time.monotonic() < limit:
        assert process.poll() is None, (home / "session.log").read_text()[-2000:]
        if _in_flight(home, since=began):
            return
        time.sleep(0.1)
    raise AssertionError("no worker began")


def _in_flight(home: Path, since: float = 0.0) -> int:
    """Rounds that a worker holds, leased after a time."""
    if not (home / "ledger.db").exists():
        return 0
    ledger = Ledger(url=f"sqlite:///{home / 'ledger.db'}", folder=home)
    try:
        lines = [line for line in ledger.lines() if line.clock == "research"]
        with ledger.reading() as connection:
            rows = [row for line in lines for row in ledger.open_trials(connection, line)]
        return sum(row.deadline - LEASE_S > since for row in rows)
    finally:
        ledger.close()


SECTIONS = {"kills": kill}

"""kill -9 of a research line's workers at any line of ours: nothing is lost, nothing told twice."""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from research_sections.kills import check

from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.run import Run
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.types import Turn

from . import research_toy as toy
from .killing import fork, kill_self_at_line

OURS = ("driver.py", "ledger.py", "schema.py", "rows.py", "blobs.py", "live.py", "work.py")
RESEARCH = os.path.join("clocks", "research")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("n_kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_9_at_random_lines_loses_and_doubles_nothing(
    n_kills: int, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = Ledger()
    recipes = [toy.recipe(0.0, i) for i in range(1, 2000)]
    recipes[20], recipes[60] = toy.recipe(0.035), toy.recipe(0.07)
    clock, _ = toy.line(ledger, monkeypatch, *recipes, audited=tmp_path / "audits")
    Driver(clock, ledger).start()
    folder = clock.run.folder
    ledger.close()
    chance, acknowledged, seen = random.Random(7), home / "acknowledged", list[Turn]()
    for n in range(n_kills):
        rival = fork(partial(_work, folder, recipes, acknowledged))
        victim = fork(partial(_work, folder, recipes, acknowledged, chance.randrange(20, 4000)))
        _, status = os.waitpid(victim, 0)
        os.kill(rival, signal.SIGKILL)
        os.waitpid(rival, 0)
        assert os.WIFSIGNALED(status), "the victim was to be killed, and ended by itself"
        if n % 10 == 9:
            seen = _look(folder, seen, acknowledged)
    assert len(seen) > n_kills // 4  # how many is a matter of the machine


def _look(folder: Path, before: list[Turn], acknowledged: Path) -> list[Turn]:
    ledger = Ledger()
    run = Run.load(folder)
    Driver(ResearchClock(run, ledger, toy.Listed()), ledger).start()
    turns = check(ledger, run.line, before)
    told = {f"{turn.trial}.{turn.round}" for turn in turns}
    assert set(acknowledged.read_text().split()) <= told, "an acknowledged round was lost"
    clock = ResearchClock(run, ledger, toy.Listed())
    champion = ledger.champion(run.line)
    assert champion is not None and clock.champion().identity == champion.identity
    ledger.close()
    return turns


def _work(folder: Path, recipes: list[Any], acknowledged: Path, die_at: int = 0) -> None:
    if die_at:
        kill_self_at_line(die_at, _is_ours)
    ledger = Ledger()
    clock = ResearchClock(Run.load(folder), ledger, toy.Listed(*recipes))
    driver = Driver(clock, ledger, lease_s=0.5)
    driver.start()
    with acknowledged.open("ab", buffering=0) as out:
        while True:
            trial = driver.ask()
            if trial is None:  # the rival was quicker sixteen times, for we are traced
                continue
            driver.tell(trial, driver.measure(trial))
            out.write(f"{trial.id}.{trial.round}\n".encode())


def _is_ours(file: str) -> bool:
    return file.endswith(OURS) or RESEARCH in file

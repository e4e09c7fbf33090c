"""`mendel research` as a command: real workers, real training, of tasks cut very short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from research_sections.kills import look

from mendel.ledger import Ledger
from mendel.types import Kind

ASKED = ["--suite", "states", "--share", "0.01", "--workers", "2", "--proposer", "random"]


def start(*options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "mendel", "research", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(seen: str, home: Path, limit_s: float = 250.0) -> None:
    """Until the ledger has a turn of the kind."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if (home / "ledger.db").exists():
            ledger = Ledger()
            found = ledger.turns(clock="research", kinds=[Kind(seen)])
            ledger.close()
            if found:
                return
        time.sleep(0.2)
    raise AssertionError(f"no {seen} in {limit_s:.0f} s")


@pytest.mark.slow
def test_a_run_that_is_killed_and_interrupted_resumes_until_its_trials_are_told(home: Path) -> None:
    first = start(*ASKED, "--trials", "1000")
    until("trial", home)
    first.kill()
    first.wait()
    before = look(home, [])
    second = start("--resume")
    time.sleep(20)
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=100)[0]
    assert second.returncode == 0 and "--resume goes on" in said
    between = look(home, before)
    n = len({turn.trial for turn in between if turn.trial})
    third = start("--resume", "--trials", str(n + 1))
    said = third.communicate(timeout=250)[0]
    assert third.returncode == 0, said
    assert f"{n + 1} trials in" in said or f"{n + 2} trials in" in said
    assert "workers trained" in said
    look(home, between)
    assert not any(_is_worker(pid) for pid in _processes()), "a worker outlived its run"


@pytest.mark.parametrize("asked", [["--budget", "0s"], ["--trials", "0"], ["--suite", "recal"]])
def test_what_cannot_be_is_refused_in_words_and_nothing_is_begun(
    asked: list[str], home: Path
) -> None:
    process = start(*asked)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 2
    assert "Wanted" in said or "Did you mean" in said
    assert "Traceback" not in said
    assert not (home / "research").exists()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_worker(pid: int) -> bool:
    """Of a home of this test: others may run their own."""
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"mendel.clocks.research.work" in said and os.environ["MENDEL_HOME"].encode() in said

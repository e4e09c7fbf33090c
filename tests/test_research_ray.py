"""`mendel research --ray` on a real cluster of two nodes: one is killed, then the driver is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from research_sections.kills import look

from mendel.clocks.research.clock import trials_of
from mendel.clocks.research.run import Run
from mendel.ledger import Ledger

ASKED = ["--suite", "states", "--share", "0.01", "--proposer", "random"]
STORE_BYTES = 80_000_000  # the least that Ray takes is 75 MB; two strings need none
LIMIT_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head of one CPU; its nodes have this home's audits and know no run."""
    pytest.importorskip("ray", reason="needs a Ray cluster: pip install 'mendel[ray]'")
    short = tempfile.mkdtemp(prefix="ray")  # sockets lie there, and a socket's path is short
    known = {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    node = dict(num_cpus=1, object_store_memory=STORE_BYTES)
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.one_more = lambda: made.add_node(wait=True, **node)
    yield made
    made.shutdown()
    shutil.rmtree(short, ignore_errors=True)


def start(address: str, *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "mendel", "research", "--ray", address, *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < LIMIT_S, "it did not come to that"
        time.sleep(0.2)


def in_flight(home: Path) -> set[str]:
    """Ids of the trials that the driver has out."""
    if not (home / "ledger.db").exists() or not list(home.glob("research/*/run.json")):
        return set()
    ledger = Ledger()
    with ledger.reading() as connection:
        found = {row.id for row in ledger.open_trials(connection, Run.newest(ledger).line)}
    ledger.close()
    return found


def told(home: Path) -> list[str]:
    ledger = Ledger()
    found = [turn.trial for turn in trials_of(ledger.turns(clock="research"))]
    ledger.close()
    return found


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_killed_node_and_a_killed_driver_lose_nothing_and_double_nothing(
    cluster: Any, home: Path
) -> None:
    second = cluster.one_more()
    first = start(cluster.address, *ASKED, "--trials", "1000")
    until(lambda: len(in_flight(home)) == 2 and len(told(home)) >= 3, first)

    at_work = in_flight(home)
    cluster.remove_node(second, allow_graceful=False)  # kill -9 of all its processes
    until(lambda: at_work <= set(told(home)), first)  # what the node had was done again
    until(lambda: len(in_flight(home)) <= 1, first)  # as many as there are CPUs now
    cluster.one_more()
    until(lambda: len(in_flight(home)) == 2, first)
    before = look(home, [])
    assert all("lease expired" not in str(turn.result.error) for turn in before)

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    cut = in_flight(home)
    between = look(home, before)
    n = len(told(home)) + 2
    again = start(cluster.address, "--resume", "--trials", str(n))
    said = again.communicate(timeout=LIMIT_S)[0]
    assert again.returncode == 0, said
    turns = look(home, between)
    assert len(told(home)) == n and cut <= set(told(home))
    assert all("lease expired" not in str(turn.result.error) for turn in turns)
    assert not any("no result" in str(turn.result.error) for turn in turns)
    assert f"{n} trials in" in said

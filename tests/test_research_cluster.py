"""A machine of a cluster measures what a local worker would, and is believed no more than one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mendel.clocks.research import bench as bench_module
from mendel.clocks.research import cluster
from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.cluster import Reply, Sent, Tasks, measured
from mendel.clocks.research.measure import Measured
from mendel.clocks.research.request import Request, prepared
from mendel.clocks.research.session import research
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.rows import result_from
from mendel.types import InputError, Kind, Result, Turn

from . import research_toy as toy

AT_WORK = "seconds"  # the one fact that no two measurements share


@pytest.fixture
def driver(line: Any) -> Driver:
    """Of a line with a gain to find, at its start."""
    clock, _ = line(toy.recipe(0.0, 1), toy.recipe(0.035, 2), toy.recipe(0.0, 3))
    driver = Driver(clock, clock.ledger)
    driver.start()
    return driver


@pytest.fixture
def tasks(driver: Driver) -> Tasks:
    """The crew without its cluster: what it sends and takes are strings."""
    pytest.importorskip("ray", reason="the crew needs ray: pip install 'mendel[ray]'")
    clock = driver.clock
    assert isinstance(clock, ResearchClock)
    return Tasks(clock)


def order(tasks: Tasks) -> Sent:
    trial = tasks._driver.ask()
    assert trial is not None
    return tasks._order(trial)


def told(tasks: Tasks) -> list[Turn]:
    return tasks._clock.ledger.turns(tasks._clock.line, kinds=[Kind.TRIAL])


def bare(result: Result) -> Result:
    facts = {k: v for k, v in result.facts.items() if k != AT_WORK}
    facts["audit"] = {k: v for k, v in result.facts["audit"].items() if k != "cached"}
    found = replace(result, facts=facts, cost=replace(result.cost, seconds=0.0))
    return result_from(json.loads(json.dumps(cluster.asdict(found))))


def test_a_machine_measures_what_a_local_worker_would(tasks: Tasks) -> None:
    """Races, a screen and confirmations; first far away, then here, on the same trials."""
    stages = []
    while (trial := tasks._driver.ask()) is not None:
        sent = tasks._order(trial)
        far = measured(sent.order)
        here = tasks._driver.measure(trial)
        assert bare(result_from(Reply.from_json(far).result)) == bare(here)
        stages.append(here.facts["stage"])
        tasks._tell(sent, far)
    assert {"race", "screen", "confirm"} <= set(stages)
    assert any(turn.verdict.keep for turn in told(tasks))


def test_an_order_done_twice_says_the_same_and_is_counted_once(tasks: Tasks) -> None:
    sent = order(tasks)
    first, second = (json.loads(measured(sent.order)) for _ in range(2))
    assert bare(result_from(first["result"])) == bare(result_from(second["result"]))
    assert first["kept"] == second["kept"] != {}
    tasks._tell(sent, json.dumps(first))
    tasks._tell(sent, json.dumps(second))
    assert len(told(tasks)) == 1


def test_machines_without_a_folder_measure_nothing_twice(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion, which every challenger meets on the same seeds, least of all."""
    trained = list[tuple[str, str, int, int]]()
    whole = bench_module.measure

    def counted(recipe: Any, factor: float, proxy: Any, seed: int, asked: int) -> Measured:
        trained.append((recipe.hash, proxy.name, proxy.n_steps, seed))
        return whole(recipe, factor, proxy, seed, asked)

    monkeypatch.setattr(bench_module, "measure", counted)
    monkeypatch.setattr(bench_module, "sweep", lambda recipe, *rest: counted(recipe, 1.0, *rest))
    while (trial := tasks._driver.ask()) is not None:
        sent = tasks._order(trial)
        tasks._tell(sent, measured(sent.order))
    assert len({turn.trial for turn in told(tasks)}) == 3
    assert len(trained) == len(set(trained)) > 0


@pytest.mark.parametrize(
    "said",
    ["", "[]", "{", 7, None, '{"result": {}}', '{"result": 1, "kept": {}, "trained_s": 0}',
     '{"result": {"scores": "abc"}, "kept": {}, "trained_s": 0}',
     '{"result": {"score": [1]}, "kept": {}, "trained_s": 0}',
     '{"result": {"scores": [1.0], "baseline": [0.0]}, "kept": {}, "trained_s": 0}',
     '{"result": {}, "kept": {}, "trained_s": -1}', '{"result": {}, "kept": {}, "trained_s": NaN}'],
)  # fmt: skip
def test_garbage_is_a_turn_that_loses(said: object, tasks: Tasks) -> None:
    sent = order(tasks)
    tasks._tell(sent, said)
    [turn] = told(tasks)
    assert not turn.verdict.keep
    assert "failed" in turn.verdict.reason or "not believed" in turn.verdict.reason


def test_only_what_was_ordered_is_kept_and_the_first_that_came_stays(tasks: Tasks) -> None:
    sent = order(tasks)
    reply = json.loads(measured(sent.order))
    bench = tasks._clock.bench
    key = next(iter(reply["kept"]))
    mine = bench.read(key)
    assert mine is None
    foreign = "0" * 64
    lie = {"factor": 1.0, "score": 0.5}
    tasks._keep(sent.keys, Reply.parse({**reply, "kept": {foreign: lie}}).kept)
    assert bench.read(foreign) is None
    tasks._keep(sent.keys, Reply.parse({**reply, "kept": {key: {**lie, "score": 1.5}}}).kept)
    tasks._keep(sent.keys, Reply.parse({**reply, "kept": {key: {**lie, "factor": 9.0}}}).kept)
    assert bench.read(key) is None
    tasks._keep(sent.keys, Reply.parse(reply).kept)
    first = bench.read(key)
    assert first == Measured.parse(reply["kept"][key])
    tasks._keep(sent.keys, Reply.parse({**reply, "kept": {key: lie}}).kept)
    assert bench.read(key) == first


def test_a_machine_with_another_mendel_refuses(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = order(tasks)
    monkeypatch.setattr(cluster, "code", lambda: "0" * 64)
    with pytest.raises(RuntimeError, match="another mendel"):
        measured(sent.order)


def test_a_machine_needs_no_ledger_of_its_own_and_leaves_nothing(
    tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = order(tasks)
    before = {file for file in tmp_path.rglob("*") if "audits" not in file.parts}
    monkeypatch.setenv("MENDEL_LEDGER", "sqlite:////nowhere/at/all.db")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Reply.from_json(measured(sent.order)).result["error"] is None
    assert {file for file in tmp_path.rglob("*") if "audits" not in file.parts} == before


# -- bad input --


def test_a_cluster_is_given_neither_workers_nor_a_text_of_this_machine(
    ledger: Ledger, tmp_path: Path
) -> None:
    for request in (
        Request(ray="auto", n_workers=2),
        Request(ray="auto", suite="text", text=tmp_path),
    ):
        with pytest.raises(InputError, match="Leave out"):
            prepared(request, ledger)
    (tmp_path / "words.txt").write_text("so it goes, on and on. " * 4000)
    run = prepared(Request(suite="text", text=tmp_path), ledger)
    with pytest.raises(InputError, match="Leave out --ray"):
        prepared(Request(ray="auto", resume=True), ledger)
    assert run.folder.exists()


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "ray://host:10001", "h:99999"])
def test_an_address_that_is_none_says_what_one_is(address: str, ledger: Ledger) -> None:
    with pytest.raises(InputError, match=r"is no address.*ray start --head.*--ray auto"):
        research(Request(ray=address), ledger)
    assert not (ledger.folder / "research").exists()


def test_where_nobody_listens_it_says_how_to_start_a_cluster(ledger: Ledger) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=r"nobody answers.*ray start --head"):
            research(Request(ray=address), ledger)
    assert not (ledger.folder / "research").exists()


def test_a_port_of_something_else_is_told_from_a_cluster_s_at_once(ledger: Ledger) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"is no Ray.*ray start --head"):
            research(Request(ray=f"127.0.0.1:{server.server_port}"), ledger)
        server.shutdown()
    assert not (ledger.folder / "research").exists()


def test_without_the_package_it_says_which_extra(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed.*\[design,research,ray\]"):
        research(Request(ray="auto"), ledger)


def test_the_help_does_not_import_ray() -> None:
    code = (
        "import sys; sys.argv = ['mendel', 'research', '--help']\n"
        "from mendel.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--ray" in done.stdout

"""Trials on the machines of a Ray cluster: the session leases and tells, a task only measures.

ask -> Order -> (task on any machine: the clock's own trial) -> Reply -> scores kept -> tell

Ray carries two strings of JSON and nothing else of ours. A task is a function of its order alone,
so that one whose machine died is sent again, and the ledger counts a round once whoever tells it.
A machine knows no folder of the run. The order brings the rates and the scores of both sides that
the run has kept: screens, which claim nothing, need not measure a champion again for each
challenger. What a claim rests on, a confirmation, is never kept: both sides are measured side by
side in one task, so on one machine. What comes back is judged as any worker's is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field

from mendel.blobs import write_atomically
from mendel.clocks.research.clock import ResearchClock, recipe_of
from mendel.clocks.research.measure import FACTORS, Measured
from mendel.clocks.research.run import Run, RunSpec
from mendel.clocks.research.summary import Times
from mendel.clocks.research.work import LEASE_S
from mendel.clocks.workers import THREADS
from mendel.driver import LOST, Driver
from mendel.ledger import Ledger
from mendel.rows import result_from
from mendel.spec import Recipe, Spec, SpecError
from mendel.types import TRIAL, Candidate, Champion, Digest, InputError, Result, Trial, digest

MAX_ATTEMPTS = 3  # of a task whose machine was lost; then its trial has failed
MAX_LOST = 5  # trials in a row that were lost for good: then it is not the trials
MAX_ASKED = 8  # between two looks at what came back: a proposal takes a while
CONNECT_S = 5.0
# Ray's head speaks HTTP/2 (RFC 9113, 3.4): both sides begin with settings, a frame of this type
SETTINGS = b"\x04"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0\0\0\0\0"


class Order(Spec):
    """All that a machine is told."""

    code: Digest  # of the driver's mendel
    run: RunSpec
    named: tuple[Digest, ...]  # the driver's menu
    trial: str
    round: int
    mine: Recipe
    its: Recipe
    champion: int  # the turn that made it
    since: str  # the trial on whose seeds it is met
    kept: dict[Digest, Measured]  # of both sides, as far as the run knows


class Reply(Spec):
    """All that it says; the result as the ledger writes one."""

    result: dict[str, Any]
    kept: dict[Digest, Measured]  # what was measured and may be kept
    trained_s: float = Field(ge=0)


def measured(order: str) -> str:
    """One round, on whatever machine this is; JSON of an Order in, of a Reply out.

    raises   RuntimeError where this machine has another mendel than the driver
    """
    asked = Order.from_json(order)
    if asked.code != code():
        raise RuntimeError(f"{socket.gethostname()} has another mendel, or another Python")
    with TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", folder)  # empty, and stays so
        try:
            return json.dumps(_replied(asked, Run(folder, asked.run), ledger))
        finally:
            ledger.close()


def _replied(asked: Order, run: Run, ledger: Ledger) -> dict[str, Any]:
    clock = ResearchClock(run, ledger)
    clock.named, clock.since = set(asked.named), {asked.champion: asked.since}
    for key, each in asked.kept.items():
        clock.bench.write(key, each)
    champion = Champion(Candidate(asked.its.to_dict()), turn=asked.champion)
    rounds = (Result(),) * asked.round
    trial = Trial(asked.trial, run.line, Candidate(asked.mine.to_dict()), champion, rounds)
    result = Driver(clock, ledger).measure(trial)
    new = {key: found for key in clock.kept_keys(trial) if (found := clock.bench.read(key))}
    return {
        "result": asdict(result),
        "kept": {key: found.to_dict() for key, found in new.items() if key not in asked.kept},
        "trained_s": clock.bench.trained_s,
    }


@functools.cache
def code() -> Digest:
    """Of mendel's sources and the Python beneath: what two machines must share to be compared."""
    root = Path(__file__).parents[2]
    files = sorted(root.glob("**/*.py"))
    text = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return digest([platform.python_version_tuple()[:2], text])


@contextmanager
def joined(address: str) -> Iterator[None]:
    """This process is a driver of the cluster.

    raises   InputError that says what to do: no Ray here, nobody at the address, another version
    """
    _check(address)
    try:
        import ray
    except ImportError:
        raise InputError(
            "--ray needs the package ray, which is not installed. Wanted it here and on all "
            "machines of the cluster. Run: pip install -c constraints.txt '.[design,research,ray]'."
        ) from None
    alone = {**dict.fromkeys(THREADS, "1"), TRIAL: "1"}  # as for a local worker
    try:
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": alone},
        )
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"--ray {address}: {_first_line(error)} {START.format(address=address)}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


START = (
    "Wanted a Ray cluster that this machine is part of. Where there is none: "
    "ray start --head --port=6379, and --ray HOST:6379; on every other machine, this one too: "
    "ray start --address=HOST:6379. `ray status --address {address}` shows it."
)


def _check(address: str) -> None:
    """Ray itself tries for minutes; raises InputError where nobody listens."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host or not 0 < int(port) < 65536:
        raise InputError(
            f"--ray {address!r} is no address. {START.format(address='HOST:6379')} "
            "Or say --ray auto for the one that runs here."
        )
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S) as line:
            line.sendall(HELLO)
            answer = line.recv(9)
    except OSError as error:
        words = f"--ray {address}: nobody answers ({error})."
        raise InputError(f"{words} {START.format(address=address)}") from None
    if answer[3:4] != SETTINGS:
        words = f"--ray {address}: what answers there is no Ray (its dashboard, or another's port)."
        raise InputError(f"{words} {START.format(address=address)}")


@dataclass(frozen=True)
class Sent:
    """An order on its way."""

    trial: Trial
    order: str
    keys: frozenset[Digest]  # of what it may have kept
    attempt: int = 1


class Tasks:
    """The crew of a cluster: as many tasks in flight as it has CPUs at the moment."""

    def __init__(self, clock: ResearchClock) -> None:
        import ray

        self._ray, self._clock = ray, clock
        self._driver = Driver(clock, clock.ledger, lease_s=LEASE_S)
        # Ray's own retries are not bounded where memory is short, and say nothing
        self._measure = ray.remote(num_cpus=1, max_retries=0)(measured)
        self._sent: dict[Any, Sent] = {}
        self._n_lost = 0
        self._times, self._seen = Times(), time.perf_counter()

    def tended(self) -> bool:
        """Tell what came back, send anew what was lost, and ask for more where CPUs are free.

        raises   InputError where machines cannot run mendel
        """
        ready: list[Any] = []
        if self._sent:
            ready, _ = self._ray.wait([*self._sent], num_returns=len(self._sent), timeout=0)
        for task in ready:
            self._taken(task, self._sent.pop(task))
        n_cpus = self._n_cpus()
        for _ in range(min(MAX_ASKED, n_cpus - len(self._sent))):
            if not self._asked():
                break
        self._note(n_cpus)
        return bool(self._sent)

    def end(self) -> None:
        for task in self._sent:
            self._ray.cancel(task, force=True)
        self._sent.clear()

    def _n_cpus(self) -> int:
        """One at least: a cluster may be about to grow."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0)))

    def _asked(self) -> bool:
        """Lease a round and send it; False where there is nothing to do now."""
        began = time.perf_counter()
        trial = self._driver.ask()
        if trial is not None:
            self._send(self._order(trial))
        self._times.asked += time.perf_counter() - began
        self._times.proposed = self._clock.proposing_s
        return trial is not None

    def _order(self, trial: Trial) -> Sent:
        clock, keys = self._clock, self._clock.kept_keys(trial)
        order = Order(
            code=code(),
            run=clock.run.spec,
            named=tuple(sorted(clock.named)),
            trial=trial.id,
            round=trial.round,
            mine=recipe_of(trial.candidate),
            its=recipe_of(trial.champion.candidate),
            champion=trial.champion.turn,
            since=clock.since.get(trial.champion.turn, ""),
            kept={key: each for key in keys if (each := clock.bench.read(key))},
        )
        return Sent(trial, json.dumps(order.to_dict()), frozenset(keys))

    def _send(self, sent: Sent) -> None:
        self._sent[self._measure.remote(sent.order)] = sent

    def _taken(self, task: Any, sent: Sent) -> None:
        errors = self._ray.exceptions
        try:
            said = self._ray.get(task)
        except errors.RayTaskError as error:  # not the trial's: its own are in the reply
            raise InputError(
                f"a machine of the cluster cannot run a trial: {_first_line(error.cause)}. Wanted "
                "the mendel of this machine with the extras design, research and ray, and the same "
                "Python, on each. Install it there, then go on with --resume."
            ) from None
        except errors.RayError as error:
            self._lose(sent, error)
        else:
            self._n_lost = 0
            self._tell(sent, said)

    def _lose(self, sent: Sent, error: Exception) -> None:
        """Its machine died, or its process: the same order again, to whoever is free."""
        if sent.attempt < MAX_ATTEMPTS:
            self._send(Sent(sent.trial, sent.order, sent.keys, sent.attempt + 1))
            return
        self._n_lost += 1
        if self._n_lost >= MAX_LOST:
            raise InputError(
                f"{self._n_lost} trials in a row were lost, each {MAX_ATTEMPTS} times, the last "
                f"by: {_first_line(error)}. Wanted machines that live. `ray status` shows them; "
                "then go on with --resume."
            )
        self._driver.tell(sent.trial, Result(error=LOST.format(n=MAX_ATTEMPTS)))

    def _tell(self, sent: Sent, said: object) -> None:
        """Keep first, so that a round that was told is never without its scores."""
        began = time.perf_counter()
        try:
            reply = Reply.from_json(said if isinstance(said, str) else repr(said))
            result = result_from(reply.result)
        except (SpecError, TypeError, ValueError) as error:
            self._driver.tell(sent.trial, Result(error=f"a machine said no result: {error}"))
            return
        self._keep(sent.keys, reply.kept)
        self._driver.tell(sent.trial, result)
        self._times.told += time.perf_counter() - began
        self._times.trained += reply.trained_s
        self._times.measured += result.cost.seconds
        self._times.n_rounds += 1

    def _keep(self, keys: frozenset[Digest], kept: dict[Digest, Measured]) -> None:
        """What the order could have measured, and nobody before it: the first that came stays."""
        bench = self._clock.bench
        for key in sorted(keys & kept.keys()):
            each = kept[key]
            plausible = each.factor in FACTORS and (each.score is None or each.score <= 1)
            if plausible and bench.read(key) is None:
                bench.write(key, each)

    def _note(self, n_cpus: int) -> None:
        """For the report: what the cluster's CPUs did, as workers on this machine note it."""
        now = time.perf_counter()
        self._times.lived += n_cpus * (now - self._seen)
        self._seen = now
        file = self._clock.run.folder / "workers" / f"{os.getpid()}.json"
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(asdict(self._times)).encode())


def _first_line(error: object) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

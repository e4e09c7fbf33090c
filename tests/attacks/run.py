"""Runs the attacks on one backend and looks for harm, in the answer and on the host."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mendel.sandbox import CallError, Outcome, Pool, SandboxError

from . import files, floods, forgery, network, privileges, processes
from .attack import Attack
from .processes import MARK
from .world import World, below, kill, named

ATTACKS: tuple[Attack, ...] = (
    *files.ATTACKS,
    *network.ATTACKS,
    *floods.ATTACKS,
    *processes.ATTACKS,
    *privileges.ATTACKS,
    *forgery.ATTACKS,
)
VERDICTS = CONTAINED, REFUSED, LEAKED, BLUNT = "contained", "refused", "leaked", "blunt"
CLEAN = "def main(i): return {'right': sum([1, 2]) == 3}"
CLEAN_TORCH = """
import builtins, json, torch
def main(i):
    right = torch.add(torch.ones(2), torch.ones(2)).sum().item() == 4
    return {"right": right and builtins.sum([1, 2]) == 3 and json.loads("[1]") == [1]}
"""
SLOW_S = 5.0  # over its limit, on a busy machine
MISTAKES = re.compile(r"^(Name|Syntax|Import|ModuleNotFound|Attribute|Index|Indentation|Key)Error")


@dataclass(frozen=True)
class Found:
    """What became of one attack. `blunt`: it failed by a mistake of its own and proves nothing."""

    attack: Attack
    verdict: str
    why: str
    wall_s: float


class Range:
    """A host and two pools of one kind: most attacks need no torch, and forks without it are fast.

    raises   SandboxError where the kind does not work here
    """

    def __init__(self, backend: str) -> None:
        self.world = World()
        walls: dict[str, Any] = {"readable": (self.world.shown,)}
        self._walls = walls | ({"unsafe": True} if backend == "unsafe" else {"backend": backend})
        try:
            self._light = Pool(preload=("numpy", "safetensors.numpy"), **self._walls)
        except SandboxError:
            self.world.close()
            raise

    @cached_property
    def _heavy(self) -> Pool:
        return Pool(preload=("torch",), **self._walls)

    def attack(self, chosen: Attack) -> Found:
        return attack(self._heavy if with_torch(chosen) else self._light, self.world, chosen)

    def close(self) -> None:
        self._light.close()
        if "_heavy" in vars(self):
            self._heavy.close()
        self.world.close()


def with_torch(chosen: Attack) -> bool:
    return isinstance(chosen.code, str) and "torch" in chosen.code


def attack(pool: Pool, world: World, chosen: Attack) -> Found:
    world.reset()
    begun = time.monotonic()
    try:
        outcome, answer = perform(pool, world, chosen)
    except SandboxError as error:
        return Found(chosen, REFUSED, str(error), 0.0)
    wall_s = time.monotonic() - begun
    leaks = [
        *leaks_of(chosen, outcome, answer, wall_s),
        *left_behind(pool),
        *dirt(pool, chosen),
        *world.harm(),
    ]
    verdict = LEAKED if leaks else CONTAINED
    if not leaks and MISTAKES.match((outcome.stderr.strip().splitlines() or [""])[-1]):
        verdict = BLUNT
    return Found(chosen, verdict, "; ".join(leaks) or f"{outcome.ended}. {outcome.stderr}", wall_s)


def perform(pool: Pool, world: World, chosen: Attack) -> tuple[Outcome, Mapping[str, Any]]:
    inputs = world.inputs()
    if not isinstance(chosen.code, str):
        words = [
            word.format(**inputs) if "{" in word and "()" not in word else word
            for word in chosen.code
        ]
        outcome = pool.run(words, limits=chosen.limits)
    elif not chosen.session:
        outcome = pool.run(chosen.source(), inputs, chosen.limits)
    else:
        return in_session(pool, inputs, chosen)
    return outcome, outcome.result or {}


def in_session(
    pool: Pool, inputs: Mapping[str, Any], chosen: Attack
) -> tuple[Outcome, Mapping[str, Any]]:
    answer: Mapping[str, Any] = {}
    session = pool.session(chosen.source(), chosen.limits)
    try:
        for _ in range(chosen.session):
            answer, _ = session.call(inputs)
    except CallError:
        answer = {}
    return session.close(), answer


def leaks_of(
    chosen: Attack, outcome: Outcome, answer: Mapping[str, Any], wall_s: float
) -> Iterable[str]:
    if answer.get("got"):
        yield f"it got {answer['got']!r:.100}"
    if chosen.ends and outcome.ended not in chosen.ends:
        yield f"it ended with {outcome.ended}: {outcome.stderr[-200:]}"
    if wall_s > chosen.limits.wall_s + SLOW_S:
        yield f"it took {wall_s:.1f} s"
    if said := chosen.proof(outcome):
        yield said


def left_behind(pool: Pool) -> Iterable[str]:
    """Processes of the trial, under the warden or anywhere."""
    left: list[int] = []
    for _ in range(50):
        left = [*named(MARK), *below(pool.pid)]
        if not left:
            break
        time.sleep(0.01)  # the supervisor itself may be on its way out
    if left:
        kill(left)
        yield f"processes {left} go on"


def dirt(pool: Pool, chosen: Attack) -> Iterable[str]:
    """What the next trial has of this one."""
    found = pool.run(CLEAN_TORCH if with_torch(chosen) else CLEAN)
    if not (found.ok and found.result and found.result["right"]):
        yield f"the next trial is not clean: {found.ended} {found.stderr[-300:]}"


def count(found: Iterable[Found]) -> dict[str, dict[str, int]]:
    """Verdicts by class."""
    table: dict[str, dict[str, int]] = {}
    for one in found:
        row = table.setdefault(one.attack.kind, {"attacks": 0})
        row["attacks"] += 1
        row[one.verdict] = row.get(one.verdict, 0) + 1
    return table


def main() -> None:
    """python -m tests.attacks.run bubblewrap|landlock: what is not contained, and the counts."""
    ground = Range(sys.argv[1])
    found = [ground.attack(one) for one in ATTACKS]
    ground.close()
    bad = [one for one in found if one.verdict in (LEAKED, BLUNT)]
    for one in bad:
        print(f"{one.verdict}: {one.attack.kind}, {one.attack.name}: {one.why[-300:]}")
    print(json.dumps({v: sum(f.verdict == v for f in found) for v in VERDICTS}))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()

"""The sandbox: what a trial costs over the same one without walls, and the table of attacks.

A trial is the same small piece of torch on every backend; `unsafe` is the same fork server outside
all walls. Rounds go through the backends in turn; the overhead is the median over rounds of the
difference within a round.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mendel import sandbox
from mendel.sandbox import Pool, SandboxError

ROOT = Path(__file__).parents[2]
KINDS = ("bubblewrap", "landlock")
N_ROUNDS, N_CALLS, N_COLD = 25, 500, 3
ALLOWED_MS = 150
WORK = """
import torch
def main(inputs):
    layer = torch.nn.Linear(64, 64)
    layer(inputs["x"]).square().sum().backward()
    return {"gradient": layer.weight.grad}
"""
ECHO = "def serve(request):\n    return {'y': request['x']}"


def run() -> dict[str, Any]:
    """All measurements; about two minutes."""
    pools = {"unsafe": Pool(unsafe=True, preload=("torch",))}
    missing: dict[str, str] = {}
    for kind in KINDS:
        try:
            pools[kind] = Pool(backend=kind, preload=("torch",))
        except SandboxError as error:
            missing[kind] = str(error)
    try:
        warm, trips = overhead(pools), {kind: round_trip(pool) for kind, pool in pools.items()}
    finally:
        for pool in pools.values():
            pool.close()
    found = {kind: attacks(kind) for kind in KINDS if kind in pools}
    return {
        "failed": any(one["bad"] for one in found.values()),
        "missing": missing,
        "warm": warm,
        "round_trip_ms": trips,
        "cold_s": {kind: cold(kind) for kind in pools} | {"import torch": plain()},
        "attacks": found,
    }


def overhead(pools: dict[str, Pool]) -> dict[str, dict[str, float]]:
    """Milliseconds of one warm trial, from the call to its outcome."""
    x = torch.randn(32, 64)
    times: dict[str, list[float]] = {kind: [] for kind in pools}
    for n in range(N_ROUNDS + 2):
        for kind, pool in pools.items():
            begun = time.perf_counter()
            outcome = pool.run(WORK, {"x": x})
            assert outcome.ok, outcome
            if n >= 2:
                times[kind].append((time.perf_counter() - begun) * 1e3)
    rows = {}
    for kind, own in times.items():
        over = [a - b for a, b in zip(own, times["unsafe"], strict=True)]
        rows[kind] = {
            "median_ms": statistics.median(own),
            "over_ms": statistics.median(over),
            "over_p90_ms": sorted(over)[int(0.9 * len(over))],
        }
    return rows


def round_trip(pool: Pool) -> dict[str, float]:
    """A call of a session with 64 KB of float64, there and back: median and the best tenth."""
    x = torch.randn(8192, dtype=torch.float64)
    times = []
    with pool.session(ECHO) as session:
        for _ in range(N_CALLS):
            begun = time.perf_counter()
            session.call({}, {"x": x})
            times.append((time.perf_counter() - begun) * 1e3)
    return {"median": statistics.median(times), "p10": sorted(times)[N_CALLS // 10]}


def cold(kind: str) -> dict[str, float]:
    """Seconds from nothing to the first outcome, with torch and without."""
    more: dict[str, Any] = {"unsafe": True} if kind == "unsafe" else {"backend": kind}

    def first(preload: tuple[str, ...], code: str) -> None:
        with Pool(preload=preload, **more) as pool:
            assert pool.run(code, {"x": torch.ones(1, 64)} if preload else {}).ok

    empty = "def main(inputs): return {}"
    return {
        "torch": timed(lambda: first(("torch",), WORK)),
        "bare": timed(lambda: first((), empty)),
    }


def plain() -> float:
    return timed(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True))


def timed(work: Callable[[], object]) -> float:
    times = []
    for _ in range(N_COLD):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def attacks(kind: str) -> dict[str, Any]:
    """Counts by class, and what was not contained or refused."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests.attacks import run as suite

    ground = suite.Range(kind)
    try:
        found = [ground.attack(one) for one in suite.ATTACKS]
    finally:
        ground.close()
    bad = [f for f in found if f.verdict in (suite.LEAKED, suite.BLUNT)]
    return {
        "classes": suite.count(found),
        "bad": [f"{f.attack.kind}, {f.attack.name}: {f.verdict}: {f.why[-300:]}" for f in bad],
        "seconds": sum(f.wall_s for f in found),
    }


def table(results: dict[str, Any]) -> str:
    """The rows of `run` as markdown."""
    lines = [
        f"Walls: {sandbox.backend()}. One warm trial (Linear 64 forward and backward, torch",
        f"loaded), {N_ROUNDS} rounds; allowed over unprotected: {ALLOWED_MS} ms.",
        "",
        "| backend | warm trial | over unprotected | 90 % | round trip 64 KB | cold, torch "
        "| cold |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, row in results["warm"].items():
        cold_s, trip = results["cold_s"][kind], results["round_trip_ms"][kind]["median"]
        over = "" if kind == "unsafe" else f"{row['over_ms']:.0f} ms"
        late = "" if kind == "unsafe" else f"{row['over_p90_ms']:.0f} ms"
        lines.append(
            f"| {kind} | {row['median_ms']:.0f} ms | {over} | {late} | {trip:.2f} ms "
            f"| {cold_s['torch']:.1f} s | {cold_s['bare']:.2f} s |"
        )
    lines += ["", f"`python -c 'import torch'`: {results['cold_s']['import torch']:.1f} s.", ""]
    lines += [f"{kind} does not work here: {why}" for kind, why in results["missing"].items()]
    return "\n".join([*lines, *_attack_rows(results["attacks"])])


def _attack_rows(found: dict[str, Any]) -> list[str]:
    kinds = list(found)
    lines = [
        "| class | attacks | "
        + " | ".join(f"{k}: contained | refused | leaked" for k in kinds)
        + " |",
        "|---|---|" + "---|---|---|" * len(kinds),
    ]
    sums = {kind: [0, 0, 0] for kind in kinds}
    classes = list(found[kinds[0]]["classes"]) if kinds else []
    for name in classes:
        cells = []
        for kind in kinds:
            row = found[kind]["classes"][name]
            leaked = row.get("leaked", 0) + row.get("blunt", 0)
            three = [row.get("contained", 0), row.get("refused", 0), leaked]
            sums[kind] = [a + b for a, b in zip(sums[kind], three, strict=True)]
            cells += [str(n) for n in three]
        lines.append(
            f"| {name} | {found[kinds[0]]['classes'][name]['attacks']} | {' | '.join(cells)} |"
        )
    total = sum(row["attacks"] for row in found[kinds[0]]["classes"].values()) if kinds else 0
    cells = [str(n) for kind in kinds for n in sums[kind]]
    lines.append(f"| all, {len(classes)} classes | {total} | {' | '.join(cells)} |")
    return lines + [line for kind in kinds for line in found[kind]["bad"]]


if __name__ == "__main__":
    print(table(run()))

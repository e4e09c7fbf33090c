"""The runs of `benchmarks/design.py --full`: each task a run of `mendel design`, then its peers.

A file of results that exists is gone on with: what it holds is not run again. Peers run last, two
at once, one thread each; tasks that learn from the same rows share them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from design_peers import PEERS
from design_tasks import Task, tasks

ROOT = Path(__file__).parents[1]
FACTS = ("name", "family", "n_params", "model_bytes", "oof_score", "form", "recipe")


def full(options: argparse.Namespace) -> None:
    """One run of each task and draw; a row each, printed and written as it comes."""
    rows = _so_far(options.out)
    done = {(row["task"], row["draw"]) for row in rows}
    for draw in range(options.draws):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for task in tasks(options.shared, folder, draw):
                wanted = not options.only or task.name in options.only
                if not wanted or (task.name, draw) in done or draw >= task.draws:
                    continue
                row = _run(task, draw, folder, options)
                rows.append(row)
                show(row)
                _write(rows, options.out)
    _add_peers(rows, options)
    for name in dict.fromkeys(row["task"] for row in rows):
        summarise([row for row in rows if row["task"] == name])


def _so_far(file: Path | None) -> list[dict[str, Any]]:
    if file is None or not file.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return rows


def _write(rows: list[dict[str, Any]], file: Path | None) -> None:
    if file:
        file.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


def _run(task: Task, draw: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    out = folder / f"model-{task.name.replace(' ', '-').replace(',', '')}"
    argv = ["design", task.words, "--yes", "--provenance", "collected"]
    argv += [word for flag, path in task.files.items() for word in (flag, str(path))]
    argv += [*task.flags, "--budget", options.budget, "--seed", str(draw), "--out", str(out)]
    started = time.monotonic()
    home = {"MENDEL_HOME": str(folder / f"home-{out.name}")}  # nothing of other tasks helps
    command = [sys.executable, "-m", "mendel", *argv]
    subprocess.run(command, env={**os.environ, **home}, cwd=ROOT, check=True)
    report = json.loads((out / "report.json").read_text())
    sealed, abstention = report["sealed"], report["sealed"].get("abstention")
    return {
        "task": task.name,
        "draw": draw,
        "command": _command(argv, {str(folder): "FOLDER", str(options.shared): "SHARED"}),
        "python": platform.python_version(),
        "metric": report["metric"],
        **{key: sealed[key] for key in ("n", "score", "low", "high", "opened")},
        "must": task.must,
        "aim": task.aim,
        "abstention": abstention and {k: v for k, v in abstention.items() if k != "curve"},
        "peers": {row["name"]: row["score"] for row in report["baselines"]},
        "claims": report["claims"],
        "p50_ms": report["latency"]["p50_ms"],
        **{key: report["shipped"][key] for key in FACTS},
        "wall_s": time.monotonic() - started,
    }


def _command(argv: list[str], names: dict[str, str]) -> str:
    """As it was run, with names for the folders of this machine."""
    command = shlex.join(["mendel", *argv])
    for place, name in names.items():
        command = command.replace(place, name)
    return command


def _add_peers(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Scores of the peers on the same test files; one that cannot be had is said and left out."""
    asked = [row for row in rows if not options.only or row["task"] in options.only]
    firsts = {row["task"]: row for row in asked if row["draw"] == 0}
    with tempfile.TemporaryDirectory() as name:
        wanted: dict[tuple[str, ...], list[str]] = {}  # what to run -> for which tasks
        for task in tasks(options.shared, Path(name), 0):
            if task.name in firsts:
                for peer in _peers_of(task, options):
                    if peer not in firsts[task.name]["peers"]:
                        wanted.setdefault(_peer_argv(task, peer), []).append(task.name)
        with ThreadPoolExecutor(2) as pool:
            jobs = {pool.submit(_peer, argv, options.peer_budget): argv for argv in wanted}
            for job in as_completed(jobs):
                argv, score = jobs[job], job.result()
                print(f"{argv[0]} for {', '.join(wanted[argv])}: {score}", flush=True)
                for task_name in wanted[argv] if score is not None else ():
                    firsts[task_name]["peers"][argv[0]] = score
                _write(rows, options.out)


def _peers_of(task: Task, options: argparse.Namespace) -> list[str]:
    more = ("encoder",) if "--teacher" in task.flags else ()
    return [peer for peer in (*PEERS.get(task.kind, ()), *more) if peer not in options.without]


def _peer_argv(task: Task, peer: str) -> tuple[str, ...]:
    """Arguments of design_peers.py: the same for tasks that learn from the same rows."""
    data = [task.files["--data"]]
    if "--learn-validation" in task.flags:
        data.append(task.files["--validation"])
    argv = [peer, task.kind, *map(str, data), "--test", str(task.files["--test"])]
    if "--outside-label" in task.flags:
        argv += ["--outside-label", task.flags[task.flags.index("--outside-label") + 1]]
    return tuple(argv)


def _peer(argv: tuple[str, ...], budget: str) -> float | None:
    command = [sys.executable, str(ROOT / "benchmarks/design_peers.py"), *argv, "--budget", budget]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{argv[0]} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    score: float = json.loads(done.stdout.splitlines()[-1])["score"]
    return score


def show(row: dict[str, Any]) -> None:
    peers = ", ".join(f"{name} {100 * score:.1f}" for name, score in row["peers"].items())
    print(
        f"{row['task']}, draw {row['draw']}: {row['metric']} {100 * row['score']:.2f} "
        f"({100 * row['low']:.1f} to {100 * row['high']:.1f}); {peers}; "
        f"{row['n_params']:,} parameters, {row['model_bytes'] / 1e6:.2f} MB, "
        f"{row['p50_ms']:.2f} ms; {row['family']}, {row['wall_s']:.0f} s",
        flush=True,
    )
    told = row["abstention"] or {}
    if told.get("outside"):
        print(
            f"  wrong rejections as errors {100 * told['net_accuracy']:.2f}, "
            f"recall of the others {100 * told['outside']['recall']:.1f}",
            flush=True,
        )


def summarise(rows: list[dict[str, Any]]) -> None:
    """A line of the table: the mean of the draws; peers that take minutes ran on the first."""
    scores = [100 * row["score"] for row in rows]
    peers = {name for row in rows for name in row["peers"]}
    beside = ", ".join(
        f"{name} {100 * statistics.mean(r['peers'][name] for r in rows if name in r['peers']):.1f}"
        for name in sorted(peers)
    )
    each = " ".join(f"{score:.2f}" for score in scores)
    print(
        f"| {rows[0]['task']} | {rows[0]['must']} | {rows[0]['aim']} | "
        f"{statistics.mean(scores):.2f} ({each}) | {beside} | "
        f"{max(row['model_bytes'] for row in rows) / 1e6:.2f} MB, "
        f"{max(row['n_params'] for row in rows) / 1e6:.2f}M, "
        f"{max(row['p50_ms'] for row in rows):.2f} ms |"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", help="names of tasks")
    parser.add_argument("--draws", type=int, default=3, help="of tasks with few rows")
    parser.add_argument("--peer-budget", default="10m", help="for each peer that can use it")
    parser.add_argument("--without", nargs="+", default=[], help="peers that are left out")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")

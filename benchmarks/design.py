"""mendel design on BANKING77 beside TF-IDF + LinearSVC: accuracy, size, latency, time.

python benchmarks/design.py [--data FOLDER] [--budget 10m] [--seed 0] [--out FILE.json]
python benchmarks/design.py --full [--only snips clinc150 ...] [--draws 3] [--out FILE.json]

FOLDER holds train.csv and test.csv of BANKING77 (default ../shared/data/banking77). The test file
is sealed; it is opened once a run, after the model is packed, and the report counts openings.
The peer is fitted on the same rows and answers the same sealed rows; its latency is measured
after the run, on one thread, the two models in turn. A second, short run is interrupted
15 s after it began: what it ships is what "a usable model after 15 s" means.

--full runs the tasks of design_tasks.py, each beside its peers (design_peers.py): labels, few
labels, no label, spans. It is gone on with where FILE.json has some of them. See design_full.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import design_full

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

TASK = "Route bank customers' questions to the right intent"
LIMITS = ["--max-latency", "2ms"]
N_TIMED = 1000


def design(data: Path, out: Path, home: Path, *flags: str, stop_s: float | None = None) -> float:
    """One run in a process of its own; returns its wall-clock seconds."""
    argv = [sys.executable, "-m", "mendel", "design", TASK, "--data", str(data / "train.csv")]
    argv += ["--test", str(data / "test.csv"), "--provenance", "collected"]
    argv += ["--out", str(out), "--yes", *LIMITS, *flags]
    started = time.monotonic()
    child = subprocess.Popen(argv, env={**os.environ, "MENDEL_HOME": str(home)}, cwd=ROOT)
    if stop_s is not None:
        time.sleep(stop_s)
        child.send_signal(signal.SIGINT)
    if child.wait() != 0:
        raise SystemExit(f"mendel design exited with {child.returncode}")
    return time.monotonic() - started


def texts_of(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as rows:
        return [row["text"] for row in csv.DictReader(rows)]


def latencies(models: dict[str, Callable[[str], Any]], texts: list[str]) -> dict[str, float]:
    """Median milliseconds for one text; the models take turns, so that both see the same noise."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for text in texts:
        for name, answer in models.items():
            started = time.perf_counter()
            answer(text)
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(found) for name, found in times.items()}


def pair(data: Path, out: Path) -> dict[str, Any]:
    """Latency and size of the emitted model and of the peer, in one process on one thread."""
    from mendel.api import load_model
    from mendel.train.baseline import svc

    with (data / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    started = time.monotonic()
    peer = svc([row["text"] for row in rows], [row["category"] for row in rows])
    fit_s = time.monotonic() - started
    model = load_model(out)
    texts = texts_of(data / "train.csv")[:: len(rows) // N_TIMED][:N_TIMED]
    found = latencies(
        {"mendel": lambda text: model.predict([text]), "svc": lambda text: peer([text])}, texts
    )
    return {"mendel_p50_ms": found["mendel"], "svc_p50_ms": found["svc"], "svc_fit_s": fit_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/banking77")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--keep", type=Path, help="keep the emitted project here")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--full", action="store_true", help="the tasks of design_tasks.py")
    design_full.add_flags(parser.add_argument_group("with --full"))
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if options.full:
        design_full.full(options)
        return
    if not (options.data / "train.csv").exists():
        raise SystemExit(f"{options.data} has no train.csv. Give BANKING77's folder as --data.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = options.keep or folder / "model"
        flags = ["--budget", options.budget, "--seed", options.seed]
        wall_s = design(options.data, out, folder / "home", *flags)
        report = json.loads((out / "report.json").read_text())
        early_s = design(options.data, folder / "early", folder / "early-home", *flags, stop_s=15.0)
        early = json.loads((folder / "early" / "report.json").read_text())
        beside = pair(options.data, out)
    row = summary(report, wall_s, beside)
    row["command"] += f" --budget {options.budget} --seed {options.seed}"
    row["early"] = {
        "wall_s": early_s,
        "sealed": early["sealed"]["accuracy"],
        "family": early["shipped"]["family"],
    }
    show(row)
    if options.out:
        options.out.write_text(json.dumps(row, indent=2) + "\n")


def summary(report: dict[str, Any], wall_s: float, beside: dict[str, Any]) -> dict[str, Any]:
    sealed, shipped = report["sealed"], report["shipped"]
    return {
        "command": "python benchmarks/design.py",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "sealed": {k: sealed[k] for k in ("n", "accuracy", "low", "high", "macro_f1", "opened")},
        "calibration": {k: sealed["calibration"][k]["ece"] for k in ("before", "after")},
        "baselines": report["baselines"],
        "claims": report["claims"],
        "shipped": {k: v for k, v in shipped.items() if k != "recipe"},
        "recipe": shipped["recipe"],
        "latency": report["latency"],
        "resources": report["resources"],
        "time": {**report["time"], "wall_s": wall_s},
        "ladder": report["ladder"],
        **beside,
    }


def show(row: dict[str, Any]) -> None:
    sealed, shipped = row["sealed"], row["shipped"]
    svc = next(b for b in row["baselines"] if "SVC" in b["name"])
    table = [
        ("sealed accuracy, %", f"{100 * sealed['accuracy']:.2f}", f"{100 * svc['score']:.2f}"),
        (
            "  95 % interval",
            f"{100 * sealed['low']:.1f}-{100 * sealed['high']:.1f}",
            f"{100 * svc['low']:.1f}-{100 * svc['high']:.1f}",
        ),
        ("out-of-fold accuracy, %", f"{100 * shipped['oof_score']:.2f}", ""),
        ("parameters", f"{shipped['n_params']:,}", ""),
        ("model, MB", f"{shipped['model_bytes'] / 1e6:.2f}", ""),
        (
            "p50 of one text, ms (in turn)",
            f"{row['mendel_p50_ms']:.3f}",
            f"{row['svc_p50_ms']:.3f}",
        ),
        ("p50 of one text, ms (its benchmark)", f"{row['latency']['p50_ms']:.3f}", ""),
        ("wall-clock, s", f"{row['time']['wall_s']:.0f}", f"{row['svc_fit_s']:.0f}"),
        ("first model within a tenth of it, s", f"{row['time']['first_usable_s']:.0f}", ""),
        ("interrupted at 15 s: accuracy, %", f"{100 * row['early']['sealed']:.2f}", ""),
        ("interrupted at 15 s: shipped after, s", f"{row['early']['wall_s']:.0f}", ""),
    ]
    print(f"{'BANKING77, ' + shipped['name']:<40} {'mendel':>12} {'LinearSVC':>12}")
    for what, ours, theirs in table:
        print(f"{what:<40} {ours:>12} {theirs:>12}")
    for claim in row["claims"]:
        print(
            f"{claim['text']}: {'may be said' if claim['allowed'] else 'not shown'}; "
            f"{claim['reason']}"
        )


if __name__ == "__main__":
    main()

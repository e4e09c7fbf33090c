"""How fast and how large: python benchmark.py [--json]. One thread, on the examples in golden.json.

p50_ms p95_ms p99_ms   one text, from the string to the label
p50_cold_ms            the same when none of its words was seen before
texts_per_s            in batches of 64
load_s                 imports, files and the first run
peak_mb                memory of the process at its largest
model_bytes            what is needed to answer: graph and vocabulary
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predict import Model

HERE = Path(__file__).resolve().parent
BATCH = 64


def most() -> int:
    """Runs that do: fewer where answers.py says that one takes long."""
    import answers

    return int(getattr(answers, "RUNS", 1_000_000))


def options() -> dict[str, Any]:
    """Under which a text is timed: those of answers.py, where it has some."""
    import answers

    return getattr(answers, "TIMED", {})


def measure(runs: int) -> dict[str, float]:
    logging.disable(logging.WARNING)  # the same few texts again and again look like drift
    begin = time.perf_counter()
    from predict import Model

    model = Model()
    load_s = time.perf_counter() - begin
    texts = json.loads((HERE / "golden.json").read_bytes())["texts"]
    model.predict(texts, **options())
    warm = latencies_ms(model, texts, runs, cold=False)
    cold = latencies_ms(model, texts, max(runs // 4, 1), cold=True)
    return {
        "p50_ms": percentile(warm, 50),
        "p95_ms": percentile(warm, 95),
        "p99_ms": percentile(warm, 99),
        "p50_cold_ms": percentile(cold, 50),
        "texts_per_s": throughput(model, texts, runs),
        "load_s": load_s,
        "peak_mb": peak_mb(),
        "model_bytes": sum((HERE / n).stat().st_size for n in ("model.onnx", "vocabulary.npz")),
    }


def latencies_ms(model: Model, texts: list[str], runs: int, *, cold: bool) -> list[float]:
    found, timed = [], options()
    for text in islice(cycle(texts), runs):
        if cold:
            getattr(model.features, "_cache", {}).clear()
        begin = time.perf_counter()
        model.predict([text], **timed)
        found.append(1e3 * (time.perf_counter() - begin))
    return sorted(found)


def percentile(ordered: list[float], share: int) -> float:
    return ordered[min(len(ordered) * share // 100, len(ordered) - 1)]


def throughput(model: Model, texts: list[str], runs: int) -> float:
    batch = list(islice(cycle(texts), BATCH))
    timed, n_batches = options(), max(runs // BATCH, 1)
    begin = time.perf_counter()
    for _ in range(n_batches):
        model.predict(batch, **timed)
    return n_batches * BATCH / (time.perf_counter() - begin)


def peak_mb() -> float:
    """Largest resident memory. On Linux from /proc: getrusage there counts the parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return 0.0  # not known
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure speed and size on one thread.")
    parser.add_argument("--json", action="store_true", help="one JSON object, not a table")
    parser.add_argument("--runs", type=int, default=2000, help="texts timed one by one (2000)")
    args = parser.parse_args()
    found = measure(max(min(args.runs, most()), 1))
    if args.json:
        print(json.dumps(found))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, value in found.items():
        print(f"{name:<12} {value:>14,.0f}" if value >= 1000 else f"{name:<12} {value:>14.3f}")


if __name__ == "__main__":
    main()

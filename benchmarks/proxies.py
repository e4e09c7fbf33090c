"""The proxies: do they rank mixers as the literature does, and does their noise hide a gain?

    python benchmarks/proxies.py [--only parity mqar overwritten noise] [--out FILE.json]

Rows are written as they are measured, and those in FILE are not measured again. Every mixer has a
short convolution unless its row says otherwise; one thread. Sections:
  parity       trained up to length 32, asked at 112 to 128: 5 seeds of each mixer
  mqar         16 pairs at width 32: attention with and without the convolution, in about a minute
  overwritten  the latest value of keys written twice: 5 seeds x 3 learning rates of each mixer
  noise        the spread over seeds of every proxy at the seconds preset
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mendel.data.proxies import SUITES, make
from mendel.data.proxies.proxy import Preset
from mendel.spec import ModelSpec, TrainSpec
from mendel.train.proxy import convolved, measure

Row = dict[str, Any]
FIRST_SEED, N_SEEDS = 10, 5
GAIN = 0.05  # that a proxy has to show: of the score at the seconds preset
SIGMAS = 2.8  # of the mean's error, to see a gain at the 5 % level in 80 % of the cases
MAX_PAIRS = 20  # of seeds, that a screen and a confirmation may cost


class Run(NamedTuple):
    """What one row measures: seeds of a mixer on a proxy."""

    mixer: str
    fields: dict[str, Any]  # of the mixer
    proxy: str
    preset: Preset = "seconds"
    width: int = 32
    n_layers: int = 2
    lr: float = 1e-2
    conv: bool = True
    n_seeds: int = N_SEEDS

    @property
    def name(self) -> str:
        fields = "".join(f" {name}={value}" for name, value in self.fields.items())
        bare = "" if self.conv else " without convolution"
        return f"{self.proxy}/{self.preset} {self.mixer}{fields}{bare} lr={self.lr:g}"


def parity() -> Iterator[Run]:
    """Bare, since parity has no use for a convolution; the first with it too, to see its price."""
    for mixer in ("delta_net_signed", "delta_net", "mamba2", "attention", "retnet"):
        fields = {"n_heads": 2} | ({} if mixer == "attention" else {"conv": 0})
        yield Run(mixer, fields, "parity", width=64, n_layers=1, lr=2e-2, conv=False)
    yield Run("delta_net_signed", {"n_heads": 2}, "parity", width=64, n_layers=1, lr=2e-2)


def mqar() -> Iterator[Run]:
    for conv in (True, False):
        yield Run("attention", {"n_heads": 1}, "mqar", "minutes", lr=5e-3, conv=conv, n_seeds=1)


def overwritten() -> Iterator[Run]:
    """DeltaNet beside decays: one learned a head and else the same, and Mamba-2's."""
    instead = {"n_heads": 2, "erase": "none", "decay": "learned"}
    for lr in (2.5e-3, 5e-3, 1e-2):
        yield Run("delta_net", {"n_heads": 2}, "overwritten_recall", lr=lr)
        yield Run("delta_net", instead, "overwritten_recall", lr=lr)
        yield Run("mamba2", {"n_heads": 2}, "overwritten_recall", lr=lr)


def noise() -> Iterator[Run]:
    for name in SUITES["all"]:
        yield Run("delta_net", {"n_heads": 2}, name, lr=5e-3, n_seeds=8)


def measured(run: Run) -> Row:
    """The scores of a row's seeds, and what they say."""
    spec = ModelSpec.parse(
        {"width": run.width, "n_layers": run.n_layers, "channels": [],
         "mixers": {"part": run.mixer, **run.fields}}
    )  # fmt: skip
    seeds = range(FIRST_SEED, FIRST_SEED + run.n_seeds)
    how = TrainSpec(lr=run.lr, weight_decay=0.0)
    result = measure(convolved(spec) if run.conv else spec, how, make(run.proxy, run.preset), seeds)
    row: Row = {"run": run._asdict(), "error": result.error, "scores": result.scores}
    row |= {"seconds_a_seed": result.cost.seconds / run.n_seeds, "cost": vars(result.cost)}
    return row | {name: result.facts[name] for name in ("unit", "chance", "state_bytes")}


def told(row: Row) -> str:
    scores, where = row["scores"], f"{row['seconds_a_seed']:6.1f} s a seed"
    if row["error"]:
        return f"{where}  {row['error']}"
    spread = f"sd {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    return (f"median {statistics.median(scores):7.4f}  least {min(scores):7.4f}  "
            f"most {max(scores):7.4f}  {spread}  {where}")  # fmt: skip


def judged_parity(rows: dict[str, Row]) -> Row:
    """Signed delta nets everywhere above 0.98, all others at chance."""
    bare = [row for row in rows.values() if not row["run"]["conv"]]
    found = {row["run"]["mixer"]: row["scores"] for row in bare}
    signed = found.pop("delta_net_signed")
    return {
        "delta_net_signed >= 0.98 on all seeds": min(signed) >= 0.98,
        "others <= 0.55 on all seeds": all(max(scores) <= 0.55 for scores in found.values()),
    }


def judged_mqar(rows: dict[str, Row]) -> Row:
    with_conv = next(row for row in rows.values() if row["run"]["conv"])
    return {
        "attention with a convolution >= 0.99": min(with_conv["scores"]) >= 0.99,
        "within a minute": with_conv["seconds_a_seed"] <= 60,
    }


def judged_overwritten(rows: dict[str, Row]) -> Row:
    """At each mixer's best rate: what erasing is worth, seed by seed."""
    best: dict[str, list[float]] = {}
    for row in rows.values():
        if row["error"]:
            continue
        run = row["run"]
        name = "decay instead" if "erase" in run["fields"] else run["mixer"]
        if name not in best or statistics.mean(row["scores"]) > statistics.mean(best[name]):
            best[name] = row["scores"]
    delta, found = best["delta_net"], {}
    for other in ("decay instead", "mamba2"):
        gains = [a - b for a, b in zip(delta, best[other], strict=True)]
        found[f"delta_net over {other}, by seed"] = {"gains": gains, "t": _t(gains)}
    return {"mean at the best rate": {k: statistics.mean(s) for k, s in best.items()}, **found}


def _t(gains: list[float]) -> float:
    spread = statistics.stdev(gains)
    return statistics.mean(gains) / spread * math.sqrt(len(gains)) if spread else math.inf


def judged_noise(rows: dict[str, Row]) -> Row:
    """Pairs of seeds that it takes to see a gain of 5 %, at the noise of unpaired seeds."""
    found = {}
    for row in rows.values():
        scores = row["scores"]
        if row["error"]:
            found[row["run"]["proxy"]] = row["error"]
            continue
        mean, spread = statistics.mean(scores), statistics.stdev(scores)
        n = math.ceil((SIGMAS * math.sqrt(2) * spread / (GAIN * abs(mean))) ** 2)
        found[row["run"]["proxy"]] = {
            "mean": mean, "sd": spread, "chance": row["chance"], "pairs": max(n, 1),
            "shows": n <= MAX_PAIRS, "room": mean < 0 or mean * (1 + GAIN) <= 1,
        }  # fmt: skip
    return found


SECTIONS: dict[str, tuple[Callable[[], Iterator[Run]], Callable[[dict[str, Row]], Row]]] = {
    "parity": (parity, judged_parity),
    "mqar": (mqar, judged_mqar),
    "overwritten": (overwritten, judged_overwritten),
    "noise": (noise, judged_noise),
}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="JSON; rows in it are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out: Path | None = options.out
    found: dict[str, Any] = json.loads(out.read_text()) if out and out.is_file() else {}
    found["facts"] = {
        "command": " ".join(["python", "benchmarks/proxies.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for section in options.only:
        runs, judge = SECTIONS[section]
        print(f"== {section}", flush=True)
        rows = found.setdefault(section, {}).setdefault("rows", {})
        for run in runs():
            if run.name not in rows:
                rows[run.name] = measured(run)
                _write(out, found)
            print(f"{run.name:70} {told(rows[run.name])}", flush=True)
        found[section]["judged"] = judge(rows)
        print(json.dumps(found[section]["judged"], indent=2), flush=True)
        _write(out, found)


def _write(out: Path | None, found: dict[str, Any]) -> None:
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

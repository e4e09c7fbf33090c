"""The research loop: search skill on published tables, and what a kill -9 does to a run.

python benchmarks/research.py tables|across|landscape|proposals|kills [--runs 100]
                              [--sets cifar10 ...] [--shared FOLDER] [--out FILE.json]
python benchmarks/research.py null --runs 300 [--turns 300] [--home FOLDER] [--out FILE.json]
python benchmarks/research.py rediscovery --runs 5 [--mechanism erase] [--folder FOLDER] [--out ...]
python benchmarks/research.py run [--home FOLDER] [--run ID]
python benchmarks/research.py power --runs 60 [--out FILE.json]
python benchmarks/research.py simulated [--workers 1000] [--turns 300]
python benchmarks/research.py verification [--runs 40]

tables: trials to the top 0.1 % on each set, beside random search, evolution, TPE, hill climbing.
across: after 100 turns on NATS-Bench, CIFAR-10, the same on CIFAR-100 and ImageNet16-120.
landscape: recipes with planted scores, --runs 20: trials to the top of each proposer.
proposals: CPU time of the builtin researcher's proposal with up to 100,000 turns known.
kills: --runs times kill -9 of a real research run, each followed by --resume.
null: lines on which nothing is better, by the judge and by "keep any better screen"; the noise of
seeds is assumed, or with --home that of a real run's paired differences.
rediscovery: trials until a mechanism is found again that menu, notes and start do not have.
power: what a trial costs and finds where gains are planted, by the rule before and as it is.
run: a real run's row of the table, read from its ledger.
simulated: asks and tells a second with so many leases in flight.
verification: drawn scores, --runs verifications a row: core hours, power, false claims.
null and rediscovery keep each row in FILE.rows.jsonl and go on from there.
--shared holds nats_bench_tss_csv and nasbench_macro (default ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy: one thread

from research_sections import (  # noqa: E402
    kills,
    landscape,
    null,
    power,
    published,
    ran,
    rediscovery,
    simulated,
    tables,
    verification,
)

SECTIONS = tables.SECTIONS | landscape.SECTIONS | kills.SECTIONS
EVIDENCE = null.SECTIONS | rediscovery.SECTIONS | ran.SECTIONS | simulated.SECTIONS
EVIDENCE |= power.SECTIONS | verification.SECTIONS


def main() -> None:
    options = parse()
    if options.section in EVIDENCE:
        options.rows = options.out and options.out.with_suffix(".rows.jsonl")
        found = EVIDENCE[options.section](options)
    else:
        found = SECTIONS[options.section](options.shared, options.sets, options.runs)
    rows = {options.section: found}
    facts = {
        "command": f"python benchmarks/research.py {' '.join(sys.argv[1:])}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    if options.out:
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=[*SECTIONS, *EVIDENCE])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--sets", nargs="+", choices=published.SETS, default=published.SETS)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--turns", type=int, default=300, help="of a line, or to serve")
    parser.add_argument("--mechanism", choices=rediscovery.MECHANISMS, default="erase")
    parser.add_argument("--trials", type=int, default=150, help="of a rediscovery, at most")
    parser.add_argument("--share", type=float, default=1.0, help="of steps; below 1 to try it")
    parser.add_argument("--folder", type=Path, help="where unfinished rediscoveries are kept")
    parser.add_argument("--home", type=Path, help="the MENDEL_HOME of a real run")
    parser.add_argument("--run", help="its id; the newest by default")
    parser.add_argument("--workers", type=int, default=1000, help="to simulate")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args()


if __name__ == "__main__":
    main()

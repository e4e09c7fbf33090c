"""The research loop: search skill on published tables, and what a kill -9 does to a run.

python benchmarks/research.py tables|across|landscape|proposals|kills [--runs 100]
                              [--sets cifar10 ...] [--shared FOLDER] [--out FILE.json]

tables: trials to the top 0.1 % on each set, beside random search, evolution, TPE, hill climbing.
across: after 100 turns on NATS-Bench, CIFAR-10, the same on CIFAR-100 and ImageNet16-120.
landscape: recipes with planted scores, --runs 20: trials to the top of each proposer.
proposals: CPU time of the builtin researcher's proposal with up to 100,000 turns known.
kills: --runs times kill -9 of a real research run, each followed by --resume.
FOLDER holds nats_bench_tss_csv and nasbench_macro (default ../shared/data).
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

from research_sections import kills, landscape, published, tables  # noqa: E402

SECTIONS = tables.SECTIONS | landscape.SECTIONS | kills.SECTIONS


def main() -> None:
    options = parse()
    measure = SECTIONS[options.section]
    rows = {options.section: measure(options.shared, options.sets, options.runs)}
    facts = {
        "command": f"python benchmarks/research.py {options.section} --runs {options.runs} "
        f"--sets {' '.join(options.sets)}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    if options.out:
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--sets", nargs="+", choices=published.SETS, default=published.SETS)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args()


if __name__ == "__main__":
    main()

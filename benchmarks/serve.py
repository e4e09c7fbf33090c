"""`mendel serve`: speed beside its peers, exactness, load, self-tuning, and what it all costs.

python benchmarks/serve.py SECTION --models FOLDER [--model DIR] [--dtype bf16] [--requests N]
                           [--threads 1] [--shared FOLDER] [--budget 20m] [--out FILE.json]

train       two models of 12 M parameters into --models, with and without --early-exit
speed       five workloads: each plan, the tuner, and the peers that can be imported, in turn
drafts      how many guesses are kept, by plan and workload
equal       --requests prompts, greedy and drawn: every plan against the plain model
load        200 streams at once: none lost, none mixed up
overhead    observer and controller: share of time, memory
tuned       traffic that changes at request 1,000; mixed traffic against each plan in hindsight
warming     multi-turn traffic with and without predictive warming
neighbours  what adversarial prompts do to others; what a prober learns of another tenant
memory      resident memory over --requests requests: slope and its upper 95 % bound
machines    the same without AVX-512, and without AVX2

--model is what sections but train measure (default: FOLDER/early-exit); a Hugging Face directory or
stories260K.bin will do. Rows are kept in FILE.rows.jsonl, and a killed run goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTIONS = (
    "train", "speed", "drafts", "equal", "load", "overhead", "tuned", "warming", "neighbours",
    "memory", "machines",
)  # fmt: skip


def main() -> None:
    options = parse()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before numpy
    sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    rows = importlib.import_module(f"serve_sections.{options.section}").measure(options)
    if options.out:
        facts = {
            "command": " ".join(["python", "benchmarks/serve.py", *sys.argv[1:]]),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "processor": processor(),
        }
        known = json.loads(options.out.read_text())["rows"] if options.out.exists() else {}
        both = {**known, f"{options.section} {options.dtype}": rows}
        options.out.write_text(json.dumps({**facts, "rows": both}, indent=2) + "\n")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--models", type=Path, required=True, help="where `train` puts its models")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, help="of a section; each has its own default")
    parser.add_argument("--budget", default="20m", help="of each model's training")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--peers", nargs="+", help="those alone, by name")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    options.model = options.model or options.models / "early-exit"
    options.rows = options.out and options.out.with_suffix(".rows.jsonl")
    return options


if __name__ == "__main__":
    main()

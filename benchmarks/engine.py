"""The engine: the readable file, operators, a character LM, parity, stories; peers in the same run.

python benchmarks/engine.py [--only readable operators ...] [--out FILE.json]

Sections, each in a process of its own on one thread: readable, operators, seeds, parity, stories,
shakespeare. `--tune PRESET|peer NAME=VALUE ...` tries one setting of the character LM on the tuning
split.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECTIONS = ("readable", "operators", "seeds", "parity", "stories", "shakespeare")


def main() -> None:
    options = parse()
    if options.section:
        print_rows(options.section, options.out)
    elif options.tune:
        prepare_process()
        importlib.import_module("engine_sections.shakespeare").tune(*options.tune)
    else:
        rows = {section: in_own_process(section) for section in options.only}
        facts = {
            "command": " ".join(["python", "benchmarks/engine.py", *sys.argv[1:]]),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        if options.out:
            options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")
        if any("failed" in found for found in rows.values()):
            sys.exit(1)


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--tune", nargs="+", metavar="SETTING")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(section: str) -> Any:
    """A section's rows; one thread, and no leftovers of the section before."""
    print(f"== {section}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.json"
        command = [
            sys.executable,
            str(HERE / "engine.py"),
            "--section",
            section,
            "--out",
            str(file),
        ]
        one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(command, env={**os.environ, **one})
        return json.loads(file.read_text()) if done.returncode == 0 else {"failed": True}


def print_rows(section: str, out: Path) -> None:
    prepare_process()
    rows = importlib.import_module(f"engine_sections.{section}").measure()
    out.write_text(json.dumps(rows))


def prepare_process() -> None:
    import torch

    sys.path[:0] = [str(HERE), str(HERE.parent)]
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()

"""The audit and the sandbox: planted faults and sound modules, held-out faults, attacks, times.

python benchmarks/audit.py [--only quick full held_out ...] [--all] [--out FILE]

quick      every planted fault and sound module, width 64
full       a dozen of them under the full profile; with --all every one (half an hour)
held_out   twenty faults by someone who had not read the auditor, which has learnt from them since
held_out_2 twenty more by another person, judged once the auditor was frozen again
rivals     what people test instead, on the same leaks and sound modules
times      quick and full at widths 64 and 1,024
sandbox    the attack suite on each backend; what a trial costs more than without protection

One thread. Exit 1 where a planted fault is missed, a sound module accused, or an attack leaks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

SECTIONS = ("quick", "full", "held_out", "held_out_2", "rivals", "times", "sandbox")
HERE = Path(__file__).parent


def main() -> None:
    options = parse()
    prepare()
    rows = {name: run(name, options.all) for name in options.only}
    facts = {
        "command": " ".join(["python", "benchmarks/audit.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    if options.out:
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")
    sys.exit(any(found.get("failed") for found in rows.values()))


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--all", action="store_true", help="the full profile on every case")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args()


def prepare() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
    import torch

    torch.set_num_threads(1)


def run(section: str, everything: bool) -> dict[str, Any]:
    print(f"== {section}", flush=True)
    from audit_sections import confusion

    if section == "rivals":
        return tell_rivals(confusion.rivals())
    if section == "times":
        return tell_times()
    if section == "sandbox":
        return tell_sandbox()
    every = (*confusion.FAULTS, *confusion.SOUND)
    dozen = tuple(case for case in every if case.name in confusion.DOZEN)
    cases = {
        "quick": every,
        "full": every if everything else dozen,
        "held_out": confusion.HELD_OUT,
        "held_out_2": confusion.HELD_OUT_2,
    }[section]
    rows = confusion.measure(cases, "full" if section == "full" else "quick")
    if section.startswith(
        "held_out"
    ):  # by the profile that a person would use on a stranger's file
        full = confusion.measure(cases, "full")
        print(f"under the full profile: {confusion.summary(full)['named']} of {len(full)}")
        return {**report(rows, 0.9), "full": full}
    return report(rows, 1.0)


def report(rows: list[dict[str, Any]], recall: float) -> dict[str, Any]:
    from audit_sections import confusion

    found = confusion.summary(rows)
    print(confusion.table(rows))
    print(json.dumps(found, indent=2))
    missed = found["named"] < recall * found["faults"]
    return {"summary": found, "cases": rows, "failed": missed or found["accused"] > 0}


def tell_rivals(found: dict[str, dict[str, int]]) -> dict[str, Any]:
    print("| test | leaks found | sound modules accused |\n|---|---|---|")
    for name, n in found.items():
        print(f"| {name} | {n['found']} of {n['leaks']} | {n['accused']} of {n['sound']} |")
    return {"tests": found}


def tell_times() -> dict[str, Any]:
    from audit_sections.times import measure

    found: dict[str, Any] = {}
    print("| module | width | parameters | quick, s | full, s |\n|---|---|---|---|---|")
    for row in measure():
        found[f"{row['module']} {row['width']}"] = row
        print(
            f"| {row['module']} | {row['width']} | {row['n_params']:,} | {row['quick_s']:.2f} | "
            f"{row['full_s']:.1f} |",
            flush=True,
        )
    return found


def tell_sandbox() -> dict[str, Any]:
    from audit_sections import sandbox

    start = time.monotonic()
    found: dict[str, Any] = sandbox.run()
    print(sandbox.table(found))
    print(f"{time.monotonic() - start:.0f} s")
    return found


if __name__ == "__main__":
    main()

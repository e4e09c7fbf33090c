"""Which faults are found under which name, and who is accused without one."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from planted import Case
from planted.faults import FAULTS
from planted.held_out import HELD_OUT
from planted.held_out_2 import HELD_OUT_2
from planted.sound import SOUND

from audit_sections.rivals import RIVALS, accuses
from mendel.audit import CHECKS, AuditError, Claims, check
from mendel.audit.auditor import Profile

# fault | sound, for the full profile in a short run
DOZEN = (
    "mask-lost-beyond-96", "fft-padded-to-power", "leak-1e-6", "one-channel-of-512",
    "rotary-offset-by-length", "conv-buffer-short", "schedule-late-in-buffer",
    "mixer-gated-delta-net", "fft-with-zeros", "global-max", "total-less-suffix", "hf-llama",
)  # fmt: skip


def judge(case: Case, profile: Profile, seed: int = 0) -> dict[str, Any]:
    """One audit: what was expected, what was found, how long it took."""
    torch.manual_seed(seed)
    module = case.build(64)
    start = time.process_time()
    try:
        report = check(
            module, case.input, claims=Claims(**case.options), output=case.output,
            profile=profile, rebuild=case.build, seed=seed,
        )  # fmt: skip
        found = [finding.check for finding in report.errors]
        warned = [f.check for f in report.findings if f.level == "warning"]
    except AuditError as error:
        found, warned = [f"cannot run: {error}"], []
    return {
        "name": case.name,
        "kind": case.kind,
        "expected": list(case.expected),
        "found": found,
        "warned": warned,
        "seconds": time.process_time() - start,
    }


def measure(cases: Sequence[Case], profile: Profile) -> list[dict[str, Any]]:
    """One after the other; a line for each that is missed or accused."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # planted modules warn as they please
        for case in cases:
            rows.append(judge(case, profile))
            if not right(rows[-1]):
                print(f"WRONG {case.name}: wanted {case.expected}, found {rows[-1]['found']}")
    return rows


def right(row: dict[str, Any]) -> bool:
    """Found under one of its names; nothing found where nothing is."""
    return bool(set(row["found"]) & set(row["expected"])) if row["expected"] else not row["found"]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    faults = [row for row in rows if row["expected"]]
    sound = [row for row in rows if not row["expected"]]
    seconds = sorted(row["seconds"] for row in rows)
    return {
        "faults": len(faults),
        "kinds": len({row["kind"] for row in faults}),
        "found": sum(bool(row["found"]) for row in faults),
        "named": sum(map(right, faults)),
        "named_first": sum(row["found"][:1] == row["expected"][:1] for row in faults),
        "sound": len(sound),
        "accused": sum(bool(row["found"]) for row in sound),
        "warned": sum(bool(row["warned"]) for row in sound),
        "median_s": seconds[len(seconds) // 2],
        "p90_s": seconds[int(0.9 * len(seconds))],
        "worst_s": seconds[-1],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: planted as (best name) down, first finding across."""
    columns = [*CHECKS, "nothing"]
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        planted = row["expected"][0] if row["expected"] else "sound"
        first = row["found"][0] if row["found"] else "nothing"
        counts[planted, first if first in columns else "nothing"] += 1
    lines = [f"| planted | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for planted in [*CHECKS, "sound"]:
        cells = [str(counts[planted, column] or "") for column in columns]
        if any(cells):
            lines.append(f"| {planted} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rivals() -> dict[str, dict[str, int]]:
    """The same leaks, and the same sound modules, under the usual three tests."""
    leaks = [case for case in FAULTS if case.expected[0] == "causality"]
    causal = [case for case in SOUND if not case.options.get("bidirectional")]
    return {
        name: {
            "leaks": len(leaks),
            "found": sum(accuses(test, case) for case in leaks),
            "sound": len(causal),
            "accused": sum(accuses(test, case) for case in causal),
        }
        for name, test in RIVALS.items()
    }


__all__ = [
    "DOZEN",
    "FAULTS",
    "HELD_OUT",
    "HELD_OUT_2",
    "SOUND",
    "measure",
    "rivals",
    "summary",
    "table",
]

"""How long an audit takes: processor seconds of quick and full, by width."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from planted import Case
from planted.sound import SOUND

from mendel.audit import Claims, check
from mendel.audit.auditor import Profile

AT_64 = (
    "mixer-attention", "mixer-gated-delta-net", "mixer-routed", "gru", "encoder-norm-first",
    "conv-dilated",
)  # fmt: skip
AT_1024 = ("mixer-gated-delta-net", "encoder-norm-first")


def measure() -> Iterator[dict[str, Any]]:
    """Medians of three at width 64, one run at 1,024."""
    for width, names, repeats in ((64, AT_64, 3), (1024, AT_1024, 1)):
        for case in (case for case in SOUND if case.name in names):
            quick = [_one(case, width, "quick") for _ in range(repeats)]
            full = [_one(case, width, "full") for _ in range(repeats)]
            yield {
                "module": case.name,
                "width": width,
                "n_params": quick[0][1],
                "quick_s": statistics.median(seconds for seconds, _ in quick),
                "full_s": statistics.median(seconds for seconds, _ in full),
            }


def _one(case: Case, width: int, profile: Profile) -> tuple[float, int]:
    torch.manual_seed(0)
    module = case.build(width)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check(
            module, case.input.replace("64", str(width)), claims=Claims(**case.options),
            output=case.output, profile=profile, rebuild=case.build,
        )  # fmt: skip
    return time.process_time() - start, report.facts["n_params"]

"""Traffic that changes at request 1,000, and mixed traffic, against each plan in hindsight.

Every engine is given the same requests, in blocks of 20 that take turns, so that all share the
machine's noise. What is compared is seconds of wall time: of a block by the block of the best plan
of that phase, which nobody could have known beforehand.
"""

from __future__ import annotations

import itertools
import statistics
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from research_sections.rows import Row, Rows

from mendel.generate import Sampler
from serve_sections import ours
from serve_sections.train import unseen
from serve_sections.tuner import tuned

BLOCK = 20
# before the change, after it: greedy copies, which guesses make quick, and text drawn at random,
# where few guesses hold (greedy free text is no change: drafts are best there too)
PHASES = ("edit", "free")
DRAWN = Sampler(temperature=1.0, top_p=1.0)
MIX = ("chat", "edit", "free", "agent", "long")
N_REQUESTS, N_AFTER = 1000, 600
CLOSE = 1.10


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    cases = ours.Cases(loaded, unseen(options.shared), ready)
    n = options.requests or N_REQUESTS
    asked = {"section": "tuned", "model": str(options.model), "digest": ready.digest, "n": n}
    rows = Rows(options.rows, asked)
    found = {
        "change": rows.get("change", lambda: change(options, loaded, ready, cases, n)),
        "mixed": rows.get("mixed", lambda: mixed(options, loaded, ready, cases, n)),
    }
    for name, row in found.items():
        print(name, {key: value for key, value in row.items() if key != "blocks"}, flush=True)
    return found


def change(options: Namespace, loaded: Any, ready: Any, cases: ours.Cases, n: int) -> Row:
    before, after = cases.make(PHASES[0], n), cases.make(PHASES[1], n * N_AFTER // N_REQUESTS)
    after = [replace(case, sampler=replace(DRAWN, seed=i)) for i, case in enumerate(after)]
    blocks, _, told = run(options, loaded, ready, before + after)
    ours_, plans = blocks.pop("tuned"), blocks
    at = len(before) // BLOCK
    best = {
        phase: min(plans, key=lambda name: sum(plans[name][part]))
        for phase, part in (("before", slice(at // 2, at)), ("after", slice(at, None)))
    }
    ratios = [mine / its for mine, its in zip(ours_[at:], plans[best["after"]][at:], strict=True)]
    return {
        "best_before": best["before"],
        "best_after": best["after"],
        "ratio_before": sum(ours_[at // 2 : at]) / sum(plans[best["before"]][at // 2 : at]),
        "requests_until_within_10_percent": settled(ratios),
        "ratio_after_300": statistics.median(ratios[300 // BLOCK :] or ratios[-1:]),
        "ratio_of_the_plan_before": sum(plans[best["before"]][at:])
        / sum(plans[best["after"]][at:]),
        "tuner": told,
        "blocks": {"tuned": ours_, **plans},
    }


def settled(ratios: list[float], n_kept: int = 5) -> int | None:
    """Requests after the change until the median of some blocks in a row stays within 10 %."""
    for i in range(len(ratios) - n_kept + 1):
        if statistics.median(ratios[i : i + n_kept]) <= CLOSE:
            return i * BLOCK
    return None


def mixed(options: Namespace, loaded: Any, ready: Any, cases: ours.Cases, n: int) -> Row:
    each = [cases.make(workload, n // len(MIX)) for workload in MIX]
    traffic = [case for row in zip(*each, strict=True) for case in row]
    blocks, by, told = run(options, loaded, ready, traffic)
    half = len(blocks["tuned"]) // 2
    sums = {name: sum(found) for name, found in blocks.items()}
    later = {name: sum(found[half:]) for name, found in blocks.items()}
    plans = [name for name in sums if name != "tuned"]
    best = min(plans, key=lambda name: sums[name])
    oracle = {workload: min(plans, key=lambda name: by[name][workload]) for workload in MIX}
    return {
        "best": best,
        "ratio": sums["tuned"] / sums[best],
        "ratio_second_half": later["tuned"] / min(later[name] for name in plans),
        # of one that knew beforehand what is best for each workload: what there is to gain
        "ratio_of_oracle": sum(by[oracle[workload]][workload] for workload in MIX) / sums[best],
        "oracle": oracle,
        "tuner": told,
        "ratios_of_plans": {name: sums[name] / sums[best] for name in plans},
        "blocks": blocks,
    }


def run(
    options: Namespace, loaded: Any, ready: Any, cases: list[ours.Case]
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]], dict[str, Any]]:
    """Seconds of each block, by plan and of the tuner; who is first goes round. Of each workload.
    And what the tuner says of itself at the end."""
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(ours.pinned(ready, plan))
            for name, plan in ours.plans(ready.n_layers, options.threads).items()
        }
        engines["tuned"] = stack.enter_context(tuned(ready, loaded, threads=options.threads))
        found: dict[str, list[float]] = {name: [] for name in engines}
        by = {name: dict.fromkeys(MIX, 0.0) for name in engines}
        turns = list(engines)
        for i, begin in enumerate(range(0, len(cases) - BLOCK + 1, BLOCK)):
            block = cases[begin : begin + BLOCK]
            for name in itertools.islice(itertools.cycle(turns), i % len(turns),
                                         i % len(turns) + len(turns)):  # fmt: skip
                done = ours.ask(engines[name], [ours.request(case) for case in block])
                found[name].append(sum(each.seconds for each in done))
                for case, each in zip(block, done, strict=True):
                    by[name][case.workload] += each.seconds
        told = engines["tuned"].engine.chooser.chooser.status()
        return found, by, {key: told[key] for key in ("on", "why", "classes", "arms", "saved")}

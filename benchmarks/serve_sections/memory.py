"""Resident memory of a server over 20,000 requests: MB a 1,000 requests, and its upper 95 % bound.

The slope is that of means over blocks, so that what follows one another counts once; the first
tenth warms up, and is left out.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
from research_sections.rows import Rows
from scipy import stats

from mendel.serve import replay
from mendel.serve.workloads import WORKLOADS, Conversation, Maker
from serve_sections import live
from serve_sections.train import unseen

N_REQUESTS, PER_SAMPLE, N_AT_ONCE, N_BLOCKS = 20_000, 100, 8, 20
MEMORY = "200MB"  # of weights and texts: the prefix cache is full before the measuring begins


def measure(options: Namespace) -> dict[str, Any]:
    n = options.requests or N_REQUESTS
    asked = {"section": "memory", "model": str(options.model), "dtype": options.dtype, "n": n}
    found = Rows(options.rows, asked).get("all", lambda: one(options, n))
    print({key: value for key, value in found.items() if key != "samples"}, flush=True)
    return found


def one(options: Namespace, n: int) -> dict[str, Any]:
    maker = Maker(unseen(options.shared), n_chars=600, seed=11)
    traffic = maker.mix(dict.fromkeys(WORKLOADS, 1.0), 2 * n)
    samples: list[tuple[int, int]] = []
    n_done = n_bad = 0
    flags = ("--dtype", options.dtype, "--max-memory", MEMORY)
    with live.server(options.model, *flags) as (server, pid):
        while n_done < n:
            batch = [_short(next(traffic)) for _ in range(PER_SAMPLE)]
            answers = replay.replay(batch, server, n_at_once=N_AT_ONCE)
            n_done, n_bad = n_done + len(answers), n_bad + sum(a.error is not None for a in answers)
            samples.append((n_done, live.resident_bytes(pid)))
            if len(samples) % 20 == 0:
                print(f"  {n_done} requests, {samples[-1][1] / 1e6:.1f} MB", flush=True)
    return {"requests": n_done, "errors": n_bad, **slope(samples), "samples": samples}


def _short(asked: Conversation) -> Conversation:
    return Conversation(asked.workload, asked.opening, (), n_tokens=8)


def slope(samples: list[tuple[int, int]]) -> dict[str, float]:
    """By least squares on means of blocks, with Student's t at one side."""
    kept = np.array(samples[len(samples) // 10 :], float)
    blocks = [block.mean(0) for block in np.array_split(kept, min(N_BLOCKS, len(kept)))]
    x, y = np.array(blocks).T
    fit = stats.linregress(x / 1000, y / 1e6)
    bound = fit.slope + stats.t.ppf(0.95, len(x) - 2) * fit.stderr
    return {
        "mb_per_1000": float(fit.slope),
        "upper_95": float(bound),
        "mb_at_end": float(samples[-1][1] / 1e6),
    }

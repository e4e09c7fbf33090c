"""How many guesses are kept: by plan and workload, alone, greedy and drawn."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from research_sections.rows import Row, Rows

from mendel.serve.workloads import WORKLOADS
from serve_sections import ours
from serve_sections.train import unseen

N_PROMPTS = 20


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    cases = ours.Cases(loaded, unseen(options.shared), ready)
    n = options.requests or N_PROMPTS
    asked = {"section": "drafts", "model": str(options.model), "n": n, "digest": ready.digest}
    rows, found = Rows(options.rows, asked), {}
    for workload in WORKLOADS:
        prompts = cases.make(workload, n)
        for name, plan in ours.plans(ready.n_layers, options.threads).items():
            for kind in ("greedy", "drawn"):
                key = f"{workload} {name} {kind}"
                found[key] = rows.get(key, lambda p=plan, k=kind, c=prompts: one(ready, p, k, c))
                print(key, found[key], flush=True)
    return found


def one(ready: Any, plan: Any, kind: str, prompts: list[ours.Case]) -> Row:
    asked = [ours.request(case) if kind == "greedy" else ours.with_seed(case, i)
             for i, case in enumerate(prompts)]  # fmt: skip
    with ours.pinned(ready, plan) as running:
        ends = [done.end.trace for done in ours.ask(running, asked) if done.end is not None]
    drafted, kept = (sum(getattr(t, f) for t in ends) for f in ("n_drafted", "n_accepted"))
    n_out, steps = (sum(getattr(t, f) for t in ends) for f in ("n_out", "n_steps"))
    return {
        "kept": kept / drafted if drafted else None,
        "tokens_per_step": (n_out - len(ends)) / max(steps, 1),  # the first comes with the prompt
        "ms_per_token": 1e3 * sum(t.decode_s for t in ends) / max(n_out - len(ends), 1),
    }

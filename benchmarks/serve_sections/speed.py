"""Milliseconds a token, prompt included, of one stream: every plan, the tuner, every peer, in turn.

Each prompt goes to all of them before the next one comes, so that they share the machine's noise;
medians over prompts. All write the same number of tokens, greedily. The tuner has served N_TAUGHT
other prompts of each workload before, mixed: what is measured is a server after a while.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from research_sections.rows import Row, Rows

from mendel.serve.workloads import WORKLOADS
from serve_sections import ours, peers
from serve_sections.train import unseen
from serve_sections.tuner import tuned

N_PROMPTS, N_WARM = 15, 3  # of each workload; the first ones only warm up
N_TAUGHT, OTHERS = 60, 10_000  # prompts that the tuner learns from; where they begin

Writer = Callable[[ours.Case], tuple[list[int], float, float]]  # ids, seconds, ms of a later token


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    cases = ours.Cases(loaded, unseen(options.shared), ready)
    n = options.requests or N_PROMPTS
    asked = {"section": "speed", "model": str(options.model), "threads": options.threads, "n": n,
             "taught": N_TAUGHT, "digest": ready.digest, "peers": options.peers}  # fmt: skip
    rows, found = Rows(options.rows, asked), {}
    with ExitStack() as stack:
        made: dict[str, Writer] = {}

        def one(workload: str) -> Row:
            made.update(made or writers(options, loaded, ready, cases, stack))
            return compare(made, cases.make(workload, n + N_WARM))

        for workload in WORKLOADS:
            found[workload] = rows.get(workload, lambda w=workload: one(w))
            show(workload, found[workload])
    return found


def writers(
    options: Namespace, loaded: Any, ready: Any, cases: ours.Cases, stack: ExitStack
) -> dict[str, Writer]:
    """Every plan, the plain one first; the tuner; every peer."""
    found: dict[str, Writer] = {}
    for name, plan in ours.plans(ready.n_layers, options.threads).items():
        running = stack.enter_context(ours.pinned(ready, plan))
        found[f"mendel {name}"] = lambda case, e=running: _ours(e, case)
    chosen = stack.enter_context(tuned(ready, loaded, threads=options.threads))
    taught = [cases.make(workload, N_TAUGHT, OTHERS) for workload in WORKLOADS]
    mixed = [case for row in zip(*taught, strict=True) for case in row]
    ours.ask(chosen, [ours.request(case) for case in mixed])
    found["mendel tuned"] = lambda case: _ours(chosen, case)
    for name, write in peers.available(options, loaded).items():
        found[name] = lambda case, w=write: _theirs(w, case)
    return found


def compare(writers: dict[str, Writer], prompts: list[ours.Case]) -> Row:
    """Medians by name, and the share of texts that are the plain plan's: peers round otherwise."""
    each: dict[str, list[tuple[list[int], float, float]]] = {name: [] for name in writers}
    for case in prompts:
        for name, write in writers.items():
            each[name].append(write(case))
    plain = next(iter(writers))
    found = {}
    for name, runs in each.items():
        kept = list(zip(runs, each[plain], prompts, strict=True))[N_WARM:]
        found[name] = {
            "ms_per_token": statistics.median(1e3 * s / len(ids) for (ids, s, _), _, _ in kept),
            "later_ms": statistics.median(later for (_, _, later), _, _ in kept),
            "same_text": sum(run[0] == own[0] for run, own, _ in kept) / len(kept),
            "n": len(kept),
        }
    found["prompt tokens"] = {"median": statistics.median(len(c.prompt) for c in prompts[N_WARM:])}
    return found


def _ours(running: Any, case: ours.Case) -> tuple[list[int], float, float]:
    [done] = ours.ask(running, [ours.request(case)])
    return done.ids, done.seconds, done.step_ms


def _theirs(write: peers.Write, case: ours.Case) -> tuple[list[int], float, float]:
    """Peers do not say when each token came: what they take for all stands for a later one."""
    began = time.perf_counter()
    ids = write(case.prompt, case.n_tokens)
    seconds = time.perf_counter() - began
    if len(ids) != case.n_tokens:
        raise RuntimeError(f"a peer wrote {len(ids)} tokens of {case.n_tokens}")
    return ids, seconds, 1e3 * seconds / len(ids)


def show(workload: str, row: Row) -> None:
    times = {name: told["ms_per_token"] for name, told in row.items() if "ms_per_token" in told}
    exact = [t for name, t in times.items() if name.startswith("transformers")]
    best = min((t for name, t in times.items() if name.startswith("mendel ")), default=0.0)
    print(f"-- {workload}, {row['prompt tokens']['median']:.0f} tokens of prompt", flush=True)
    for name, told in sorted(row.items(), key=lambda item: item[1].get("ms_per_token", 0.0)):
        if name in times:
            print(f"  {name:36} {told['ms_per_token']:8.3f} ms/token  later {told['later_ms']:8.3f}"
                  f"  same text {told['same_text']:.0%}", flush=True)  # fmt: skip
    if exact:
        print(f"  best of ours to the best exact transformers: {min(exact) / best:.2f}x; tuned "
              f"{min(exact) / times['mendel tuned']:.2f}x", flush=True)  # fmt: skip

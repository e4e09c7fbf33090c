"""What observer and controller cost: their share of the processor's time, and memory.

Time: in this process, under mixed traffic. The chooser is timed at each call, the tuner's and the
observer's threads by the processor time that the system counts for them, all of the process's.
Memory: two servers under the same traffic, one with its plan pinned from the start.
"""

from __future__ import annotations

import os
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from research_sections.rows import Row, Rows

from mendel.serve import replay
from mendel.serve.observe.observer import Observer
from mendel.serve.workloads import WORKLOADS, Maker
from serve_sections import live, ours
from serve_sections.train import unseen
from serve_sections.tuner import Timed, tuned

N_REQUESTS, N_AT_ONCE = 1000, 4
THREADS = ("tuner", "observer", "foresight")


def measure(options: Namespace) -> dict[str, Any]:
    n = options.requests or N_REQUESTS
    asked = {"section": "overhead", "model": str(options.model), "dtype": options.dtype, "n": n}
    rows = Rows(options.rows, asked)
    found = {
        "time": rows.get("time", lambda: time_of(options, n)),
        "memory": rows.get("memory", lambda: memory_of(options, n)),
    }
    for name, row in found.items():
        print(name, row, flush=True)
    return found


def time_of(options: Namespace, n: int) -> Row:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    cases = ours.Cases(loaded, unseen(options.shared), ready)
    each = [cases.make(workload, n // len(WORKLOADS)) for workload in WORKLOADS]
    traffic = [case for row in zip(*each, strict=True) for case in row]
    with tuned(ready, loaded, threads=options.threads, idles=True) as running:
        chooser = running.engine.chooser
        assert isinstance(chooser, Timed)
        observer = Observer(loaded.model, is_idle=lambda: running.stats().n_running == 0)
        observer.begin()
        before = {name: thread_s(name) for name in THREADS}
        chosen, began, wall = chooser.seconds, time.process_time(), time.perf_counter()
        for begin in range(0, len(traffic), 20):
            block = [ours.request(case) for case in traffic[begin : begin + 20]]
            for done in ours.ask(running, block, n_at_once=N_AT_ONCE):
                assert done.end is not None
                observer.heard(done.end.trace, (*done.request.prompt, *done.ids))
            time.sleep(0.02)  # a server is idle at times, and then the observer looks
        process = time.process_time() - began
        spent = {name: thread_s(name) - before[name] for name in THREADS}
        spent |= {"chooser": chooser.seconds - chosen, "hearing": observer.heard_s}
        observer.close()
    return {
        "requests": len(traffic),
        "process_s": process,
        "wall_s": time.perf_counter() - wall,
        **{f"{name}_s": seconds for name, seconds in spent.items()},
        "share": sum(spent.values()) / process,
        "us_per_choice": 1e6 * (chooser.seconds - chosen) / len(traffic),
        "n_looked": observer.n_looked,
    }


def thread_s(name: str) -> float:
    """Processor seconds of this process's threads of that name."""
    total = 0.0
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
            user, system = fields.rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def memory_of(options: Namespace, n: int) -> Row:
    """MB that a server has more when it tunes and observes, after the same traffic."""
    maker = Maker(unseen(options.shared), n_chars=600, seed=13)
    traffic = list(maker.mix(dict.fromkeys(WORKLOADS, 1.0), n))
    found = {}
    for name, flags in (("pinned", ("--plan", "plain")), ("tuned", ())):
        with live.server(options.model, "--dtype", options.dtype, *flags) as (server, pid):
            answers = replay.replay(traffic, server, n_at_once=N_AT_ONCE)
            found[f"{name}_mb"] = live.resident_bytes(pid) / 1e6
            found[f"{name}_errors"] = sum(a.error is not None for a in answers)
    return {**found, "more_mb": found["tuned_mb"] - found["pinned_mb"]}

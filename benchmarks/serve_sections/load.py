"""200 streams at once: in the engine, and over HTTP; each compared with what it is alone."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

from research_sections.rows import Row, Rows

from mendel.serve import replay
from mendel.serve.workloads import WORKLOADS, Maker
from serve_sections import live, ours
from serve_sections.equal import Drawn, Prompts
from serve_sections.train import unseen

N_AT_ONCE, N_REQUESTS = 200, 600
CLIENTS, QUEUE, RUNNING = (25, 50, 100, 200), 16, 8


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    text, n = unseen(options.shared), options.requests or N_REQUESTS
    asked = {"section": "load", "model": str(options.model), "n": n, "digest": ready.digest}
    rows = Rows(options.rows, asked)
    found = {
        "engine": rows.get("engine", lambda: in_process(ready, Prompts(loaded, text), n, options)),
        "http": rows.get("http", lambda: over_http(options, text, n)),
        "overload": rows.get("overload", lambda: overload(options, text)),
    }
    for name, row in found.items():
        print(name, row, flush=True)
    return found


def in_process(ready: Any, maker: Prompts, n: int, options: Namespace) -> Row:
    asked = [maker.request(i) for i in range(n)]
    menu = ours.plans(ready.n_layers, options.threads)
    began = time.perf_counter()
    with ours.engine(ready, menu, Drawn(list(menu), 0), max_running=N_AT_ONCE) as running:
        crowd = ours.ask(running, asked, n_at_once=N_AT_ONCE)
    seconds = time.perf_counter() - began
    with ours.pinned(ready, ours.PLAIN, max_running=1) as running:
        alone = ours.ask(running, [ours.as_asked_before(done) for done in crowd])
    gaps = [1e3 * (b - a) for done in crowd
            for a, b in zip(done.at_s, done.at_s[1:], strict=False)]  # fmt: skip
    return {
        "streams": n,
        "lost": n - sum(done.end is not None and len(done.ids) > 0 for done in crowd),
        "mixed_up": sum(a.ids != b.ids for a, b in zip(crowd, alone, strict=True)),
        "tokens_per_s": sum(len(done.ids) for done in crowd) / seconds,
        "gap_p50_ms": ours.percentile(gaps, 50),
        "gap_p99_ms": ours.percentile(gaps, 99),
        "first_p99_ms": ours.percentile([1e3 * done.at_s[0] for done in crowd], 99),
    }


def over_http(options: Namespace, text: str, n: int) -> Row:
    maker = Maker(text, n_chars=800, seed=5)
    asked = list(maker.mix(dict.fromkeys(WORKLOADS, 1.0), n))
    with live.server(options.model, "--dtype", options.dtype) as (server, _):
        began = time.perf_counter()
        answers = replay.replay(asked, server, n_at_once=N_AT_ONCE)
        seconds = time.perf_counter() - began
        checked = replay.check(answers, server, "plain")
    return {
        **replay.row(checked, seconds),
        "lost": sum(each.n_requests for each in asked) - len(answers),
        "mixed_up": sum(answer.equal is False for answer in checked),
        "total_p99_ms": ours.percentile([1e3 * answer.total_s for answer in answers], 99),
    }


def overload(options: Namespace, text: str) -> Row:
    """What admitted requests take when ever more clients ask a server with a short queue at once.

    Those it has no room for are told so (429) and come again when it said; only what was admitted
    has a time, from when it was sent to its last token.
    """
    maker = Maker(text, n_chars=800, seed=6)
    single = {name: 1.0 for name in WORKLOADS if name != "agent"}
    flags = ("--dtype", options.dtype, "--max-queue", str(QUEUE), "--max-running", str(RUNNING))
    found: Row = {}
    with live.server(options.model, *flags) as (server, _):
        for clients in CLIENTS:
            asked = list(maker.mix(single, 4 * clients))
            answers = replay.replay(asked, server, n_at_once=clients)
            total = [1e3 * answer.total_s for answer in answers if answer.error is None]
            errors = [answer.error or "" for answer in answers if answer.error is not None]
            found |= {
                f"admitted_{clients}": len(total),
                f"refused_{clients}": sum(answer.n_refused for answer in answers),
                f"other_errors_{clients}": sum(not error.startswith("429") for error in errors),
                f"p50_ms_{clients}": ours.percentile(total, 50),
                f"p99_ms_{clients}": ours.percentile(total, 99),
            }
    return found

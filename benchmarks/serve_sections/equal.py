"""10,000 prompts, half greedy and half drawn: in company, cached, drafted - and the plain model.

Each prompt is written by the plain plan, one at a time, without cache; and by an engine that draws
a plan from the whole menu for each, sixteen side by side, with the cache on. Tokens must be equal,
and so must the log-probabilities, bit for bit. A sample is compared with torch's own generate(),
whose rounding is another: what differs there is not the plan.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from typing import Any

import numpy as np
from research_sections.rows import Row, Rows

from mendel.generate import generate
from mendel.serve.protocols import Choice, Features, Trace
from mendel.serve.workloads import WORKLOADS, Maker
from serve_sections import ours
from serve_sections.train import unseen

N_PROMPTS, CHUNK, N_AT_ONCE, N_OUT, N_TORCH = 10_000, 250, 16, 24, 40


class Drawn:
    """Any plan of the menu, at random."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.names, self.rng = names, np.random.default_rng(seed)

    def choose(self, features: Features) -> Choice:
        return Choice(self.names[int(self.rng.integers(len(self.names)))], "explored")

    def done(self, trace: Trace) -> None: ...


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    maker = Prompts(loaded, unseen(options.shared))
    n = options.requests or N_PROMPTS
    asked = {"section": "equal", "model": str(options.model), "digest": ready.digest}
    rows, total = Rows(options.rows, asked), Counter[str]()
    for begin in range(0, n, CHUNK):
        found = rows.get(str(begin), lambda b=begin: one(ready, maker, b, options.threads))
        total.update(found)
        print(f"{begin + CHUNK} of {n}: {dict(total)}", flush=True)
    torchs = rows.get("torch", lambda: as_torch(loaded, ready, maker))
    print("beside torch's generate():", torchs, flush=True)
    return {**total, "torch": torchs}


class Prompts:
    """Openings of every workload, and conversations cut off anywhere, by number."""

    def __init__(self, loaded: Any, text: str) -> None:
        self.codec, self.context = loaded.tokenizer, loaded.model.spec.context
        self.maker = Maker(text, n_chars=900, seed=3)

    def case(self, i: int) -> ours.Case:
        workload = WORKLOADS[i % len(WORKLOADS)]
        made = self.maker.make(workload, i // len(WORKLOADS))
        said = made.document() or made.opening
        ids = [int(id) for id in self.codec.encode(said)][: self.context - N_OUT]
        cut = int(np.random.default_rng([7, i]).integers(1, len(ids) + 1)) if i % 3 else len(ids)
        return ours.Case(workload, tuple(ids[: max(cut, 2)]), N_OUT)

    def request(self, i: int) -> Any:
        if i % 2:
            top_p = (1.0, 0.9)[i % 4 // 2]
            return ours.with_seed(self.case(i), i, 0.5 + i % 7 / 7, top_p, n_logprobs=0)
        return ours.request(self.case(i), n_logprobs=0)


def one(ready: Any, maker: Prompts, begin: int, threads: int) -> Row:
    asked = [maker.request(i) for i in range(begin, begin + CHUNK)]
    menu = ours.plans(ready.n_layers, threads)
    with ours.engine(ready, menu, Drawn(list(menu), begin)) as running:
        mixed = ours.ask(running, asked, n_at_once=N_AT_ONCE)
    with ours.pinned(ready, ours.PLAIN, max_running=1) as running:
        plain = ours.ask(running, [ours.as_asked_before(done) for done in mixed])
    pairs = list(zip(mixed, plain, strict=True))
    drafted = sum(done.end.trace.n_accepted > 0 for done in mixed if done.end)
    return {
        "prompts": len(pairs),
        "greedy": sum(done.request.sampler.temperature == 0 for done in mixed),
        "tokens": sum(len(done.ids) for done in plain),
        "different": sum(a.ids != b.ids for a, b in pairs),
        "different_logprobs": sum(a.logprobs != b.logprobs for a, b in pairs),
        "with_kept_drafts": drafted,
        "with_cached_prefix": sum(done.end.trace.features.n_cached > 0 for done in mixed
                                  if done.end),
    }  # fmt: skip


def as_torch(loaded: Any, ready: Any, maker: Prompts) -> Row:
    """Greedy texts by the kernels and by torch in float32."""
    cases = [maker.case(i) for i in range(N_TORCH)]
    with ours.pinned(ready, ours.PLAIN) as running:
        texts = [done.ids for done in ours.ask(running, [ours.request(case) for case in cases])]
    same = [
        ids == list(generate(loaded.model, case.prompt, n_tokens=case.n_tokens))
        for ids, case in zip(texts, cases, strict=True)
    ]
    return {"texts": len(same), "equal": sum(same)}

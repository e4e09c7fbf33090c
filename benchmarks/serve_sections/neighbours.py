"""What one tenant does to another: to the time of its answers, and to its secrets.

Adversarial prompts (as long as can be, one token over and over, the classes in turn) run beside a
stream of benign requests, in blocks that alternate with blocks of benign neighbours of the same
token counts. A prober times 2,000 prompts, half of them with a prefix that its neighbour has just
used: the AUC of "faster means used" is 0.5 where nothing is learned.
"""

from __future__ import annotations

import itertools
import threading
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
from research_sections.rows import Row, Rows

from mendel.serve.engine import Engine
from mendel.serve.protocols import Program, Request
from serve_sections import ours
from serve_sections.equal import Drawn, Prompts
from serve_sections.train import unseen

N_BLOCKS, PER_BLOCK, N_ATTACKERS, N_PROBES = 20, 30, 4, 2000
KINDS = ("long", "repeated", "alternating")


def measure(options: Namespace) -> dict[str, Any]:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    n = options.requests or N_PROBES
    asked = {"section": "neighbours", "model": str(options.model), "digest": ready.digest, "n": n}
    rows, found = Rows(options.rows, asked), {}
    maker = Prompts(loaded, unseen(options.shared))
    for kind in KINDS:
        found[kind] = rows.get(kind, lambda k=kind: beside(ready, maker, k, options))
        print(kind, found[kind], flush=True)
    found["prober"] = rows.get("prober", lambda: prober(ready, maker, n, options))
    print("prober", found["prober"], flush=True)
    return found


def beside(ready: Program, maker: Prompts, kind: str, options: Namespace) -> Row:
    """p95 of a victim's whole requests beside each kind of neighbour; and its tokens."""
    menu = ours.plans(ready.n_layers, options.threads)
    times: dict[str, list[float]] = {"benign": [], kind: []}
    texts: dict[str, list[list[int]]] = {"benign": [], kind: []}
    with ours.engine(ready, menu, Drawn(list(menu), 0)) as running:
        for block in range(N_BLOCKS):
            for which in times if block % 2 else reversed(list(times)):
                numbers = range(block * PER_BLOCK, (block + 1) * PER_BLOCK)
                asked = [ours.request(maker.case(5 * i + 2), tenant="victim") for i in numbers]
                with attacked(running, ready, maker, which):
                    done = ours.ask(running, asked)
                times[which] += [1e3 * each.at_s[-1] for each in done]
                texts[which] += [each.ids for each in done]
    benign, bad = (ours.percentile(found, 95) for found in times.values())
    return {
        "p95_ms_beside_benign": benign,
        "p95_ms_beside_it": bad,
        "raised_by": bad / benign - 1,
        "n": len(times[kind]),
        "texts_changed": sum(a != b for a, b in zip(*texts.values(), strict=True)),
    }


class attacked:
    """Neighbours that keep the engine busy with requests of their kind until the block ends."""

    def __init__(self, running: Engine, ready: Program, maker: Prompts, kind: str) -> None:
        self._stop = threading.Event()
        asked = neighbours(ready, maker, kind)
        lock = threading.Lock()

        def work(tenant: int) -> None:
            while not self._stop.is_set():
                with lock:
                    case = next(asked)
                ours.ask(running, [ours.request(case, tenant=f"neighbour-{tenant}")])

        self._threads = [threading.Thread(target=work, args=(i,)) for i in range(N_ATTACKERS)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def neighbours(ready: Program, maker: Prompts, kind: str) -> Iterator[ours.Case]:
    """Prompts of `long` tokens, whatever their kind: benign ones are text that nobody repeats."""
    long = maker.context - ours_out(maker)
    text = [int(id) for id in maker.codec.encode(unseen_text(maker))]
    rng = np.random.default_rng(1)
    for i in itertools.count():
        begin = int(rng.integers(len(text) - long))
        benign = text[begin : begin + long]
        if kind == "repeated":
            benign = [benign[0]] * long
        elif kind == "long":  # the longest that there may be, and no words: nothing is shared
            benign = [int(id) for id in rng.integers(ready.vocab, size=long)]
        elif kind == "alternating" and i % 2:
            benign = (benign[: long // 8] * 9)[:long]
        yield ours.Case(kind, tuple(benign), 16)


def ours_out(maker: Prompts) -> int:
    return max(16, maker.context // 8)


def unseen_text(maker: Prompts) -> str:
    return " ".join(maker.maker.make("long", i).opening for i in range(60))


def prober(ready: Program, maker: Prompts, n: int, options: Namespace) -> Row:
    """Time to the first token of prompts that the neighbour used just now, and of fresh ones."""
    menu = ours.plans(ready.n_layers, options.threads)
    plan = next(iter(menu))
    rng = np.random.default_rng(5)
    text = [int(id) for id in maker.codec.encode(unseen_text(maker))]
    times: dict[bool, list[float]] = {True: [], False: []}
    own: dict[bool, list[float]] = {True: [], False: []}

    def first_ms(running: Engine, prompt: tuple[int, ...], tenant: str) -> float:
        asked = Request(f"probe-{next(ours.COUNT)}", prompt, 1, tenant=tenant, plan=plan)
        [done] = ours.ask(running, [asked])
        return 1e3 * done.at_s[0]

    with ours.engine(ready, menu, Drawn(list(menu), 0)) as running:
        for i in range(n):
            length = min(192, maker.context // 2)
            begin = int(rng.integers(len(text) - length))
            # a first token that no other has: what the prober times is never what it asked before
            prompt = (int(rng.integers(ready.vocab)), *text[begin : begin + length])
            was_used = bool(rng.integers(2))
            other = (int(rng.integers(ready.vocab)), *text[begin : begin + length])
            first_ms(running, prompt if was_used else other, "victim")
            times[was_used].append(first_ms(running, prompt, "prober"))
            if i % 10 == 0:  # that the probe would see a shared cache: the prober's own
                own[True].append(first_ms(running, prompt, "prober"))
                own[False].append(first_ms(running, (prompt[1], *prompt), "prober"))
    return {
        "n": n,
        "auc": auc(times[True], times[False]),
        "auc_of_own_prefix": auc(own[True], own[False]),
        "used_p50_ms": ours.percentile(times[True], 50),
        "fresh_p50_ms": ours.percentile(times[False], 50),
    }


def auc(used: list[float], fresh: list[float]) -> float:
    """Chance that a used one is faster than a fresh one."""
    order = np.sort(np.array(fresh))
    above = len(order) - np.searchsorted(order, used, side="right")
    equal = np.searchsorted(order, used, side="right") - np.searchsorted(order, used, side="left")
    return float((above + equal / 2).mean() / len(order))

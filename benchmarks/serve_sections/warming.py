"""Multi-turn traffic with and without predictive warming: time to the first token of later turns.

Agents call tools; between an answer and the next prompt lie THINK_S, as a tool takes them. Both
engines are given the same conversations in turn, each going on from the answers it gave, which are
the same in both. A tool answers the call that was made; its result is new in part, and nobody tells
the server which.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from typing import Any

from research_sections.rows import Row, Rows

from mendel.clocks.tune.foresight import Foresight, Said
from mendel.serve.engine import Engine
from mendel.serve.workloads import Conversation
from mendel.spec import PlanSpec
from serve_sections import ours
from serve_sections.train import unseen

N_CONVERSATIONS, THINK_S = 150, 0.15


def measure(options: Namespace) -> dict[str, Any]:
    n = options.requests or N_CONVERSATIONS
    asked = {"section": "warming", "model": str(options.model), "dtype": options.dtype, "n": n}
    found = Rows(options.rows, asked).get("agent", lambda: one(options, n))
    print(found, flush=True)
    return found


def one(options: Namespace, n: int) -> Row:
    loaded = ours.load(options.model)
    ready, other = (ours.program(loaded.model, options.dtype) for _ in range(2))
    cases = ours.Cases(loaded, unseen(options.shared), ready)
    foresight = Foresight()
    firsts: dict[str, list[float]] = {"cold": [], "warmed": []}
    equal = 0
    with (
        ours.pinned(other, PlanSpec(threads=options.threads)) as cold,
        ours.pinned(ready, PlanSpec(threads=options.threads)) as warm,
    ):
        foresight.begin(warm)
        for i in range(n):
            talk = cases.maker.make("agent", i)
            texts = []
            for name, running, hears in (("cold", cold, None), ("warmed", warm, foresight)):
                turns = talked(cases, running, talk, hears)
                firsts[name] += [1e3 * done.at_s[0] for done in turns[1:] if done.at_s]
                texts.append([done.ids for done in turns])
            equal += texts[0] == texts[1]
        foresight.close()
        told, spent = foresight.status(), warm.stats()
    p50 = {name: statistics.median(found) for name, found in firsts.items()}
    return {
        "turns": len(firsts["warmed"]),
        **{f"first_p50_ms_{name}": value for name, value in p50.items()},
        "change": p50["warmed"] / p50["cold"] - 1,
        "change_of_mean": statistics.mean(firsts["warmed"]) / statistics.mean(firsts["cold"]) - 1,
        "wasted_share_of_time": spent.wasted_s / max(spent.work_s + spent.warm_s, 1e-9),
        "equal_conversations": equal,
        **told,
    }


def talked(
    cases: ours.Cases, running: Engine, talk: Conversation, hears: Foresight | None
) -> list[ours.Done]:
    """Each turn with the answers so far; the server thinks of nothing else meanwhile."""
    said, found = talk.opening, []
    for i in range(talk.n_requests):
        ids = tuple(int(id) for id in cases.codec.encode(said))
        room = cases.context - len(ids)
        if room < 1:
            break
        case = ours.Case("agent", ids, min(talk.n_tokens, room))
        [done] = ours.ask(running, [ours.request(case, stop=cases.stops(talk.stop))])
        found.append(done)
        if hears is not None and done.end is not None:
            n_cached = done.end.trace.features.n_cached
            hears.heard(Said(ids, tuple(done.ids), "", n_cached, done.end.reason))
        if i == len(talk.then):
            break
        answer = cases.codec.decode(done.ids)
        said += answer + talk.reply(i, answer)
        time.sleep(THINK_S)
    return found

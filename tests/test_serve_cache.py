"""The prefix cache: what it gives is right, tenants share nothing, and its memory holds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.serve.cache import BLOCK, LEAST, LOOKS, Chain, PrefixCache
from mendel.serve.protocols import Piece, Request
from mendel.serve.prove import plain
from mendel.serve.reference import Reference

from .serve_models import VOCAB, Heard, ask, running, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def prompt(n: int, seed: int = 0) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(VOCAB) for _ in range(n))


def put(cache: PrefixCache, program: Reference, ids: tuple[int, ...], tenant: str = "") -> None:
    chain, text = cache.chain(tenant), program.text()
    chain.grow(ids)
    program.run([Piece(text, ids)])
    cache.put(chain, text)


def taken(cache: PrefixCache, ids: tuple[int, ...], tenant: str = "") -> int:
    chain = cache.chain(tenant)
    chain.grow(ids)
    found = cache.take(chain, len(ids) - 1)
    if found is None:
        return 0
    assert found[0].n == found[1]
    found[0].free()
    return found[1]


def test_the_longest_known_prefix_is_given_to_its_last_token() -> None:
    program = Reference(tiny())
    cache = PrefixCache(2**30, cuts=program.cuts)
    ids = prompt(5 * BLOCK + 3)
    put(cache, program, ids)
    assert taken(cache, ids) == 5 * BLOCK + 2  # the last token has to be run
    assert taken(cache, ids[: 4 * BLOCK]) == 4 * BLOCK - 1
    assert taken(cache, ids[: 4 * BLOCK + 1]) == 4 * BLOCK
    for n in (2 * BLOCK, 2 * BLOCK + 7, LEAST):
        other = (ids[n] + 1) % VOCAB
        assert taken(cache, (*ids[:n], other, *prompt(50, 1))) == n
    assert taken(cache, (*ids[: LEAST - 1], (ids[LEAST - 1] + 1) % VOCAB, *ids)) == 0
    assert taken(cache, prompt(100, 2)) == 0
    cache.clear()
    assert program.n_bytes == 0


def test_a_block_in_another_place_is_another_prefix() -> None:
    program = Reference(tiny())
    cache = PrefixCache(2**30, cuts=program.cuts)
    ids = prompt(2 * BLOCK)
    put(cache, program, ids)
    assert taken(cache, (*ids[BLOCK:], *ids)) == 0


def test_a_longer_text_takes_the_place_of_its_beginning() -> None:
    program = Reference(tiny())
    cache = PrefixCache(2**30, cuts=True)
    ids = prompt(4 * BLOCK)
    for n in (1, 2, 4):
        put(cache, program, ids[: n * BLOCK])
        assert len(cache) == 1
    assert taken(cache, (*ids, 1)) == 4 * BLOCK


def test_without_cuts_a_prefix_is_known_where_a_text_was_forked() -> None:
    program = Reference(tiny("a recurrence"))
    cache = PrefixCache(2**30, cuts=program.cuts)
    ids = prompt(4 * BLOCK)
    put(cache, program, ids[: 2 * BLOCK])
    put(cache, program, ids)
    assert not program.cuts and len(cache) == 2
    assert taken(cache, (*ids, 1)) == 4 * BLOCK
    assert taken(cache, ids) == 2 * BLOCK
    put(cache, program, prompt(BLOCK + 1, 1))
    assert len(cache) == 2 and taken(cache, prompt(BLOCK + 9, 1)) == 0


def test_a_program_that_promised_cuts_and_cannot_is_found_out() -> None:
    program = Reference(tiny("a recurrence"))
    cache = PrefixCache(2**30, cuts=True)
    ids = prompt(3 * BLOCK)
    put(cache, program, ids)
    assert taken(cache, (*ids[: 2 * BLOCK], 1, 1)) == 0
    assert not cache.cuts
    assert taken(cache, (*ids, 1)) == 3 * BLOCK


def test_the_least_recently_used_goes_first() -> None:
    program = Reference(tiny())
    cache = PrefixCache(2**30, cuts=program.cuts)
    texts = [prompt(BLOCK + 1, seed) for seed in range(3)]
    for ids in texts:
        put(cache, program, ids[:BLOCK])
    assert taken(cache, texts[0]) == BLOCK
    cache.evict()
    assert [taken(cache, ids) for ids in texts] == [BLOCK, 0, BLOCK]


def test_tenants_share_nothing() -> None:
    program = Reference(tiny())
    ids = prompt(100)
    with running(program) as engine:
        first = ask(engine, [Request("a", ids, 2, tenant="a")])[0]
        other = ask(engine, [Request("b", ids, 2, tenant="b")])[0]
        again = ask(engine, [Request("c", ids, 2, tenant="a")])[0]
    known = [heard.end.trace.features.n_cached for heard in (first, other, again)]
    assert known == [0, 0, 99]
    assert first.ids == other.ids == again.ids


def test_two_servers_hash_the_same_text_differently() -> None:
    chains = [PrefixCache(1, cuts=True).chain("t") for _ in range(2)]
    for chain in chains:
        chain.grow(prompt(BLOCK))
    assert chains[0].hashes != chains[1].hashes


@pytest.mark.parametrize("name", ("llama", "a window", "a recurrence"))
def test_the_cache_holds_its_bytes_and_all_texts_the_capacity(name: str) -> None:
    program = Reference(tiny(name), capacity_bytes=300_000)
    most = []

    def hear(_: Any) -> None:
        most.append(program.n_bytes)

    with running(program, cache_bytes=100_000) as engine:
        for i in range(12):
            heard = Heard()
            engine.submit(Request(f"r{i}", prompt(50 + 7 * i, i), 4), heard)
            assert heard.end.reason == "length"
            engine.submit(Request(f"s{i}", prompt(20, i), 2), hear)
        engine.close(60)
        assert engine.cache.n_evicted > 0
    assert 0 < max(most) <= 300_000


@pytest.mark.parametrize("name", ("llama", "a recurrence"))
def test_at_rest_only_the_cache_holds_memory_and_no_more_than_it_may(name: str) -> None:
    program = Reference(tiny(name))
    with running(program, cache_bytes=30_000) as engine:
        for i in range(8):
            ask(engine, [Request(f"r{i}", prompt(90, i), 3)])
        stats = engine.stats()
        assert 0 < stats.n_bytes <= 30_000 and stats.n_evicted > 0
    assert program.n_bytes == 0


def test_a_conversation_finds_its_earlier_turns() -> None:
    program = Reference(tiny())
    with running(program) as engine:
        ids = prompt(40)
        for turn in range(3):
            request = Request(f"t{turn}", ids, 30)
            (heard,) = ask(engine, [request])
            assert heard.tokens == plain(program, request)
            known = heard.end.trace.features.n_cached
            assert known == (0 if turn == 0 else len(ids) - 5 - 1)  # the last token was not run
            ids = (*ids, *heard.ids, *prompt(5, turn))


@pytest.mark.parametrize("name", ("llama", "a recurrence"))
def test_a_prefix_warmed_when_idle_is_there_for_who_comes(name: str) -> None:
    program = Reference(tiny(name))
    with running(program, warm_share=0.9) as engine:
        ask(engine, [Request("first", prompt(200, 9), 40)])
        ids = prompt(100)
        assert engine.warm(ids)
        wait_until_warmed(engine, 1)
        before = engine.stats()
        assert before.wasted_s > 0
        request = Request("r", ids, 5)
        (heard,) = ask(engine, [request])
        assert heard.end.trace.features.n_cached == (99 if program.cuts else 96)
        assert engine.stats().wasted_s == pytest.approx(0, abs=1e-9)
        assert heard.tokens == plain(program, request)


def test_warming_stops_where_it_was_not_asked_for() -> None:
    program = Reference(tiny())
    with running(program, warm_share=0.1) as engine:
        assert not engine.warm(prompt(100)), "nothing was done yet of which this were a share"
        ask(engine, [Request("first", prompt(200, 9), 100)])
        seeds, before, most = itertools.count(10), 0.0, 0.0
        while engine.warm(prompt(64, next(seeds))):  # another one each time
            ask(engine, [Request(f"x{next(seeds)}", (1,), 1)])
            spent = engine.stats().warm_s
            before, most = spent, max(most, spent - before)  # how far one may be misjudged
        engine.close(10)
        stats = engine.stats()
    most = max(most, stats.warm_s - before)
    assert 0 < stats.wasted_s <= 0.1 * stats.work_s + 2 * most


def wait_until_warmed(engine: Any, n: int) -> None:
    """By asking: what is idle work goes on behind it."""
    for i in range(10_000):
        if engine.stats().n_warmed >= n:
            return
        ask(engine, [Request(f"wait{i}", (1,), 1)])
    raise AssertionError("nothing was warmed")


@pytest.mark.parametrize("name", ("llama", "a recurrence"))
def test_prompts_that_arrive_together_and_begin_alike_are_computed_once(name: str) -> None:
    program = Reference(tiny(name))
    common = prompt(6 * BLOCK)
    asked = [Request(f"r{i}", (*common, *prompt(5, i)), 3) for i in range(6)]
    with running(program) as engine:
        gate = Heard()
        engine.submit(Request("gate", (1,), 5000), gate)
        assert gate.begun.wait(30)
        before = engine.stats().n_rows
        heard = ask(engine, asked)
        engine.cancel("gate")
        assert gate.end
        stats = engine.stats()
    others = stats.n_rows - before - len(gate.tokens)
    assert others < 2 * len(common), "six prompts would be 6 times as many"
    assert [one.tokens for one in heard] == [plain(program, request) for request in asked]


class Noted:
    """A text that is nothing but its tokens."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.is_freed = tuple(ids), False

    @property
    def n(self) -> int:
        return len(self.ids)

    def fork(self) -> Noted:
        assert not self.is_freed
        return Noted(self.ids)

    def cut(self, n: int) -> None:
        self.ids = self.ids[:n]

    def free(self) -> None:
        self.is_freed = True


def chained(cache: PrefixCache, ids: Sequence[int], tenant: str) -> Chain:
    chain = cache.chain(tenant)
    chain.grow(ids)
    return chain


TEXT = st.lists(st.sampled_from((1, 2)), min_size=1, max_size=12)  # that begin alike, often


@given(st.lists(st.tuples(TEXT, st.integers(1, 9), st.sampled_from("ab")), max_size=LOOKS))
@settings(max_examples=150, deadline=None)
def test_a_cache_gives_the_longest_beginning_of_all_that_it_was_given(
    texts: list[tuple[list[int], int, str]],
) -> None:
    cache = PrefixCache(2**30, cuts=True)
    put: list[tuple[str, tuple[int, ...]]] = []
    for few, times, tenant in texts:
        ids = tuple(id for id in few for _ in range(times))
        best = max((_alike(ids[:-1], its) for whose, its in put if whose == tenant), default=0)
        found = cache.take(chained(cache, ids, tenant), len(ids) - 1)
        assert (found[1] if found else 0) == (best if best >= LEAST else 0)
        if found is not None:
            assert isinstance(found[0], Noted) and found[0].ids == ids[: found[1]]
        cache.put(chained(cache, ids, tenant), Noted(ids))
        put.append((tenant, ids))
    for i, entry in enumerate(cache._entries.values()):
        assert entry.text.n == len(entry.ids) and not entry.text.is_freed  # type: ignore[attr-defined]
        others = [e for j, e in enumerate(cache._entries.values()) if j != i]
        first = entry.hashes[0]
        assert not any(
            e.hashes[0] == first and e.ids[: len(entry.ids)] == entry.ids for e in others
        ), "it says nothing that another one does not"
    cache.clear()
    assert not cache._holders and not cache._ends


def _alike(ids: Sequence[int], others: Sequence[int]) -> int:
    pairs = zip(ids, others, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))


@pytest.mark.parametrize("n", (20, 50))
def test_what_is_alike_behind_the_last_block_is_not_computed_again(n: int) -> None:
    program = Reference(tiny())
    common = prompt(n)
    asked = [Request(f"r{i}", (*common, i, *prompt(4, i)), 3) for i in range(1, 4)]
    with running(program) as engine:
        heard = [ask(engine, [request])[0] for request in asked]
        n_rows = engine.stats().n_rows
        stranger = ask(engine, [Request("s", asked[0].prompt, 3, tenant="another")])[0]
    assert [one.end.trace.features.n_cached for one in heard] == [0, n, n]
    assert stranger.end.trace.features.n_cached == 0
    assert n_rows == (n + 5) + 2 * 5 + 3 * 2, "prompts but for what is known, and their outputs"
    assert [one.tokens for one in heard] == [plain(program, request) for request in asked]


def test_kernels_go_on_inside_a_block_with_the_same_bits() -> None:
    pytest.importorskip("numba")
    from mendel.serve import numerics

    program = numerics.program(tiny(), dtype="float32", capacity_bytes=2**22)
    common = prompt(45)
    asked = [Request(f"r{i}", (*common, i, *prompt(9, i)), 8, n_logprobs=2) for i in range(6)]
    wanted = [plain(program, request) for request in asked]
    with running(program) as engine:
        heard = [ask(engine, [request])[0] for request in asked]
        assert [one.tokens for one in heard] == wanted
        assert [one.tokens for one in ask(engine, asked)] == wanted
        known = [one.end.trace.features.n_cached for one in heard]
    assert known[0] == 0 and all(n >= 45 for n in known[1:])
    assert program.n_bytes == 0

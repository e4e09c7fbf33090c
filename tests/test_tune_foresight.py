"""What is foreseen is warmed, in whole blocks, little of it in vain, and for its own tenant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mendel.clocks.tune.foresight import WASTE, Foresight, Said
from mendel.clocks.tune.habits import MOST_KINDS, MOST_TEXTS, MOST_TOKENS, Habits, alike
from mendel.data.tokenizers import train_bpe
from mendel.serve.cache import BLOCK
from mendel.serve.engine import Engine
from mendel.serve.protocols import Fixed, Request
from mendel.serve.reference import Reference
from mendel.serve.workloads import Maker
from mendel.spec import PlanSpec

from .serve_models import VOCAB, ask, tiny

HEADER = tuple(range(1000, 1040))  # what always follows an answer


class Taken:
    """An engine that takes all it is offered."""

    def __init__(self, block: int = BLOCK) -> None:
        self.block = block
        self.warmed: list[tuple[tuple[int, ...], str]] = []

    def warm(self, ids: Sequence[int], tenant: str = "") -> bool:
        self.warmed.append((tuple(ids), tenant))
        return True


def random_ids(chance: np.random.Generator, n: int) -> tuple[int, ...]:
    return tuple(chance.integers(0, 900, n).tolist())


def talk(
    foresight: Foresight,
    engine: Taken,
    chance: np.random.Generator,
    *,
    n: int = 5,
    tenant: str = "a",
) -> None:
    """Turns of one conversation; after each answer the header, then new words."""
    text = random_ids(chance, 50)
    for _ in range(n):
        output = (*random_ids(chance, 20), 7, 7)  # ends as answers end
        foresight.heard(Said(text, output, tenant, n_cached=len(text) // 2))
        foresight.tick(engine)
        text = (*text, *output, *HEADER, *random_ids(chance, 15))


def test_what_always_follows_is_warmed_and_used() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(0)
    for _ in range(40):
        talk(foresight, engine, chance)
    told = foresight.status()
    assert told["n_hit"] > 60
    assert told["n_hit"] / told["n_offered"] > 0.6
    assert told["wasted_share"] <= WASTE
    for ids, _ in engine.warmed:
        assert len(ids) % BLOCK == 0


def test_texts_that_nobody_goes_on_from_are_not_warmed() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(1)
    for _ in range(500):
        foresight.heard(Said(random_ids(chance, 80), random_ids(chance, 30), "a", 0))
        foresight.tick(engine)
    assert not engine.warmed


def test_what_cannot_be_foreseen_wastes_no_more_than_its_share() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(2)
    for _ in range(20):
        talk(foresight, engine, chance)
    for _ in range(400):  # from now on, other words follow
        text = random_ids(chance, 50)
        for _ in range(3):
            output = (*random_ids(chance, 20), 7, 7)
            foresight.heard(Said(text, output, "a", 25))
            foresight.tick(engine)
            text = (*text, *output, *random_ids(chance, 40))
    assert foresight.status()["wasted_share"] <= WASTE + 0.01


def test_a_tenant_learns_nothing_from_another() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(3)
    for _ in range(20):
        talk(foresight, engine, chance, tenant="a")
    n = len(engine.warmed)
    assert n and {tenant for _, tenant in engine.warmed} == {"a"}
    talk(foresight, engine, chance, tenant="b", n=2)
    assert len(engine.warmed) == n


def test_what_it_remembers_is_bounded() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(4)
    for _ in range(300):
        text = random_ids(chance, 40)
        foresight.heard(Said(text, (1,) * 30, "a", 0))
        more = (*text, *(1,) * 30, *random_ids(chance, 300))
        foresight.heard(Said(more, (1,), "a", 0))
        foresight.tick(engine)
    habits = foresight.habits
    assert len(habits) <= MOST_KINDS
    assert len(habits._texts) <= MOST_TEXTS
    kept = sum(len(ids) for kind in habits._kinds.values() for ids in kind.then)
    assert habits.n_tokens == kept <= MOST_TOKENS


def test_what_a_call_is_answered_with_is_foreseen_from_the_call() -> None:
    """Eight calls, each with a result that begins in its own words and ends in new ones."""
    foresight, engine = Foresight(), Taken(block=1)
    chance = np.random.default_rng(6)
    calls = [(1, 2, 500 + k, 3) for k in range(8)]
    usual = [random_ids(chance, 45) for _ in calls]
    new = found = 0
    for i in range(60):
        text, n_cached = random_ids(chance, 40), 0
        for k in chance.integers(0, len(calls), 4).tolist():
            foresight.heard(Said(text, calls[k], "a", n_cached))
            n = len(engine.warmed)
            foresight.tick(engine)
            n_cached = len(text)
            before = (*text, *calls[k])
            text = (*before, *HEADER[:8], *usual[k], *random_ids(chance, 15))
            if i >= 20:
                new += len(text) - len(before)
                warmed = engine.warmed[-1][0] if len(engine.warmed) > n else before
                found += max(0, len(warmed) - len(before)) if text[: len(warmed)] == warmed else 0
    assert found > 0.6 * new  # 53 of 68 can be known
    assert foresight.status()["wasted_share"] <= WASTE


def test_an_answer_that_ends_a_talk_is_known_by_its_first_words() -> None:
    foresight, engine = Foresight(), Taken()
    chance = np.random.default_rng(7)
    for _ in range(30):
        text = random_ids(chance, 50)
        for last in (False, False, True):
            output = (8 if last else 9, 6, *random_ids(chance, 20), 7, 7)
            foresight.heard(Said(text, output, "a", len(text)))
            n = len(engine.warmed)
            foresight.tick(engine)
            ended_in_vain = last and len(engine.warmed) > n
            text = (*text, *output, *HEADER)
    assert engine.warmed
    assert not ended_in_vain
    assert foresight.status()["n_used"] > 0.9 * foresight.status()["n_warmed"]


def test_where_the_asker_writes_the_history_anew_its_own_ids_are_warmed() -> None:
    foresight, engine = Foresight(), Taken(block=1)
    chance = np.random.default_rng(8)
    text, anew = random_ids(chance, 200), random_ids(chance, 60)
    said = Said(text, random_ids(chance, 60), "a", 0, "cancelled", lambda: (*text, *anew))
    foresight.heard(said)  # cancelled by a stop of the asker's
    foresight.tick(engine)
    assert engine.warmed == [((*text, *anew), "a")]
    foresight.heard(Said(text, random_ids(chance, 40), "a", 0, "cancelled"))  # who left
    foresight.heard(Said(text, random_ids(chance, 40), "a", 0, "cancelled", lambda: None))
    foresight.tick(engine)
    assert len(engine.warmed) == 1


def test_the_way_that_most_went_is_followed_until_they_part() -> None:
    habits = Habits()
    then = [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 4, 6), (1, 2, 9)]
    assert habits.guess(then, 1.0, 0.3) == (1, 2, 3, 4)  # 3 of 4, then 2 of 3; then one is over
    assert habits.guess(then, 0.35, 0.3) == (1, 2)
    assert habits.guess(then[:1], 1.0, 0.3) == ()
    assert habits.guess([(1,), (2,), (3,)], 1.0, 0.3) == ()


@pytest.mark.usefixtures("one_thread")
def test_an_engine_finds_in_its_cache_what_was_foreseen() -> None:
    """The same conversations with and without: fewer tokens to compute, and the same answers."""
    chance = np.random.default_rng(5)
    openings = [tuple(chance.integers(0, VOCAB, 40).tolist()) for _ in range(8)]
    header = tuple(chance.integers(0, VOCAB, 45).tolist())
    with_it, answers = _served(openings, header, Foresight())
    without, same = _served(openings, header, None)
    assert answers == same
    later = slice(20, None)  # once it has learned
    assert sum(with_it[later]) < 0.8 * sum(without[later])


def _served(
    openings: list[tuple[int, ...]], header: tuple[int, ...], foresight: Foresight | None
) -> tuple[list[int], list[list[int]]]:
    """Tokens of later turns that were not in the cache, by conversation; and all answers."""
    plain = {"plain": PlanSpec()}
    engine = Engine(Reference(tiny()), plain, Fixed("plain"), warm_share=10.0)
    missing, answers = [], []
    try:
        for i, opening in enumerate(openings):
            text = opening
            for turn in range(6):
                [heard] = ask(engine, [Request(f"{i}-{turn}", text, 8)])
                features = heard.end.trace.features
                if turn:
                    missing.append(features.n_prompt - features.n_cached)
                said = Said(text, tuple(heard.ids), "", features.n_cached)
                if foresight is not None:
                    foresight.heard(said)
                    n = engine.stats().n_warmed + foresight.tick(engine)
                    _wait_until(lambda n=n: engine.stats().n_warmed >= n)
                answers.append(heard.ids)
                text = (*text, *heard.ids, *header)
    finally:
        engine.close()
    return missing, answers


def _wait_until(holds) -> None:
    import time

    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)


def test_of_an_agents_later_prompts_most_is_computed_before_they_come() -> None:
    """In tokens to the first of an answer, with calls as a good agent makes them."""
    maker = Maker(n_chars=1200, seed=5)
    codec = train_bpe("".join(maker.make("agent", i).document() for i in range(900, 920)), 600)
    foresight, engine = Foresight(), Taken(block=1)
    cold = warm = 0
    for i in range(60):
        talk, before = maker.make("agent", i), ()
        said = talk.opening
        engine.warmed.clear()
        for turn, answer in enumerate(talk.answers):
            ids, output = (tuple(int(id) for id in codec.encode(text)) for text in (said, answer))
            known = min(alike(ids, before), len(ids) - 1)
            warmed = max([known, *(alike(ids, each) for each, _ in engine.warmed)])
            cold, warm = cold + (len(ids) - known) * bool(turn), warm + (len(ids) - warmed)
            warm -= 0 if turn else len(ids) - warmed
            foresight.heard(Said(ids, output, "", warmed))
            foresight.tick(engine)
            before = (*ids, *output)[:-1]
            said += answer + (talk.reply(turn, answer) if turn < len(talk.then) else "")
    assert warm < 0.4 * cold
    assert foresight.status()["wasted_share"] < WASTE

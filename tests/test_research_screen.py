"""What a screen asks: noisy proxies more often, a champion on seeds that it did not win on."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.measure import CLEAR, FACTORS, chosen
from mendel.clocks.research.race import (
    N_ROUND,
    SCREEN,
    SELECTION,
    Bar,
    Seeds,
    Sheet,
    _why_cut,
    first_round,
    fresh,
    trainings,
)
from mendel.clocks.research.replay import replay
from mendel.clocks.research.request import START
from mendel.data.proxies import AnyProxy
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.novelty import canonical
from mendel.spec import Recipe
from mendel.types import Candidate, Champion, Kind, Trial, Turn

from . import research_toy as toy

pytestmark = pytest.mark.usefixtures("one_thread")
LEGS = {leg.name: leg for leg in toy.SUITES.screen}


def told(clock: ResearchClock) -> list[Turn]:
    driver = Driver(clock, clock.ledger)
    driver.start()
    driver.run(lambda: False)
    return clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])


def cost(leg: Any, times: int = 1) -> int:
    return len(trainings(leg, 1, times))


# -- rates --


def test_a_recipe_s_own_rate_is_kept_where_no_other_is_clearly_better() -> None:
    assert FACTORS[chosen([2.0, 1.9, 1.86])] == 1
    assert FACTORS[chosen([2.0, 2.5, 1.99 - CLEAR])] == 3
    assert FACTORS[chosen([2.0, 1.7, 1.65])] == 1 / 3, "of two that are clearly better the lower"
    assert chosen([2.0]) == 0


# -- seeds by noise --


def test_parity_is_trained_twice_a_pair_and_its_champion_as_often_again(line: Any) -> None:
    mine = toy.recipe(0.035)
    clock, _ = line(mine)
    first, *confirmed = told(clock)
    assert first.result.facts["trained"] == {n: [1, 1] for n in LEGS} | {"parity": [2, 4]}
    for turn in confirmed:
        assert turn.result.facts["trained"]["parity"] == [2, 2]
    leg, seeds = LEGS["parity"], clock.seeds(Trial("", clock.line, first.candidate, _start(first)))
    for side, recipe, times in (("proxies", mine, 1), ("champion", canonical(START), 2)):
        wanted = [
            fmean(toy.formula(recipe, leg.proxy, each) for each in trainings(leg, seed, times))
            for seed in seeds.screen
        ]
        assert first.result.facts[side]["parity"] == pytest.approx(wanted, abs=1e-5)


def test_a_race_and_a_proxy_with_little_noise_train_once() -> None:
    assert all(trainings(leg, 5, 2) == (5,) for leg in toy.SUITES.race)
    assert all(trainings(leg, 5, 2) == (5,) for name, leg in LEGS.items() if name != "parity")
    found = trainings(LEGS["parity"], 5, 2)
    assert len(set(found)) == 4 and found[:2] == trainings(LEGS["parity"], 5)


def test_one_training_that_fails_ends_the_pair_and_the_champion_is_not_trained(line: Any) -> None:
    mine, its, asked = toy.recipe(0.1), toy.recipe(), list[str]()
    second = trainings(LEGS["parity"], Seeds.of("line", "reign").screen[0])[1]

    def broken(recipe: Recipe, proxy: AnyProxy, seed: int) -> float | None:
        asked.append(recipe.hash if proxy.name == "parity" else "")
        return None if seed == second else toy.formula(recipe, proxy, seed)

    clock, _ = line(score=broken)
    sheet = first_round(clock.bench, mine, its, Seeds.of("line", "reign"))
    assert sheet.stage == "screen" and str(sheet.error).startswith("parity:")
    assert asked[-2:] == [mine.hash] * 2


# -- looks --


def sheet_of(*gains: float) -> Sheet:
    its = [0.4] * len(gains)
    return Sheet(
        toy.SUITES, "screen",
        mine={name: [0.4 + each for each in gains] for name in LEGS},
        its={name: its for name in LEGS},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gains", "bar", "why"),
    [
        ((0.01,), SCREEN, "+0.010 after 1 of 6 seeds"),
        ((0.1, -0.09), SCREEN, "+0.005 after 2 of 6 seeds"),
        ((0.04, 0.05, 0.04), SCREEN, ""),
        ((0.3, -0.1, -0.1, 0.1), SCREEN, "t = 0.52 < 1, after 4 of 6 seeds"),
        ((0.04, 0.05, 0.04, 0.03), SCREEN, ""),
        ((0.3, -0.1, -0.1, 0.1, 0.0), SCREEN, ""),
        ((0.0,) * 6, SCREEN, ""),  # at its end the judge asks
        ((0.001, 0.001), SELECTION, ""),
        ((0.001, -0.002), SELECTION, "after 2 of 4 seeds"),
    ],
)
def test_a_screen_goes_on_only_with_who_may_pass_it(
    gains: tuple[float, ...], bar: Bar, why: str
) -> None:
    found = _why_cut(sheet_of(*gains), bar)
    assert why in found and bool(why) == bool(found)


# -- a reign --


def test_after_a_lost_confirmation_the_screen_is_on_its_seeds_where_the_champion_is_known(
    line: Any, ledger: Ledger
) -> None:
    start, lucky, better = canonical(START), toy.recipe(0.0, 1), toy.recipe(0.0, 2)
    seen: list[tuple[str, str, int]] = []
    screened = set[int]()

    def score(recipe: Recipe, proxy: AnyProxy, seed: int) -> float:
        seen.append((recipe.hash, proxy.name, seed))
        gain = {lucky.hash: 0.05 if seed in screened else -0.05, better.hash: 0.05}
        return toy.formula(recipe, proxy, seed) + gain.get(recipe.hash, 0.0)

    clock, _ = line(lucky, better, score=score)
    begun = Driver(clock, ledger).start()
    seeds = clock.seeds(Trial("", clock.line, Candidate(lucky.to_dict()), begun))
    screened |= {seeds.tuning} | {
        each for leg in LEGS.values() for seed in seeds.screen for each in trainings(leg, seed)
    }
    turns = told(clock)
    lost = [turn for turn in turns if turn.candidate.state == lucky.to_dict()]
    won = [turn for turn in turns if turn.candidate.state == better.to_dict()]
    assert len(lost) > 1 and not lost[-1].verdict.keep and won[-1].verdict.keep
    assert [turn.result.facts["since"] for turn in (lost[0], won[0])] == ["", lost[0].trial]

    again = clock.seeds(Trial("", clock.line, won[0].candidate, _start(won[0])))
    assert again.tuning == seeds.tuning and not {*again.screen} & {*seeds.screen}
    assert again.screen == (*fresh(lost[0].trial, 1), *fresh(lost[0].trial, 2))[: SCREEN.n_seeds]
    assert len(seen) == len(set(seen)), "something was trained twice"
    confirmed = (len(lost) - 1 + len(won) - 1) * N_ROUND * sum(map(cost, toy.SUITES.confirm))
    screens = SCREEN.n_seeds * sum(cost(leg, SCREEN.again) for leg in LEGS.values())
    more = SCREEN.n_seeds * (cost(LEGS["parity"], SCREEN.again) - cost(LEGS["parity"]))
    of_start = sum(name == start.hash for name, _, _ in seen)
    assert of_start == len(toy.SUITES.race) + screens + confirmed + more
    for turn in (lost[0], won[0]):
        assert replay(turn.id, ledger).same, "a replay met other seeds"


def _start(turn: Turn) -> Champion:
    return Champion(Candidate(canonical(START).to_dict()), turn=turn.champion)

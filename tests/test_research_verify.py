"""mendel research verify: what it takes to be a win, and what a sealed score is kept from."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mendel.cli import app
from mendel.clocks.research import twins, verify
from mendel.clocks.research.bench import Bench
from mendel.clocks.research.card import Card, Job, beaten_at_once, best_case, measured, telling
from mendel.clocks.research.contest import MINE, Contest
from mendel.clocks.research.discovery import publish
from mendel.clocks.research.docket import Docket
from mendel.clocks.research.outcome import beaten_by, on_the_menu, won
from mendel.clocks.research.run import Run, RunSpec
from mendel.clocks.research.suite import Suites
from mendel.clocks.research.terms import (
    FAR,
    LOOKS,
    PRIOR_SD,
    Terms,
    noise_of,
    repeats,
    terms,
)
from mendel.clocks.research.twins import ALIKE, Condition, Twins, trained_alike, wider
from mendel.clocks.research.verify import contenders
from mendel.data.proxies import TWINS
from mendel.ledger import Ledger, View
from mendel.presets import discoveries, load_recipe
from mendel.propose.matching import caps_of, price
from mendel.propose.menu import Named, designs
from mendel.propose.spelling import canonical
from mendel.spec import PartSpec, Recipe
from mendel.types import TRIAL, Account, InputError, Kind, Line, SealedError, Turn
from tests.research_turns import begun, made_recipe, trial

SUITES = Suites(names=("states",), share=0.005)
Skill = Callable[[str, str, np.random.Generator], float]  # design, suite -> a score


def condition(names: Sequence[str] = ("a", "b", "c")) -> Condition:
    """Of two suites; nothing is trained on it."""
    recipe = made_recipe()
    suites = Twins.of(Suites(names=("states", "recall")))
    menu = tuple(Named(name, made_recipe(1e-3 * (i + 1))) for i, name in enumerate(names))
    return Condition("as found", suites, caps_of(recipe, 64, 64), recipe, menu)


def fought(
    skill: Skill,
    rng: np.random.Generator,
    names: Sequence[str] = ("a", "b", "c"),
    made: Condition | None = None,
    favourites: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Contest:
    """A contest whose scores are drawn: what a seed does to all designs at once is in them."""
    contest = Contest(made or condition(names), Path("nowhere"), Terms(Account()), favourites, only)
    luck: dict[int, float] = {}
    while jobs := contest.wanted:
        contest.add([_drawn(job, skill, rng, luck) for job in jobs])
    return contest


def _drawn(job: Job, skill: Skill, rng: np.random.Generator, luck: dict[int, float]) -> Card:
    shared = luck.setdefault(job.seed, rng.normal(0, 0.03))
    scores = {leg.name: skill(job.design, leg.suite, rng) + shared for leg in job.twins.whole}
    return Card(
        job.design, job.seed, scores, job.twins.mean({k: [v] for k, v in scores.items()})[0]
    )


def level(design: str, suite: str, rng: np.random.Generator) -> float:
    return 0.5 + rng.normal(0, 0.05)


def test_a_recipe_level_with_a_design_wins_in_at_most_its_level() -> None:
    rng = np.random.default_rng(0)
    wins = [fought(level, rng, ("a",)).stopper is None for _ in range(200)]
    assert sum(wins) <= 6  # of 1 rival; a level of 1 % gives more than that in 1 % of cases


def test_the_shares_of_all_looks_are_one_level() -> None:
    assert sum(LOOKS.values()) + FAR == pytest.approx(1.0)
    assert list(LOOKS) == sorted(LOOKS)


def learned(p: float) -> Callable[[str, str, np.random.Generator], float]:
    """Of a suite of states whose every proxy is learned or not."""
    return lambda design, suite, rng: float(rng.random() < p) if suite == "states" else 0.5


def test_who_is_level_where_a_seed_learns_all_or_nothing_is_seldom_taken_for_beaten() -> None:
    rng = np.random.default_rng(1)
    wins = [fought(learned(0.5), rng, ("a",)).stopper is None for _ in range(200)]
    assert sum(wins) <= 6


def test_who_is_level_is_seldom_taken_for_beaten_where_any_proxy_is_learned_by_luck() -> None:
    def torn(design: str, suite: str, rng: np.random.Generator) -> float:
        return float(rng.random() < 0.6) if rng.random() < 0.2 else 0.5 + rng.normal(0, 0.01)

    rng = np.random.default_rng(12)
    wins = [fought(torn, rng, ("a",)).stopper is None for _ in range(200)]
    assert sum(wins) <= 6


def test_nobody_is_beaten_by_one_pair_for_what_one_seed_of_a_proxy_may_be_worth() -> None:
    weight = {"a": 0.25, "b": 0.25, **{f"n{i}": 0.05 for i in range(10)}}
    behind = {name: [0.1] for name in weight}  # everywhere, but no more than a seed may be worth
    assert not beaten_at_once(weight, behind, 0.01)
    assert beaten_at_once(weight, {name: [0.6] for name in weight}, 0.01)


def test_who_is_barely_behind_is_looked_at_to_the_last() -> None:
    contest = Contest(condition(("a",)), Path("nowhere"), Terms(Account(n_begun=80)))
    rng, luck = np.random.default_rng(11), dict[int, float]()

    def barely(design: str, suite: str, rng: np.random.Generator) -> float:
        return 0.5 + 0.02 * (design == MINE) + rng.normal(0, 0.1)

    while jobs := contest.wanted:
        contest.add([_drawn(job, barely, rng, luck) for job in jobs])
    assert contest.n_pairs == max(LOOKS) and contest.stopper == "a"


def test_a_gain_of_one_sigma_is_found() -> None:
    def better(design: str, suite: str, rng: np.random.Generator) -> float:
        return level(design, suite, rng) + 0.05 * (design == MINE)

    rng = np.random.default_rng(1)
    wins = [fought(better, rng).stopper is None for _ in range(20)]
    assert sum(wins) >= 18


def test_whoever_is_far_behind_on_the_first_seed_is_not_measured_again() -> None:
    def far(design: str, suite: str, rng: np.random.Generator) -> float:
        return {MINE: 0.6, "a": 0.54, "b": 0.2}.get(design, 0.0) + rng.normal(0, 0.03)

    contest = fought(far, np.random.default_rng(2))
    assert contest.near == ["a"] and contest.stopper is None
    assert set(contest.fresh) == {MINE, "a"}
    seeds = {card.seed for card in contest.fresh[MINE]}
    seeds |= {contest.screen[MINE].seed}
    assert len(seeds) == contest.n_pairs == contest.n_of("a")


def test_who_was_strongest_before_is_met_first_and_a_loss_to_it_ends_it() -> None:
    rng, c_is_level = np.random.default_rng(9), {MINE: 0.6, "c": 0.61}

    def skill(design: str, suite: str, rng: np.random.Generator) -> float:
        return c_is_level.get(design, 0.52) + rng.normal(0, 0.01)

    lost = fought(skill, rng, favourites=("c",))
    assert lost.stopper == "c" and set(lost.screen) == {MINE, "c"}
    c_is_level["c"] = 0.55
    won_all = fought(skill, rng, favourites=("c",))
    assert won_all.stopper is None and set(won_all.fresh) == {MINE, "a", "b", "c"}
    seeds = {name: [card.seed for card in cards] for name, cards in won_all.fresh.items()}
    assert all(each == seeds[MINE][: len(each)] for each in seeds.values())
    assert len(set(seeds[MINE])) == won_all.n_pairs - 1  # the others were met on the same pairs


def test_at_twice_the_size_it_meets_the_nearest_the_best_of_each_kind_and_who_led() -> None:
    means = {MINE: 0.6, "a": 0.55, "b": 0.56, "c": 0.57, "d": 0.54, "e": 0.53}

    def skill(design: str, suite: str, rng: np.random.Generator) -> float:
        return means.get(design, 0.3) + rng.normal(0, 0.005)

    first = fought(skill, np.random.default_rng(10), "abcdefgh")
    assert set(first.near) == set("abcde") and first.stopper is None
    filters = PartSpec(part="short_conv")
    of_another = made_recipe().model.model_copy(update={"mixers": (filters,)})
    menu = first.condition.menu
    menu = (*menu[:-1], Named("h", made_recipe().model_copy(update={"model": of_another})))
    first.condition = replace(first.condition, menu=menu)
    assert contenders(first, ["g"]) == set("abc") | {"h", "g"}

    larger = fought(skill, np.random.default_rng(10), "abcdefgh", only="abcgh")
    assert set(larger.screen) == {MINE, *"abcgh"}
    assert "3 of those as found alone" in won([first, larger])
    assert "as found alone" not in won([first, first])


def test_noise_is_that_of_the_lines_own_pairs_proxy_by_proxy(ledger: Ledger) -> None:
    line, champion = begun(ledger)
    trial(ledger, line, made_recipe(), champion)
    [turn] = ledger.turns(line, kinds=[Kind.TRIAL], limit=1)
    legs, name = SUITES.whole, SUITES.whole[0].name
    assert noise_of([turn], legs)["parity"] == PRIOR_SD["parity"]  # four pairs tell little
    off = np.random.default_rng(0).normal(0, 0.1, 200).tolist()
    facts = {"stage": "screen", "proxies": {name: off}, "champion": {name: [0.5] * 200}}
    known = replace(turn, result=replace(turn.result, facts=facts))
    assert noise_of([known], legs)[name] == pytest.approx(0.1, rel=0.1)
    lie = replace(known, verdict=replace(turn.verdict, reason="not believed: its scores"))
    assert noise_of([lie] * 20, legs) == noise_of([], legs)


def test_the_noise_of_one_seed_is_told_from_pairs_that_are_means_of_several(ledger: Ledger) -> None:
    line, champion = begun(ledger)
    trial(ledger, line, made_recipe(), champion)
    [turn] = ledger.turns(line, kinds=[Kind.TRIAL], limit=1)
    rng = np.random.default_rng(1)
    mine, its = rng.normal(0, 0.3, (200, 2)).mean(1), rng.normal(0, 0.3, (200, 4)).mean(1)
    facts = {"stage": "screen", "proxies": {"parity": mine.tolist()}, "trained": {"parity": [2, 4]}}
    facts["champion"] = {"parity": its.tolist()}
    known = replace(turn, result=replace(turn.result, facts=facts))
    found = noise_of([known], SUITES.whole)["parity"]
    assert found == pytest.approx(0.3 * 2**0.5, rel=0.1)


def test_a_proxy_that_is_learned_or_not_is_asked_on_more_seeds_and_others_on_one() -> None:
    suites = Suites(names=("states", "recall"))
    noise = noise_of([], suites.whole)
    assert repeats(suites, noise) == {"parity_twin": 7}
    quiet = {**noise, "parity": 0.05}
    assert repeats(suites, quiet) == {}


def test_who_gives_up_has_swept_its_rates_and_was_asked_what_weighs_most_first() -> None:
    legs = Twins.of(Suites(names=("states", "recall"))).heaviest
    assert [leg.suite for leg in legs] == ["states", "recall"] + ["states"] * 3 + ["recall"] * 7
    assert [leg.swept for leg in legs] == [True] * 2 + [False] * 10


def test_a_win_says_who_was_not_judged_and_who_failed() -> None:
    def far(design: str, suite: str, rng: np.random.Generator) -> float:
        return {MINE: 0.6, "a": 0.59}.get(design, 0.3) + rng.normal(0, 0.03)

    contest = fought(far, np.random.default_rng(6))
    contest.screen["b"] = replace(contest.screen["b"], error="diverged at step 3")
    words = won([contest])
    assert "judged on pairs 1 as found; on one 2, worse on the first at p <= 0.0021" in words
    assert words.count("b,") == 0 and "a guess where they failed: b)" in words


def own_training(mine: Recipe, names: Sequence[str] = ("a", "b")) -> Condition:
    """A recipe whose training is another than the menu's."""
    made = condition(names)
    menu = tuple(Named(name, made_recipe(n_heads=2**i)) for i, name in enumerate(names))
    return replace(made, mine=mine, menu=menu, alike=trained_alike(menu, mine))


def test_the_menu_is_met_in_the_recipes_training_too_where_that_is_another() -> None:
    mine = made_recipe(beta_max=2.0)
    assert not own_training(mine).alike
    for train in ({"z_loss": 1e-3}, {"lr": 6e-3}):
        other = mine.model_copy(update={"train": mine.train.model_copy(update=train)})
        found = own_training(other)
        assert [each.name for each in found.alike] == ["a (trained alike)", "b (trained alike)"]
        assert all(each.recipe.train == other.train for each in found.alike)
        assert [each.recipe.model for each in found.alike] == [
            canonical(each.recipe).model for each in found.menu
        ]
    begun_small = mine.model_copy(
        update={"model": mine.model.model_copy(update={"init_std": 0.02})}
    )
    assert [each.recipe.model.init_std for each in own_training(begun_small).alike] == [0.02, 0.02]


def test_a_recipe_that_only_trains_better_is_no_win_and_is_told_so() -> None:
    train = made_recipe().train.model_copy(update={"shape": "linear"})
    mine = made_recipe(beta_max=2.0).model_copy(update={"train": train})

    def by_training(design: str, suite: str, rng: np.random.Generator) -> float:
        gained = design == MINE or design.endswith(ALIKE)
        return 0.5 + 0.1 * gained + rng.normal(0, 0.01)

    contest = fought(by_training, np.random.default_rng(7), made=own_training(mine))
    assert contest.stopper is not None and contest.stopper.endswith(ALIKE)
    outcome, words = beaten_by(contest, contest.stopper)
    assert outcome == "rediscovery" and "training, not its design" in words
    contest.fresh.pop("a", None)  # then it is not known to be beaten
    contest.screen["a"] = replace(contest.screen["a"], mean=0.6)
    assert "not its design" not in beaten_by(contest, "b (trained alike)")[1]

    def better(design: str, suite: str, rng: np.random.Generator) -> float:
        return 0.5 + 0.1 * (design == MINE) + rng.normal(0, 0.01)

    won_both = fought(better, np.random.default_rng(8), made=own_training(mine))
    assert won_both.stopper is None and set(won_both.screen) == {
        MINE, "a", "b", "a (trained alike)", "b (trained alike)",
    }  # fmt: skip
    words = won([won_both])
    assert "2 designs of the menu" in words and "trained as the recipe is" in words


def test_a_design_of_the_menu_that_is_trained_in_another_way_is_a_rediscovery() -> None:
    train = made_recipe().train.model_copy(update={"z_loss": 1e-3})
    mine = made_recipe(n_heads=2).model_copy(update={"train": train})
    assert on_the_menu(own_training(mine)) == "b of the menu, trained in another way"
    assert on_the_menu(own_training(made_recipe(n_heads=2))) == "b of the menu"
    assert on_the_menu(own_training(made_recipe(beta_max=2.0))) is None


def test_the_best_of_the_menu_is_met_on_fresh_pairs_even_where_all_are_far_behind() -> None:
    def ahead(design: str, suite: str, rng: np.random.Generator) -> float:
        return {MINE: 0.9, "b": 0.4}.get(design, 0.2) + rng.normal(0, 0.01)

    contest = fought(ahead, np.random.default_rng(5))
    assert contest.near == ["b"] and contest.is_too_good
    assert set(contest.fresh) == {MINE, "b"} and contest.judged("b").keep


def test_one_design_that_is_level_is_a_rediscovery_whatever_the_others_are() -> None:
    def one(design: str, suite: str, rng: np.random.Generator) -> float:
        return {MINE: 0.6, "c": 0.605}.get(design, 0.52) + rng.normal(0, 0.01)

    contest = fought(one, np.random.default_rng(3))
    assert contest.stopper == "c"
    assert beaten_by(contest, "c") == ("rediscovery", "c of the menu is level")


def test_a_gain_on_one_suite_at_the_cost_of_another_is_a_trade() -> None:
    def traded(design: str, suite: str, rng: np.random.Generator) -> float:
        mine = {"states": 0.9, "recall": 0.55}[suite] if design == MINE else 0.6
        return mine + rng.normal(0, 0.01)

    contest = fought(traded, np.random.default_rng(4), ("a",))
    assert contest.stopper is None  # better on the whole
    assert set(contest.regressions) == {"recall"}


def test_a_win_says_which_suites_are_not_shown_to_be_as_good() -> None:
    def noisy(design: str, suite: str, rng: np.random.Generator) -> float:
        spread = {"states": 0.005, "recall": 0.15}[suite]
        gain = {"states": 0.15, "recall": 0.0}[suite]
        return 0.5 + gain * (design == MINE) + rng.normal(0, spread)

    contest = fought(noisy, np.random.default_rng(3), ("a",))
    assert contest.stopper is None and not contest.regressions
    assert contest.bounds["recall"] < -0.02 < 0.08 < contest.bounds["states"]
    words = won([contest])
    assert "recall not shown to be within 0.02" in words and "no suite is worse" not in words
    assert f"recall {contest.bounds['recall']:+.3f}, states" in words
    sure = fought(
        lambda d, s, rng: 0.5 + 0.1 * (d == MINE) + rng.normal(0, 0.01),
        np.random.default_rng(1),
        ("a",),
    )
    assert "no suite is worse by more than 0.02 (one-sided 95% bounds" in won([sure])


def test_a_job_gives_up_only_where_full_marks_would_not_do() -> None:
    suites = Twins.of(Suites(names=("states",)))
    first = suites.whole[0].name
    assert best_case(suites, {first: [0.2]}, {}) == pytest.approx((0.2 + 3) / 4)
    assert best_case(suites, {first: [0.2]}, {first: 4}) == pytest.approx((0.8 + 3) / 4)


def test_what_takes_the_most_a_second_from_a_rival_is_asked_first() -> None:
    suites = Twins.of(Suites(names=("states", "recall")))
    names = [leg.name for leg in suites.whole]
    flat = Card(MINE, 0, dict.fromkeys(names, 0.5), 0.5, costs=dict.fromkeys(names, 10.0))
    legs = {leg.name: leg for leg in suites.whole}
    assert [legs[n].suite for n in telling(suites, flat)] == ["states"] * 4 + ["recall"] * 8
    dear = replace(flat, costs={**flat.costs, "parity_twin": 100.0})
    assert telling(suites, dear)[-1] == "parity_twin"
    open_ones = replace(flat, proxies={**flat.proxies, "fuzzy_recall_twin": 0.0, "mqar_twin": 1.0})
    order = telling(suites, open_ones)
    assert order.index("fuzzy_recall_twin") == 4 and order[-1] == "mqar_twin"


def test_who_cannot_reach_what_is_asked_stops_early_with_all_its_rates_swept(
    tmp_path: Path,
) -> None:
    suites = Twins.of(Suites(names=("states", "recall"), share=0.005))
    mine = {leg.name: [0.999] for leg in suites.whole}
    card = measured(Job("x", made_recipe(), suites, tmp_path, 5, 5, 0.01, mine))
    assert card.gave_up and list(card.proxies) == [leg.name for leg in suites.heaviest[:7]]
    more = {suites.heaviest[2].name: 3}
    asked = measured(Job("x", made_recipe(), suites, tmp_path, 5, 5, 0.0, {}, more))
    assert not asked.gave_up and len(asked.by_seed[suites.heaviest[2].name]) == 3
    assert len(set(asked.by_seed[suites.heaviest[2].name])) > 1  # of other seeds
    bench = Bench(suites, tmp_path)
    assert all(bench.factor(made_recipe(), suite, 5) for suite in suites.names)


def test_the_twins_are_sealed_ones_in_the_same_suites_at_more_tokens() -> None:
    open_ones, sealed = (
        Suites(names=("states", "recall")),
        Twins.of(Suites(names=("states", "recall")), 2),
    )
    for mine, twin in zip(open_ones.whole, sealed.whole, strict=True):
        assert twin.name == TWINS[mine.name][0] and twin.suite == mine.suite
        assert twin.swept == mine.swept
        once = Twins.of(open_ones).leg(twin.name)
        assert twin.proxy.n_steps == 2 * once.proxy.n_steps


def test_twice_the_width_is_twice_every_size_that_was_given() -> None:
    recipe = made_recipe(key_dim=4, value_dim=6)
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(
                update={"channels": (PartSpec(part="mlp", fields={"hidden": 12}),)}
            )
        }
    )
    wide = wider(recipe, 2).model
    assert wide.width == 16 and wide.mixers[0].fields["key_dim"] == 8
    assert wide.mixers[0].fields["value_dim"] == 12 and wide.channels[0].fields["hidden"] == 24
    assert wide.mixers[0].fields["n_heads"] == 2
    assert price(wider(recipe, 2), 64, 64).n_params > 2 * price(recipe, 64, 64).n_params


# with a ledger


@pytest.fixture
def kept(ledger: Ledger) -> Turn:
    """A trial that was kept on a line whose run is on disk."""
    start = made_recipe()
    spec = RunSpec(
        id="made", suites=SUITES, caps=caps_of(start, SUITES.vocab, SUITES.n_tokens), start=start,
        menu=(), given=False, trials=1, n_workers=1, command="mendel research --suite states",
        started=0.0,
    )  # fmt: skip
    run = Run.create(ledger, spec)
    line, champion = begun(ledger, line=run.line)
    signed = made_recipe(beta_max=2.0)
    return trial(ledger, line, signed, champion, stage="confirm", gain=0.1, keep=True)


def test_what_a_verification_is_held_to_is_fixed_when_it_begins(ledger: Ledger, kept: Turn) -> None:
    docket = Docket(ledger, kept, condition())
    found = docket.begin()
    assert found.account == Account() and found.repeats == {"parity_twin": 7}
    for gain in (0.0, 0.1):
        trial(ledger, kept.line, made_recipe(), kept, gain=gain)
    account, trials = ledger.account(kept.line), ledger.turns(kept.line, kinds=[Kind.TRIAL])
    assert terms(trials, docket.first.twins.open, account).level < found.level
    assert docket.begin() == found and ledger.account(kept.line).n_begun == 1


def test_the_designs_that_led_the_line_are_met_first_in_both_trainings(
    ledger: Ledger, kept: Turn
) -> None:
    mine = made_recipe(2e-3, beta_max=2.0)
    names = ("start", "other")
    menu = tuple(Named(n, canonical(made_recipe(n_heads=2 * h + 2))) for h, n in enumerate(names))
    first = replace(condition(names), mine=mine, menu=menu, alike=trained_alike(menu, mine))
    assert Docket(ledger, kept, first).favourites() == ["start", "start (trained alike)"]


def few(caps: Any, start: Any = None) -> tuple[Named, ...]:
    """Two designs in the place of fifty."""
    return tuple(each for each in designs(caps, start) if each.name in ("gla", "short_conv"))


class Steady:
    """Workers whose measurements are drawn by design, seed and proxy, and counted."""

    def __init__(self, gain: float, stop_after: int = 10**6) -> None:
        self.gain, self.stop_after, self.n = gain, stop_after, 0

    def __call__(self, job: Job) -> Card:
        self.n += 1
        if self.n > self.stop_after:
            raise KeyboardInterrupt
        rng = np.random.default_rng(job.seed % 2**32)
        skill = 0.6 + self.gain * (job.design == MINE)
        scores = {leg.name: skill + rng.normal(0, 0.02) for leg in job.twins.whole}
        mean = job.twins.mean({k: [v] for k, v in scores.items()})[0]
        by_seed = {name: [score] * job.repeats.get(name, 1) for name, score in scores.items()}
        return Card(job.design, job.seed, scores, mean, by_seed=by_seed)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Steady]:
    """Verification with drawn measurements in this very process."""
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import contextmanager

    @contextmanager
    def threads(n: int) -> Any:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(twins, "designs", few)
    monkeypatch.setattr(verify, "_pool", threads)

    def use(gain: float, **more: int) -> Steady:
        steady = Steady(gain, **more)
        monkeypatch.setattr(verify, "measured", steady)
        return steady

    return use


def test_a_win_in_all_conditions_is_claimed_and_joins_the_menu(
    ledger: Ledger, kept: Turn, drawn: Callable[..., Steady]
) -> None:
    drawn(0.05)
    found = verify.verify(kept.id, ledger)
    assert found is not None and found.outcome == "verified win"
    assert found.turn.verdict.keep and found.turn.verdict.reason.startswith("verified win: better")
    openings = ledger.turns(kept.line, kinds=[Kind.OPENING])
    assert openings[0].result.facts["terms"]["repeats"] == {"parity_twin": 4}
    assert [turn.result.facts["condition"] for turn in openings] == list(twins.CONDITIONS)
    assert len({turn.result.facts["sealed"] for turn in openings}) == 2  # width asks the same tasks
    account = ledger.account(kept.line)
    assert (account.n_begun, account.n_kept) == (1, 1)

    (name,) = discoveries()
    model, train = load_recipe(name)
    assert model.mixers[0].fields["beta_max"] == 2 and train.lr == made_recipe().train.lr
    told = json.loads((discoveries()[name] / "evidence.json").read_text())
    rows = told["conditions"]["2x width"]["rivals"]
    assert {row["name"] for row in rows} == {"gla", "short_conv"}
    assert all(0.03 < row["gain"] < 0.07 and row["judged"] for row in rows)
    assert told["commands"] == [
        "mendel research --suite states",
        f"mendel research verify {kept.id}",
    ]
    assert name in {each.name for each in designs(caps_of(made_recipe(), 64, 64))}
    done = CliRunner().invoke(app, ["parts", name])
    assert done.exit_code == 0 and f"mendel train {name}" in done.output

    again = verify.verify(kept.id, ledger)
    assert again is not None and again.turn.id == found.turn.id  # it does not meet itself
    assert ledger.account(kept.line).n_begun == 1


def test_a_level_recipe_is_a_rediscovery_and_joins_nothing(
    ledger: Ledger, kept: Turn, drawn: Callable[..., Steady]
) -> None:
    drawn(0.0)
    found = verify.verify(kept.id, ledger)
    assert found is not None and found.outcome in ("rediscovery", "no win")
    assert not found.turn.verdict.keep and not discoveries()
    assert len(ledger.turns(kept.line, kinds=[Kind.OPENING])) == 1  # the larger ones stay sealed
    with pytest.raises(InputError, match="no verified win"):
        publish(found.turn, ledger)


def test_what_is_too_good_is_audited_in_full_before_it_is_believed(
    ledger: Ledger, kept: Turn, drawn: Callable[..., Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def audit(spec: Any, *, profile: str) -> Any:
        asked.append(profile)
        return replace_report(clean=False)

    monkeypatch.setattr(verify, "check_spec", audit)
    drawn(0.3)
    found = verify.verify(kept.id, ledger)
    assert asked == ["full"]
    assert found is not None and found.outcome == "not believed"


def replace_report(clean: bool) -> Any:
    from mendel.audit.report import AuditReport, Finding

    errors = () if clean else (Finding("causality", "error", "reads ahead", "", "", ""),)
    return AuditReport("model", "full", errors, {"causality": "error"}, (), {}, 0.0)


def test_a_design_of_the_menu_is_a_rediscovery_without_any_opening(
    ledger: Ledger, kept: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(caps: Any, start: Any = None) -> tuple[Named, ...]:
        return (Named("its_twin", made_recipe(beta_max=2.0)),)

    monkeypatch.setattr(twins, "designs", same)
    found = verify.verify(kept.id, ledger)
    assert found is not None and found.outcome == "rediscovery"
    assert "its_twin" in found.turn.verdict.reason
    assert not ledger.turns(kept.line, kinds=[Kind.OPENING])
    assert ledger.account(kept.line).n_begun == 0


def test_what_the_line_did_not_keep_cannot_be_verified(ledger: Ledger, kept: Turn) -> None:
    [start] = ledger.turns(kept.line, kinds=[Kind.START])
    refused = trial(ledger, kept.line, made_recipe(beta_max=2.0), start, stage="confirm")
    done = CliRunner().invoke(app, ["research", "verify", str(refused.id)])
    assert isinstance(done.exception, InputError)
    assert f"turn {refused.id} was not kept: mean +0.000" in str(done.exception)
    assert "mendel research report" in str(done.exception)
    assert not ledger.turns(kept.line, kinds=[Kind.OPENING, Kind.CLAIM])


def test_a_null_line_a_stranger_and_a_trial_cannot_verify(
    ledger: Ledger, kept: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no trial"):
        line = Line("design", "0" * 64)
        verify.verify(begun(ledger, line=line)[1].id, ledger)
    monkeypatch.setenv(TRIAL, "1")
    with pytest.raises(SealedError):
        verify.verify(kept.id, ledger)
    job = Job("x", made_recipe(), Twins.of(SUITES), Path("nowhere"), 0, 0)
    with pytest.raises(SealedError):
        measured(job)


def test_proposers_see_neither_openings_nor_claims(
    ledger: Ledger, kept: Turn, drawn: Callable[..., Steady], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(0.05)
    found = verify.verify(kept.id, ledger)
    assert found is not None and found.turn.sealed is not None
    seen = [*View(ledger, kept.line).turns(), *View(ledger, kept.line).told()]
    assert {turn.kind for turn in seen} == {Kind.TRIAL}
    for known in ("p <= 0.0021", "0.005 of the steps"):
        assert known in found.turn.verdict.reason
    facts = found.turn.result.facts["conditions"].values()
    low = min(told["bounds"]["states"] for told in facts)
    told = {"0.0021", "0.005", "0.02", f"{low:+.3f}"}  # and no score
    assert set(re.findall(r"[+-]?\d\.\d+", found.turn.verdict.reason)) == told
    monkeypatch.setenv(TRIAL, "1")  # as in the processes that propose and measure
    assert ledger.turn(found.turn.id).sealed is None


@pytest.mark.slow
def test_a_verification_that_is_stopped_goes_on_where_it_was_and_counts_nothing_twice(
    ledger: Ledger, kept: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real workers that train; time is up at once, so each sitting measures little."""
    monkeypatch.setattr(twins, "designs", few)
    assert verify.verify(kept.id, ledger, workers=1, until=0.0) is None
    done = verify.verify(kept.id, ledger, workers=1)
    assert done is not None
    files = sorted((ledger.folder / "vault").rglob("*.json"))
    assert files and all(stat.S_IMODE(os.stat(file).st_mode) == 0o600 for file in files)
    times = [file.stat().st_mtime_ns for file in files]
    openings = ledger.turns(kept.line, kinds=[Kind.OPENING])
    assert len({turn.result.facts["condition"] for turn in openings}) == len(openings)
    assert ledger.account(kept.line).n_begun == 1

    forgotten = replace(done.turn, id=0)  # as if killed before the claim was written
    monkeypatch.setattr("mendel.clocks.research.docket.Docket.claimed", lambda self: None)
    again = verify.verify(kept.id, ledger, workers=1)
    assert again is not None and again.turn.verdict == forgotten.verdict
    assert again.turn.sealed == forgotten.sealed
    assert [file.stat().st_mtime_ns for file in files] == times  # nothing was trained again
    assert ledger.account(kept.line).n_begun == 1
    assert len(ledger.turns(kept.line, kinds=[Kind.OPENING])) == len(openings)


KILLED = """
import sys
from mendel.clocks.research import twins, verify
from mendel.ledger import Ledger
from mendel.propose.menu import designs

few = ("gla", "short_conv")
twins.designs = lambda caps, start=None: tuple(d for d in designs(caps, start) if d.name in few)
if __name__ == "__main__":
    found = verify.verify(int(sys.argv[1]), Ledger(), workers=1)
    print(found.outcome)
"""


@pytest.mark.slow
def test_kill_9_loses_no_measurement_and_leaves_no_worker_behind(
    ledger: Ledger, kept: Turn, tmp_path: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    argv, vault = [sys.executable, str(script), str(kept.id)], ledger.folder / "vault"
    known: dict[Path, tuple[int, Any]] = {}
    for n in (1, 4, 9):
        known = stays(known, killed_at(argv, vault, n))
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("rediscovery", "no win", "trade", "verified win")
    stays(known, measurements(vault))
    openings = [t.result.facts["condition"] for t in ledger.turns(kinds=[Kind.OPENING])]
    assert openings and len(set(openings)) == len(openings)
    assert len(ledger.turns(kinds=[Kind.CLAIM])) == 1
    assert ledger.account(kept.line).n_begun == 1


def killed_at(argv: Sequence[str], vault: Path, n: int) -> dict[Path, tuple[int, Any]]:
    """What is there after the process was killed with n measurements in the vault."""
    process = subprocess.Popen(argv, start_new_session=True)
    wait_for(lambda: len(measurements(vault)) >= n or process.poll() is not None)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(process.pid))
    return measurements(vault)


def measurements(vault: Path) -> dict[Path, tuple[int, Any]]:
    """When each was written, and its score."""
    files = list(vault.rglob("*.json"))
    return {f: (f.stat().st_mtime_ns, json.loads(f.read_text()).get("score")) for f in files}


def stays(
    before: dict[Path, tuple[int, Any]], after: dict[Path, tuple[int, Any]]
) -> dict[Path, tuple[int, Any]]:
    """All scores are what they were; at most what was in flight was measured once more."""
    assert all(after[file][1] == score for file, (_, score) in before.items())
    assert sum(after[file][0] != at for file, (at, _) in before.items()) <= 1
    return after


def wait_for(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.05)


def alive(session: int) -> bool:
    """Is any process of that session left?"""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True
    )
    return any("Z" not in line for line in found.stdout.splitlines())

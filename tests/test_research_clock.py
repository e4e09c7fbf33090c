"""The research clock: race, screen, confirmation, what it believes, and bad input."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mendel.clocks.research import bench as bench_module
from mendel.clocks.research import measure as measuring
from mendel.clocks.research import session as session_module
from mendel.clocks.research.bench import Bench, number
from mendel.clocks.research.clock import ResearchClock, trials_of
from mendel.clocks.research.measure import FACTORS, measure, points, sweep
from mendel.clocks.research.race import N_ROUND, SCREEN, confirmation, trainings
from mendel.clocks.research.report import gathered
from mendel.clocks.research.request import START, Request, planned, prepared
from mendel.clocks.research.run import Run
from mendel.clocks.research.session import Processes, Session, Silent, research
from mendel.clocks.research.story import story
from mendel.clocks.research.suite import RACE, Suites, normalised
from mendel.clocks.research.summary import Times, summary
from mendel.clocks.research.work import LEASE_S, _hold, holds, turn
from mendel.clocks.workers import Stopwatch
from mendel.data.proxies import SUITES, make
from mendel.driver import REPLACED, Driver
from mendel.ledger import Ledger
from mendel.propose.analyst import Insight
from mendel.propose.builtin import Builtin
from mendel.propose.memory import Memory
from mendel.propose.menu import Named
from mendel.propose.novelty import canonical, key
from mendel.propose.recipes import operator, stuck
from mendel.spec import PartSpec, Recipe, Spec
from mendel.types import Candidate, Decision, InputError, Kind, LedgerError, Result, Trial, Turn

from . import research_toy as toy

pytestmark = pytest.mark.usefixtures("one_thread")


def run_out(clock: ResearchClock, **known: Any) -> list[Turn]:
    """All turns of a driver that turns until nothing is left."""
    driver = Driver(clock, clock.ledger, **known)
    driver.start()
    driver.run(lambda: False)
    return clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])


# -- suites --


def test_suites_are_a_line_s_identity_whatever_their_order() -> None:
    assert Suites.named("recall, states") == Suites.named("states,recall,states")
    assert Suites.named("all").names == ("recall", "states", "text")
    assert Suites.named("recall").hash != Suites.named("recall,states").hash


def test_a_race_asks_the_quick_ones_cut_short_and_each_stage_asks_more() -> None:
    suites = Suites.named("all")
    assert sorted(leg.name for leg in suites.whole) == sorted(SUITES["all"])
    assert [leg.name for leg in suites.race] == list(RACE)
    assert [leg.name for leg in suites.screen] == list(RACE)
    for short, full in zip(suites.race, suites.screen, strict=True):
        assert 2 * short.proxy.n_steps == full.proxy.n_steps
    screen, confirm, whole = (
        {leg.name for leg in legs} for legs in (suites.screen, suites.confirm, suites.whole)
    )
    assert screen < confirm < whole
    swept = [leg.name for leg in suites.whole if leg.swept]
    assert swept == ["word_z60", "compression", "char_lm"]  # the first of each suite
    assert [leg.suite for leg in suites.race[:2]] == ["states", "recall"]


def test_a_suite_that_there_is_not_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'recall'"):
        Suites.named("recal")
    with pytest.raises(InputError, match="names none"):
        Suites.named(" , ")


def test_scores_are_0_for_a_guess_and_1_for_all_that_there_is() -> None:
    parity, text = make("parity"), make("char_lm")
    assert normalised(parity, 0.5) == 0
    assert normalised(parity, 1.0) == 1
    assert normalised(text, -text.chance) == 0
    assert normalised(text, 0.0) == 1


def test_a_pair_s_score_is_the_mean_of_suites_not_of_proxies() -> None:
    scores = {"parity": [1.0], "mqar": [0.0], "compression": [0.2], "memorisation": [0.1]}
    assert toy.SUITES.mean(scores) == pytest.approx((0.55,))


# -- training, for real --

TINY = Suites.named("states", share=0.01)


def test_a_sweep_trains_three_rates_for_a_third_and_the_best_to_the_end() -> None:
    leg = TINY.race[0]
    steps: dict[float, int] = {}
    for factor in FACTORS:
        found = measure(canonical(START), factor, leg.proxy, 3)
        steps[factor] = found.n_steps
    best = sweep(canonical(START), leg.proxy, 3)
    assert best.n_steps == leg.proxy.n_steps
    assert best.factor in FACTORS
    alone = measure(canonical(START), best.factor, leg.proxy, 3)
    assert best.score == alone.score  # stopping on the way changes nothing


def test_a_seed_that_diverges_is_tried_tamely_once_and_then_fails_with_its_reason() -> None:
    start = canonical(START)
    wild = start.model_copy(update={"train": start.train.model_copy(update={"lr": 1e30})})
    found = measure(wild, 1.0, TINY.race[0].proxy, 0)
    assert found.score is None
    assert "no number" in str(found.error)
    [repair] = found.repairs
    assert "a third of the rate, clip 1" in repair


def test_a_seed_that_only_its_rate_spoils_is_repaired() -> None:
    calls: list[float] = []
    real = measuring._training

    def spoiled(recipe: Recipe, factor: float, *rest: Any) -> Any:
        calls.append(factor)
        how = recipe.train.model_copy(update={"lr": 1e30 if len(calls) == 1 else 1e-3})
        return real(recipe.model_copy(update={"train": how}), factor, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_training", spoiled)
        found = measure(canonical(START), 1.0, TINY.race[0].proxy, 0)
    assert calls == [1.0, 1 / 3]
    assert found.score is not None and found.error is None and len(found.repairs) == 1


def test_a_null_line_trains_its_start_alone_and_a_planted_gain_is_not_there(line: Any) -> None:
    trained: list[tuple[str, str, int]] = []

    def noted(recipe: Recipe, proxy: Any, seed: int) -> float:
        trained.append((recipe.hash, proxy.name, seed))
        return toy.formula(recipe, proxy, seed)

    clock, _ = line(toy.recipe(0.035), toy.recipe(0.3), null=True, score=noted)
    told = run_out(clock)
    assert {name for name, _, _ in trained} == {canonical(START).hash}
    assert len(trained) == len(set(trained))  # each side on seeds of its own
    assert len(told) == 2 and not any(each.verdict.keep for each in told)
    for each in told:
        assert each.result.facts["null"] is True
        [mine, its] = each.result.scores[0], each.result.baseline[0]
        assert mine != its and abs(mine - its) < 4 * toy.NOISE


def test_both_sides_of_a_null_pair_are_the_start_on_seeds_of_their_own(tmp_path: Path) -> None:
    """So they have one distribution, and each its own numbers; rates are swept as ever."""
    start, leg, suites = canonical(START), TINY.race[0], TINY
    mamba = start.model.model_copy(update={"mixers": (PartSpec(part="mamba2"),)})
    sides = start, start.model_copy(update={"model": mamba})
    bench = Bench(suites, tmp_path, stand_in=start)
    trained = []
    for side in sides:
        for seed in (1, 2):
            own = number(side.hash, str(seed))
            found = bench.kept(side, leg, seed, 1.0)
            alone = measure(start, 1.0, leg.proxy, own, asked=seed)
            assert (found.score, found.curve, found.flops) == (
                alone.score, alone.curve, alone.flops,
            )  # fmt: skip
            trained.append(found.curve)
    assert len(set(trained)) == 4
    swept = bench.tuned(sides[1], leg, 3, 3)
    alone = sweep(start, leg.proxy, number(sides[1].hash, "3"), asked=3)
    assert (swept.factor, swept.curve) == (alone.factor, alone.curve)
    assert bench.factor(sides[1], leg.suite, 3) == alone.factor
    assert bench.factor(start, leg.suite, 3) is None


def test_a_curve_is_a_few_points_and_leaves_out_what_is_no_number() -> None:
    assert points([4.0, 2.0]) == ((1, 4.0), (2, 2.0))
    found = points([1.0] * 100 + [math.nan])
    assert len(found) == 12 and found[-1] == (100, 1.0)
    assert points([]) == ()


# -- a trial --


def test_what_is_behind_is_cut_by_the_race_and_counts_as_a_trial(line: Any) -> None:
    clock, _ = line(toy.recipe(), start=toy.recipe(0.5))
    [turn] = run_out(clock)
    assert turn.result.facts["stage"] == "race"
    assert turn.verdict.reason.startswith("race: -0.")
    assert len(turn.result.scores) == len(turn.result.baseline) == 1
    assert len(turn.result.facts["proxies"]) == 1  # far behind: the first leg is enough
    told = summary(clock, [turn], 1.0)
    assert (told.n_trials, told.n_cut, told.n_screened) == (1, 1, 0)


def test_a_planted_gain_is_screened_confirmed_on_fresh_seeds_and_promoted(line: Any) -> None:
    clock, _ = line(toy.recipe(0.035))
    turns = run_out(clock)
    assert turns[-1].verdict.keep and turns[-1].verdict.level is not None
    assert turns[0].result.facts["stage"] == "screen"
    assert {turn.result.facts["stage"] for turn in turns[1:]} == {"confirm"}
    assert clock.champion().candidate.state == toy.recipe(0.035).to_dict()
    facts = turns[-1].result.facts
    assert list(facts["proxies"]) == [leg.name for leg in toy.SUITES.confirm]
    assert all(len(seeds) == N_ROUND for seeds in facts["proxies"].values())
    assert set(facts["suites"]) == {"recall", "states"}
    assert facts["audit"] == {"verdict": "clean", "cached": True, "profile": "quick"}


def test_a_gain_is_still_shown_where_many_confirmations_were_begun_before(
    line: Any, ledger: Ledger
) -> None:
    clock, _ = line(toy.recipe(0.035))
    Driver(clock, ledger).start()
    with ledger.writing(clock.line) as connection:
        ledger.charge(connection, clock.line, begun=300, kept=0)
    turns = run_out(clock)
    assert turns[-1].verdict.keep
    assert N_ROUND * (len(turns) - 1) > 16  # fewer pairs, each won, could not reach such a level


def test_a_confirmation_that_was_cut_short_goes_on_where_it_was(line: Any) -> None:
    trained: list[tuple[str, str, int]] = []

    def noted(recipe: Recipe, proxy: Any, seed: int) -> float:
        trained.append((recipe.hash, proxy.name, seed))
        return toy.formula(recipe, proxy, seed)

    clock, _ = line(score=noted)
    sides = toy.recipe(0.1), toy.recipe(0.2)
    first = confirmation(clock.bench, *sides, (5, 6), 1)
    n = len(trained)
    again = confirmation(clock.bench, *sides, (5, 6, 7), 1)
    of_the_third = {seed for leg in toy.SUITES.confirm for seed in trainings(leg, 7)}
    assert again.scores[:2] == first.scores
    assert {seed for _, _, seed in trained[n:]} == of_the_third


def test_no_round_of_a_confirmation_sees_a_seed_again(line: Any) -> None:
    seen: list[tuple[str, str, int]] = []

    def noted(recipe: Recipe, proxy: Any, seed: int) -> float:
        seen.append((recipe.hash, proxy.name, seed))
        return toy.formula(recipe, proxy, seed)

    clock, _ = line(toy.recipe(0.035), score=noted)
    run_out(clock)
    assert len(seen) == len(set(seen))


def test_a_champion_is_measured_once_for_all_races_and_anew_when_replaced(
    line: Any,
) -> None:
    seen: list[tuple[str, str, int]] = []

    def noted(recipe: Recipe, proxy: Any, seed: int) -> float:
        seen.append((recipe.hash, proxy.name, seed))
        return toy.formula(recipe, proxy, seed)

    first, second = toy.recipe(0.035), toy.recipe(0.07)
    clock, _ = line(first, toy.recipe(0.012, 1), toy.recipe(0.012, 2), second, score=noted)
    turns = run_out(clock)
    assert [t.candidate.state for t in turns if t.verdict.keep] == [
        first.to_dict(),
        second.to_dict(),
    ]
    assert len(seen) == len(set(seen)), "something was measured twice"
    before = {seed for t in turns[:1] for seed in clock.seeds(_as_trial(clock, t)).screen}
    after = {seed for t in turns[-1:] for seed in clock.seeds(_as_trial(clock, t)).screen}
    assert not before & after  # a champion is not met where it was chosen


def test_a_champion_s_rates_are_swept_anew_on_the_seed_that_its_challengers_are_swept_on(
    line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = toy.recipe(0.035), toy.recipe(0.07)
    clock, _ = line(first, second)
    swept: dict[int, set[str]] = {}

    def sweep(recipe: Recipe, proxy: Any, seed: int, asked: int) -> Any:
        swept.setdefault(seed, set()).add(recipe.hash)
        return toy.by_formula()(recipe, 3.0, proxy, seed, asked)

    monkeypatch.setattr(bench_module, "sweep", sweep)
    run_out(clock)
    start = canonical(START)
    assert list(swept.values()) == [{start.hash, first.hash}, {first.hash, second.hash}]


def _as_trial(clock: ResearchClock, turn: Turn) -> Trial:
    champion = replace(clock.champion(), turn=turn.champion)
    return Trial("", clock.line, turn.candidate, champion)


def test_better_on_the_whole_and_worse_on_a_suite_is_a_trade(line: Any) -> None:
    def lopsided(recipe: Recipe, proxy: Any, seed: int) -> float:
        gain = recipe.train.weight_decay
        own = gain if proxy.name in SUITES["states"] else -0.25 * gain
        return toy.formula(recipe, proxy, seed) - gain + own

    clock, _ = line(toy.recipe(0.1), score=lopsided)
    [turn] = run_out(clock)
    assert "a trade: recall -0.0" in turn.verdict.reason
    assert clock.ledger.account(clock.line).n_begun == 0  # found before a level was spent


def test_too_good_is_audited_in_full_before_it_goes_on(line: Any) -> None:
    clock, _ = line(toy.recipe(0.3))
    turns = run_out(clock)
    assert turns[0].result.facts["audit"]["profile"] == "full"
    assert turns[-1].verdict.keep


def test_designs_of_the_menu_lead_by_point_estimate_and_it_says_so(line: Any) -> None:
    better, worse, other = toy.recipe(0.01), toy.recipe(), toy.recipe(0.004, 1)
    named = (Named("better", better), Named("worse", worse))
    clock, _ = line(better, worse, other, given=False, menu=named)
    turns = run_out(clock)
    kept = [turn for turn in turns if turn.verdict.keep]
    assert [turn.candidate.state for turn in kept] == [better.to_dict()]
    assert kept[0].verdict.level is None and "point estimate" in kept[0].verdict.reason
    said = summary(clock, turns, 1.0).lines()
    led = (
        f"better, turn {kept[0].id}: selected from the menu by point estimate, which claims nothing"
    )
    assert led in said and "no candidate was shown to be better than its champion" in said
    assert not any("selected" in words for words in summary(clock, [], 1.0).lines())
    assert clock.ledger.account(clock.line).n_kept == 0


def test_no_op_candidates_are_not_promoted(line: Any) -> None:
    def noisy(recipe: Recipe, proxy: Any, seed: int) -> float:
        return toy.FLOOR + 20 * (toy.formula(recipe, proxy, seed) - toy.FLOOR)

    clock, _ = line(*[toy.recipe(0.0, i) for i in range(1, 25)], score=noisy)
    turns = run_out(clock)
    assert not any(turn.verdict.keep for turn in turns)
    assert {turn.result.facts["stage"] for turn in turns} >= {"race", "screen"}


def test_a_candidate_met_while_the_champion_changed_is_proposed_again(line: Any) -> None:
    clock, _ = line(toy.recipe(0.035), toy.recipe(0.012, 1))
    driver = Driver(clock, clock.ledger)
    driver.start()
    first, second = driver.ask(), driver.ask()
    assert first is not None and second is not None
    late = driver.measure(second)
    while driver.tell(first, driver.measure(first)).decision is Decision.CONTINUE:
        first = driver.ask()
        assert first is not None
    verdict = driver.tell(second, late)
    assert verdict.reason == REPLACED
    again = driver.ask()
    assert again is not None and again.candidate.id == second.candidate.id
    assert again.champion.turn != second.champion.turn
    driver.tell(again, driver.measure(again))
    told = clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])
    assert [turn.candidate.id for turn in trials_of(told)] == [
        first.candidate.id,
        again.candidate.id,
    ]
    counts = gathered(clock.ledger)["counts"]
    assert counts["trials"] == summary(clock, told, 1.0).n_trials == 2


def test_a_trial_that_is_replaced_while_it_is_confirmed_counts_where_it_is_proposed_again(
    line: Any,
) -> None:
    clock, _ = line(toy.recipe(0.035), toy.recipe(0.036, 1))
    driver = Driver(clock, clock.ledger)
    driver.start()
    first, second = driver.ask(), driver.ask()
    assert first is not None and second is not None
    assert driver.tell(second, driver.measure(second)).decision is Decision.CONTINUE
    on = driver.ask()
    assert on is not None and on.id == second.id and on.round == 1
    late = driver.measure(on)
    while driver.tell(first, driver.measure(first)).decision is Decision.CONTINUE:
        first = next(t for t in iter(driver.ask, None) if t.id == first.id)
    assert driver.tell(on, late).reason == REPLACED
    told = clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])
    assert [turn.trial for turn in trials_of(told)] == [first.id]
    assert gathered(clock.ledger)["counts"]["trials"] == 1
    assert summary(clock, told, 1.0).n_confirmed == 2, "both spent a level"


def test_a_killed_trial_goes_on_where_it_was(line: Any) -> None:
    n = [0]

    def dying(recipe: Recipe, proxy: Any, seed: int) -> float:
        n[0] += 1
        if n[0] == 5:
            raise KeyboardInterrupt  # what a kill looks like from inside
        return toy.formula(recipe, proxy, seed)

    clock, _ = line(toy.recipe(0.035), score=dying)
    driver = Driver(clock, clock.ledger, lease_s=-1.0)
    driver.start()
    with pytest.raises(KeyboardInterrupt):
        driver.turn()
    turns = run_out(clock)
    assert turns[0].result.facts["stage"] == "screen"
    legs = toy.SUITES.screen
    mine, its = (sum(len(trainings(leg, 1, n)) for leg in legs) for n in (1, SCREEN.again))
    asked = 2 * len(toy.SUITES.race) + SCREEN.n_seeds * (mine + its)
    fresh = 2 * N_ROUND * sum(len(trainings(leg, 1)) for leg in toy.SUITES.confirm)
    # only what the kill cut off was done again
    assert n[0] == 1 + asked + fresh * (len(turns) - 1)


def test_a_slow_trial_stays_with_its_worker_when_another_worker_dies(
    line: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, _ = line(toy.recipe(0.02, 1), toy.recipe(0.02, 2), n_workers=2)
    driver = Driver(clock, ledger, lease_s=LEASE_S)
    driver.start()
    slow, lost = driver.ask(), driver.ask()
    assert slow is not None and lost is not None
    crew, other = Processes(clock), [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    monkeypatch.setattr(crew, "_spawn", other.pop)
    with subprocess.Popen(["sleep", "60"]) as living, subprocess.Popen(["false"]) as dead:
        dead.wait()
        for worker, trial in ((living, slow), (dead, lost)):
            _hold(clock.run.folder, worker.pid, trial.id)
        crew._workers = [living, dead]  # type: ignore[list-item]
        assert crew.tended()
        again = driver.ask()
        assert again is not None and again.id == lost.id
        assert driver.ask() is None
        crew.end()
    other[0].kill()
    other[0].wait()


def test_what_a_worker_measures_is_known_until_it_is_told(line: Any) -> None:
    clock, _ = line(toy.recipe(0.035))
    driver, said = Driver(clock, clock.ledger), list[str]()
    driver.start()
    while turn(driver, clock, Times(), said.append):
        pass
    [trial] = {each.trial for each in clock.ledger.turns(clock.line, kinds=[Kind.TRIAL])}
    assert said == [trial, ""] * (len(said) // 2)
    _hold(clock.run.folder, 7, "one")
    assert holds(clock.run.folder, 7) == "one" and holds(clock.run.folder, 8) == ""


# -- workers that lie --

Lie = Callable[[Result], Result]


def _facts(result: Result, **changed: Any) -> Result:
    return replace(result, facts={**result.facts, **changed})


LIES: dict[str, Lie] = {
    "not finite": lambda r: replace(r, scores=(math.nan, *r.scores[1:])),
    "infinite": lambda r: replace(r, scores=(math.inf,) * len(r.scores)),
    "missing": lambda r: replace(r, scores=r.scores[:-1], baseline=r.baseline[:-1]),
    "none": lambda r: replace(r, scores=(), baseline=()),
    "too many": lambda r: replace(r, scores=(*r.scores, 0.9), baseline=(*r.baseline, 0.1)),
    "higher than its proxies": lambda r: replace(r, scores=tuple(s + 0.2 for s in r.scores)),
    "a lower champion": lambda r: replace(r, baseline=tuple(s - 0.2 for s in r.baseline)),
    "above the best there is": lambda r: _facts(
        replace(r, scores=(2.0,) * 4),
        proxies={name: [2.0] * 4 for name in r.facts["proxies"]},
    ),
    "a proxy left out": lambda r: _facts(
        r, proxies={k: v for k, v in r.facts["proxies"].items() if k != "parity"}
    ),
    "garbage for proxies": lambda r: _facts(r, proxies="all good"),
    "words for scores": lambda r: _facts(
        r, proxies={name: ["good"] * 4 for name in r.facts["proxies"]}
    ),
    "another stage": lambda r: _facts(r, stage="confirm"),
    "no stage": lambda r: _facts(r, stage=None),
    "cheaper than it is": lambda r: _facts(r, n_params=10),
    "no cost": lambda r: _facts(r, flops=None),
    "no audit": lambda r: _facts(r, audit={}),
    "an audit that accuses": lambda r: _facts(r, audit={"verdict": "errors"}),
    "null answers": lambda r: _facts(r, null=True),
    "no facts": lambda r: replace(r, facts={}),
    "garbage for suites": lambda r: _facts(r, suites="all good"),
    "a suite above its proxies": lambda r: _facts(
        r, suites={name: [0.9] * len(seeds) for name, seeds in r.facts["suites"].items()}
    ),
    "a number for repairs": lambda r: _facts(r, repairs=3),
    "words for a curve": lambda r: _facts(r, curves={"parity": ["steep"]}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_loses_and_teaches_nothing(lie: str, line: Any, ledger: Ledger) -> None:
    clock, _ = line(toy.recipe(0.035))
    driver = Driver(clock, clock.ledger)
    driver.start()
    trial = driver.ask()
    assert trial is not None
    honest = driver.measure(trial)
    verdict = driver.tell(trial, LIES[lie](honest))
    assert verdict.decision is Decision.DISCARD, verdict
    assert "not believed" in verdict.reason or "failed" in verdict.reason
    assert clock.propose(clock.champion(), clock.history) is None
    [learned] = clock.proposer.learned  # type: ignore[attr-defined]
    assert learned.result.error and not learned.result.facts  # nothing is learned from a lie
    tried = Memory().learn(learned)
    assert tried is not None and tried.failed
    assert gathered(ledger)["counts"]["failed"] == 1
    assert story(ledger.turn(learned.id), ledger)[-1].startswith("verdict: discard")


@pytest.mark.parametrize("garbage", [None, "0.9", {"scores": [1]}, Result(scores=("a",))])  # type: ignore[arg-type]
def test_a_worker_that_returns_garbage_loses(garbage: Any, line: Any) -> None:
    clock, _ = line(toy.recipe(0.035))
    driver = Driver(clock, clock.ledger)
    driver.start()
    trial = driver.ask()
    assert trial is not None
    assert driver.tell(trial, garbage).decision is Decision.DISCARD


def test_a_design_that_is_too_dear_or_cannot_run_is_a_failure_with_its_reason(line: Any) -> None:
    start = canonical(START)
    wide = start.model_copy(update={"model": start.model.model_copy(update={"width": 64})})
    learned = PartSpec(part="token", fields={"position": "learned"})
    placed = start.model_copy(
        update={"model": start.model.model_copy(update={"embedding": learned})}
    )
    clock, _ = line(wide, placed)
    dear, placed_turn = run_out(clock)
    assert "not at matched cost" in str(dear.result.error)
    assert placed_turn.result.error is not None
    assert dear.verdict.decision is Decision.DISCARD


# -- bad input --


def test_no_budget_is_refused_before_anything_is_written(ledger: Ledger) -> None:
    for request in (
        Request(budget_s=0.0),
        Request(trials=0),
        Request(n_workers=0),
        Request(seed=-1),
    ):
        with pytest.raises(InputError, match="Wanted"):
            prepared(request, ledger)
    assert not (ledger.folder / "research").exists()


def test_a_start_that_a_proxy_cannot_run_is_refused_with_the_reason(
    ledger: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "placed.toml"
    file.write_text('[model]\nwidth = 16\nembedding = {part = "token", position = "learned"}\n')
    with pytest.raises(InputError, match=r"cannot be judged on states: parity.*positions"):
        prepared(Request(start=str(file)), ledger)
    assert not (ledger.folder / "research").exists()


def test_a_text_that_is_not_there_or_not_asked_for_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match=r"^there is no .*nowhere"):
        planned(Request(suite="text", text=Path("nowhere")), ledger)
    with pytest.raises(InputError, match="--suite text, or leave --text out"):
        planned(Request(suite="states", text=Path(__file__)), ledger)


def test_a_start_that_nobody_knows_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="Did you mean 'modern'"):
        planned(Request(start="modren"), ledger)
    with pytest.raises(LedgerError, match="turn 12345 is not in the ledger"):
        planned(Request(start="12345"), ledger)
    with pytest.raises(InputError, match="no candidate's id"):  # it may be one: all are digits
        planned(Request(start="123456"), ledger)


def test_a_start_may_be_a_turn_or_a_candidate_of_the_ledger(line: Any, ledger: Ledger) -> None:
    clock, _ = line(toy.recipe(0.035))
    [*_, last] = run_out(clock)
    for name in (str(last.id), last.candidate.id[:8]):
        assert planned(Request(start=name), ledger).start == canonical(toy.recipe(0.035))


def test_resuming_nothing_or_another_question_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="no research run"):
        prepared(Request(resume=True), ledger)
    Run.create(ledger, toy.spec())
    with pytest.raises(InputError, match="--suite"):
        prepared(Request(resume=True, suite="text"), ledger)
    with pytest.raises(InputError, match="--null"):
        prepared(Request(resume=True, null=True), ledger)
    for flag, request in {
        "--preset": Request(resume=True, preset="minutes"),
        "--share": Request(resume=True, share=0.5),
        "--text": Request(resume=True, text=Path("book.txt")),
    }.items():
        with pytest.raises(InputError, match=flag):
            prepared(request, ledger)
    run = prepared(Request(resume=True), ledger)
    assert run.extended(9.0, None).spec.budget_s == 9.0
    assert run.extended(None, None, 4).spec.n_workers == 4  # of a run that was read before
    assert Run.newest(ledger).spec.budget_s == 9.0  # more workers leave the end where it was


def test_a_recipe_verified_while_a_run_works_is_not_in_its_menu_but_in_the_next_one_s(
    ledger: Ledger, home: Path
) -> None:
    run = prepared(Request(trials=3, proposer="random"), ledger)
    before = [each.name for each in run.spec.menu]
    found = run.spec.menu[0].recipe
    train = found.train.model_copy(update={"weight_decay": 0.07})
    folder = home / "discoveries" / "found_by_another"
    folder.mkdir(parents=True)
    text = f"model = {_inline(found.model)}\ntrain = {_inline(train)}\n"
    (folder / "recipe.toml").write_text(text)
    worker, resumed = Run.load(run.folder), prepared(Request(resume=True), ledger)
    for each in (worker, resumed):
        clock = ResearchClock(each, ledger)
        assert [design.name for design in clock.problem.menu] == before
        assert clock.named == {design.key for design in run.spec.menu}
    assert "found_by_another" in [each.name for each in planned(Request(), ledger).menu]


def _inline(spec: Spec) -> str:
    fields = spec.to_toml().strip().splitlines()
    return "{" + ", ".join(fields) + "}"


def test_a_run_of_an_older_mendel_is_refused_and_not_touched(ledger: Ledger) -> None:
    run = Run.create(ledger, toy.spec())
    file = run.folder / "run.json"
    old = {**json.loads(file.read_text()), "islands": 5}
    file.write_text(json.dumps(old))
    with pytest.raises(InputError, match="begun by another mendel"):
        prepared(Request(resume=True), ledger)
    assert json.loads(file.read_text()) == old


def test_two_runs_on_one_ledger_proceed_on_their_own_lines(
    line: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = line(toy.recipe(0.035))
    other, _ = line(toy.recipe(0.0, 1), toy.recipe(0.035))
    drivers = [Driver(clock, ledger) for clock in (one, other)]
    for driver in drivers:
        driver.start()
    while any([driver.turn() is not None for driver in drivers]):
        pass
    assert one.line != other.line and one.line.task == other.line.task
    assert one.champion().candidate.state == toy.recipe(0.035).to_dict()
    assert other.champion().candidate.state == toy.recipe(0.035).to_dict()
    assert ledger.account(one.line).n_kept == 2  # they share one error budget


def test_one_run_is_worked_on_by_one_process(ledger: Ledger) -> None:
    run = Run.create(ledger, toy.spec())
    with run.lock(), pytest.raises(InputError, match="another process"):
        research(Request(resume=True, budget_s=7.0, n_workers=5), ledger)
    assert Run.load(run.folder).spec == run.spec, "who has no lock wrote into the run"


def test_the_newest_run_is_the_one_begun_last_whatever_the_clock_says(ledger: Ledger) -> None:
    names = {"20261101-230000-a": 9e8, "20261101-010000-c": 7e8, "20261101-020000-b": 8e8}
    runs = [Run.create(ledger, toy.spec(id=name, started=at)) for name, at in names.items()]
    assert Run.newest(ledger).spec.id == runs[-1].spec.id
    assert [run.spec.number for run in runs] == [1, 2, 3]


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_loses_and_doubles_nothing(jump: float, line: Any) -> None:
    """Forward, every lease is over at once; back, none ever is until the session frees it."""
    clock, _ = line(toy.recipe(0.035), *[toy.recipe(0.0, i) for i in range(1, 4)])
    now, jumps = [1.8e9], [jump]

    def jumping() -> float:
        if jumps and len(clock.ledger.turns(clock.line)) == 3:
            now[0] += jumps.pop()
        now[0] += 1.0
        return now[0]

    turns = run_out(clock, now=jumping)
    rounds = [(turn.trial, turn.round) for turn in turns]
    assert len(rounds) == len(set(rounds))
    assert {t.candidate.id for t in turns} == {c.id for c in clock.proposer.candidates}  # type: ignore[attr-defined]
    assert clock.champion().candidate.state == toy.recipe(0.035).to_dict()


def test_a_full_disk_stops_the_session_and_nothing_is_held_against_the_candidate(
    line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, _ = line(toy.recipe(0.035))

    def full(target: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bench_module, "write_atomically", full)
        [turn] = run_out(clock)
    assert "[Errno 28]" in str(turn.result.error)
    driver = Driver(clock, clock.ledger)
    with pytest.raises(OSError, match="could not keep"):
        Session(clock, driver, Silent(), 0.0)


def test_a_spoiled_score_is_measured_again(tmp_path: Path) -> None:
    bench = Bench(TINY, tmp_path)
    leg = TINY.leg("word_a5")
    first = bench.kept(canonical(START), leg, 1, 1.0)
    [file] = (tmp_path / "scores").glob("*/*.json")
    file.write_text(file.read_text()[:20])
    assert bench.kept(canonical(START), leg, 1, 1.0).score == first.score
    assert json.loads(file.read_text())["score"] == first.score


def test_time_is_counted_by_a_clock_that_nobody_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Stopwatch(tmp_path)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= watch.spent_s < 60


# -- the session --


def test_the_analyst_speaks_after_each_batch(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BATCH", 5)
    clock, _ = line(*[toy.recipe(0.0, i) for i in range(1, 12)])
    run_out(clock)
    driver = Driver(clock, clock.ledger)
    session = Session(clock, driver, Silent(), 0.0)
    session._look()
    insights = clock.ledger.turns(clock.line, kinds=[Kind.INSIGHT])
    assert len(insights) == 2
    assert insights[-1].result.facts["n_trials"] > 0
    Session(clock, driver, Silent(), 0.0)
    assert len(clock.ledger.turns(clock.line, kinds=[Kind.INSIGHT])) == 2  # not said twice


def test_an_analyst_that_fails_is_a_turn_and_the_run_goes_on(
    line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(turns: Sequence[Turn]) -> None:
        raise ZeroDivisionError("no variance")

    monkeypatch.setattr(session_module, "BATCH", 2)
    monkeypatch.setattr(session_module, "analyse", broken)
    clock, _ = line(toy.recipe(0.0, 1), toy.recipe(0.0, 2))
    run_out(clock)
    Session(clock, Driver(clock, clock.ledger), Silent(), 0.0)
    [turn] = clock.ledger.turns(clock.line, kinds=[Kind.INSIGHT])
    assert "the analyst failed: ZeroDivisionError" in turn.verdict.reason
    assert Insight.from_dict(turn.result.facts).n_trials == 0


def test_a_search_that_is_stuck_says_so_once_until_something_is_kept(line: Any) -> None:
    said: list[str] = []

    class Heard(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    clock, proposer = line(*[toy.recipe(0.0, i) for i in range(1, 4)])
    words = "mutate: x. Stuck: no gain in 50 trials."
    proposer.candidates = [replace(each, motivation=words) for each in proposer.candidates]
    run_out(clock)
    Session(clock, Driver(clock, clock.ledger), Heard(), 0.0)
    assert len(said) == 1 and said[0].endswith("no gain in 50 trials.")


def test_being_stuck_is_a_link_and_words_alone_are_read_in_older_turns_only() -> None:
    said = Candidate({}, "mutate: x. Stuck: no gain.")
    assert stuck(said) == "no gain."
    assert stuck(replace(said, links=("operator:cross",))) == ""
    assert stuck(replace(said, links=("operator:cross", "stuck:50"))) == "no gain."
    assert operator(said) == "mutate" and operator(replace(said, links=("operator:a",))) == "a"


def test_a_run_is_over_by_trials_or_by_time(line: Any) -> None:
    clock, _ = line(*[toy.recipe(0.0, i) for i in range(1, 4)], trials=3, budget_s=None)
    driver = Driver(clock, clock.ledger)
    driver.start()
    session = Session(clock, driver, Silent(), 0.0)
    assert not session.is_over
    run_out(clock)
    session._look()
    assert session.is_over
    late, _ = line(toy.recipe(0.0, 9), budget_s=5.0)
    Driver(late, late.ledger).start()
    assert Session(late, Driver(late, late.ledger), Silent(), 6.0).is_over


def test_no_more_is_proposed_than_trials_were_asked_for(line: Any) -> None:
    clock, _ = line(*[toy.recipe(0.0, i) for i in range(1, 9)], trials=3, budget_s=None)
    turns = run_out(clock)
    assert len({turn.trial for turn in turns}) == 3


def test_the_help_of_research_does_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['mendel', 'research', '--help']\n"
        "from mendel.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--proposer" in done.stdout and "--null" in done.stdout


def test_earlier_runs_of_a_question_are_evidence_and_their_recipes_are_still_to_be_tried(
    line: Any,
) -> None:
    recipes = [toy.recipe(0.002 * i, i) for i in range(1, 6)]
    first, _ = line(*recipes)
    theirs = run_out(first)
    second, proposer = line(toy.recipe(0.0, 9))
    assert second.line.task == first.line.task
    ours = run_out(second)
    earlier = proposer.learned[: len(theirs)]
    assert [turn.id for turn in earlier] == [turn.id for turn in theirs]
    assert second.line.task not in {turn.line.task for turn in earlier}
    builtin = ResearchClock(second.run, second.ledger).proposer
    builtin.learn(proposer.learned)
    assert isinstance(builtin, Builtin)
    assert list(builtin.memory.tried) == [key(toy.recipe(0.0, 9))]
    [others] = builtin.others.values()
    assert len(others.tried) == len(recipes)
    assert builtin.memory.champion == ours[0].champion


def test_a_proposer_learns_from_other_questions_of_before_but_not_from_luck(line: Any) -> None:
    other = Suites(names=("states",))
    known, _ = line(toy.recipe(0.0, 1), suites=other)
    lucky, _ = line(toy.recipe(0.0, 2), suites=other, null=True)
    for clock in (known, lucky):
        run_out(clock)
    clock, proposer = line(toy.recipe(0.0, 3))
    run_out(clock)
    late, _ = line(toy.recipe(0.0, 4), suites=other)
    run_out(late)
    learned = [turn.candidate.state for turn in proposer.learned]
    assert learned[:2] == [toy.recipe(0.0, 1).to_dict(), toy.recipe(0.0, 3).to_dict()]
    again = toy.Listed(toy.recipe(0.0, 3))
    ResearchClock(clock.run, clock.ledger, again)._learn(clock.history)
    assert [turn.candidate.state for turn in again.learned] == learned[:2]  # after a kill too

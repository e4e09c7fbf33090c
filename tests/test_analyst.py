"""The analyst: what it claims is there, of noise it claims little; ablations and shares."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.analyst import CLEAR, Insight, ablations, analyse, carried_by, shares
from mendel.propose.effects import fit, interactions
from mendel.propose.matching import caps_of, over
from mendel.propose.measured import Measured
from mendel.propose.settings import Settings, settings
from mendel.propose.spelling import key
from mendel.rows import replay
from mendel.spec import Recipe
from mendel.types import (
    Candidate,
    Decision,
    InputError,
    Kind,
    Line,
    Result,
    Turn,
    Verdict,
    digest,
)
from tests.toy import ToyClock

LINE = Line("research", digest("analyst"))
CHOICES: dict[str, tuple[Any, ...]] = {  # 12 fields, 15 values besides the usual ones
    "conv": (0, 4, 7),
    "feature": ("none", "silu"),
    "out_gate": ("none", "silu", "sigmoid"),
    "decay": ("none", "fixed", "learned"),
    "direct": (False, True),
    "bonus": (False, True),
    "token_shift": (False, True),
    "rotary": (False, True),
    "key_norm": (False, True),
    "out_norm": (True, False),
    "residual_init": ("scaled", "zero"),
    "beta2": (0.99, 0.95),
}
OF_MODEL, OF_TRAINING = ("residual_init",), ("beta2",)
Gain = Callable[[dict[str, Any]], float]


def recipe(chosen: dict[str, Any]) -> Recipe:
    part = {k: v for k, v in chosen.items() if k not in (*OF_MODEL, *OF_TRAINING)}
    model = {"width": 16, "n_layers": 2, "mixers": [{"part": "recurrence", **part}]}
    return Recipe.parse(
        {
            "model": model | {k: chosen[k] for k in OF_MODEL if k in chosen},
            "train": {k: chosen[k] for k in OF_TRAINING if k in chosen},
        }
    )


def choices(n: int, seed: int) -> list[dict[str, Any]]:
    chance = np.random.default_rng(seed)
    return [
        {name: values[chance.integers(len(values))] for name, values in CHOICES.items()}
        for _ in range(n)
    ]


def trial(id: int, state: Recipe, scores: Sequence[float], baseline: Sequence[float], *,
          champion: int = 1, links: tuple[str, ...] = (), keep: bool = False,
          level: float | None = None, error: str | None = None, **facts: Any) -> Turn:  # fmt: skip
    verdict = Verdict(Decision.KEEP if keep else Decision.DISCARD, "why", level)
    result = Result(tuple(scores), tuple(baseline), facts={"stage": "screen", **facts}, error=error)
    candidate = Candidate(state.to_dict(), "mutate: a field", links)
    return Turn(LINE, Kind.TRIAL, candidate, result, verdict, champion, f"trial-{id}", id=id)


def history(chosen: list[dict[str, Any]], gain: Gain, seed: int, noise: float = 0.04) -> list[Turn]:
    """A turn each, on 4 seeds whose own luck champion and challenger share in part."""
    chance = np.random.default_rng(seed)
    baseline = 0.5 + chance.normal(scale=noise, size=4)
    found = []
    for i, one in enumerate(chosen):
        scores = baseline + gain(one) + chance.normal(scale=noise, size=4)
        found.append(trial(i + 2, recipe(one), scores, baseline))
    return found


CHOSEN = choices(120, seed=0)


def test_a_planted_effect_and_a_planted_interaction_are_found_and_nothing_else() -> None:
    def gain(one: dict[str, Any]) -> float:
        both = one["direct"] and one["rotary"]
        return 0.05 * (one["out_gate"] == "silu") + 0.08 * both - 0.04

    found = analyse(history(CHOSEN, gain, seed=1))
    clear = {(e.field, e.value): e for e in found.effects if e.clear}
    silu = clear.pop(("mixers.out_gate", "silu"))
    assert silu.usual == "none" and 0 < silu.low < 0.05 < silu.high < 0.1
    # each of two that gain together has an effect of its own too, on average over the other
    assert set(clear) == {("mixers.direct", True), ("mixers.rotary", True)}
    [pair] = found.interactions
    assert {pair.first[0], pair.second[0]} == {"mixers.direct", "mixers.rotary"}
    assert pair.low < 0.08 < pair.high and pair.low > 0
    assert any("mixers.direct" in line and "mixers.rotary" in line for line in found.words)
    assert f"{len(CHOSEN)} trials" in found.words[0]


def test_intervals_of_95_percent_cover_the_truth_in_95_percent_of_cases() -> None:
    """Trials on 1, 2 or 4 seeds, beside two champions, with effects of several sizes."""
    truth = {"mixers.conv": {4: 0.03, 7: -0.02}, "mixers.decay": {"fixed": 0.05, "learned": 0.01},
             "mixers.bonus": {True: -0.04}, "train.beta2": {0.95: 0.02}}  # fmt: skip

    def worth(one: dict[str, Any]) -> float:
        named = {f"mixers.{k}": v for k, v in one.items()} | {"train.beta2": one["beta2"]}
        return sum(truth.get(field, {}).get(value, 0.0) for field, value in named.items())

    covered = []
    recipes = [recipe(one) for one in CHOSEN]
    for seed in range(200):
        chance = np.random.default_rng(seed)
        turns = []
        for i, (one, state) in enumerate(zip(CHOSEN, recipes, strict=True)):
            n, champion = (4, 4, 2, 1)[i % 4], 1 + (i > 70)
            own = worth(one) - 0.1 * (champion - 1) + chance.normal(scale=0.02)
            turns.append(
                trial(i + 3, state, own + chance.normal(scale=0.04, size=n), [0.0] * n,
                      champion=champion)
            )  # fmt: skip
        for e in analyse(turns).effects:
            gains = truth.get(e.field, {})
            covered.append(e.low <= gains.get(e.value, 0.0) - gains.get(e.usual, 0.0) <= e.high)
    assert len(covered) == 200 * 15
    assert 0.93 <= np.mean(covered) <= 0.97


def test_of_pure_noise_it_claims_something_in_at_most_5_percent_of_histories() -> None:
    recipes = [recipe(one) for one in CHOSEN]
    n_claims = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        turns = [
            trial(i + 2, state, chance.normal(scale=0.04, size=4), [0.0] * 4)
            for i, state in enumerate(recipes)
        ]
        found = analyse(turns)
        n_claims += bool(found.interactions) or any(effect.clear for effect in found.effects)
        assert found.n_looked_at > 100
    assert n_claims <= 10  # of 200: 5 %


def climbed(truth: NDArray[np.float64], seed: int) -> list[Measured]:
    """150 trials of a search that follows its own noise: a parent that looked good, changed."""
    chance = np.random.default_rng(seed)
    champion, n_champions, good = np.zeros(12, int), 0, [np.zeros(12, int)]
    found = []
    for _ in range(150):
        mine = good[chance.integers(len(good))].copy()
        mine[chance.integers(12, size=1 + (chance.random() < 0.3))] ^= 1
        gain = float(truth @ (mine - champion))
        pairs = gain + chance.normal(scale=0.04, size=4)
        chosen: Settings = {f"f{k}": {int(v): 1.0} for k, v in enumerate(mine)}
        mean, spread = float(pairs.mean()), float(pairs.var(ddof=1))
        found.append(Measured(chosen, mean, 4, spread, str(n_champions)))
        if mean > 0:
            good = [*good[-9:], mine]
        if mean > 0.02 and gain + chance.normal(scale=0.014) > 0.035:
            champion, n_champions = mine, n_champions + 1
    return found


def test_a_search_that_follows_its_own_noise_does_not_spoil_the_intervals() -> None:
    truth = np.array([0.05, 0.03, -0.04, 0.02] + [0.0] * 8)
    covered, n_wrong = [], 0
    for seed in range(200):
        found = fit(climbed(truth, seed))
        wrong = any(pair[2].p < CLEAR for pair in interactions(found))
        for column, e in zip(found.columns, found.estimates, strict=True):
            gain = truth[int(column.field[1:])] * (1 if column.value == 1 else -1)
            covered.append(e.low <= gain <= e.high)
            wrong |= e.p < CLEAR and e.mean * gain <= 0
        n_wrong += wrong
    assert np.mean(covered) >= 0.92
    assert n_wrong <= 10  # of 200: 5 %


def test_a_champion_s_own_level_is_not_taken_for_an_effect() -> None:
    """Later trials have the convolution, and met a champion that is better by as much again."""
    late = [{**one, "conv": 4 if i > 60 or i % 3 == 0 else 0} for i, one in enumerate(CHOSEN)]
    chance = np.random.default_rng(5)
    turns = [
        trial(i + 3, recipe(one), chance.normal(scale=0.02, size=4) - 0.2 * (i > 60), [0.0] * 4,
              champion=1 + (i > 60))
        for i, one in enumerate(late)
    ]  # fmt: skip
    [effect] = [e for e in analyse(turns).effects if e.field == "mixers.conv"]
    assert effect.low < 0 < effect.high and not effect.clear


def test_a_trial_cut_after_its_first_proxy_counts_as_level_on_the_others() -> None:
    chance = np.random.default_rng(6)
    names = ["parity", "mqar", "word_s5", "char_lm"]
    turns = []
    for i, one in enumerate(CHOSEN[:60]):
        slow, more = -0.4 * one["bonus"], chance.normal(scale=0.01, size=4)
        cut = {"stage": "race", "proxies": {"parity": [0.5]}}  # bad there alone
        whole = {"proxies": {name: [0.5] * 4 for name in names}}
        told = (slow + more[:1], [0.0], cut) if one["bonus"] else (more, [0.0] * 4, whole)
        turns.append(trial(i + 2, recipe(one), told[0], told[1], **told[2]))
    [effect] = [e for e in analyse(turns).effects if e.field == "mixers.bonus"]
    assert abs(effect.mean) == pytest.approx(0.1, abs=0.02)


def test_a_clear_effect_is_told_with_the_proxies_that_it_comes_from() -> None:
    chance = np.random.default_rng(9)
    turns = []
    for i, one in enumerate(CHOSEN):
        parity, mqar = 0.3 * one["bonus"], -0.1 * one["bonus"]
        mine = {"parity": list(parity + chance.normal(scale=0.02, size=4)),
                "mqar": list(mqar + chance.normal(scale=0.02, size=4))}  # fmt: skip
        if i % 5 == 0:
            del mine["mqar"]
        scores = np.mean(list(mine.values()), 0)
        its = {name: [0.0] * 4 for name in mine}
        turns.append(trial(i + 2, recipe(one), scores, [0.0] * 4, proxies=mine))
        facts = {**turns[-1].result.facts, "champion": its}
        turns[-1] = replace(turns[-1], result=replace(turns[-1].result, facts=facts))
    effects = {e.field: e for e in analyse(turns).effects}
    bonus = effects["mixers.bonus"]
    assert bonus.by == {
        "parity": pytest.approx(0.3, abs=0.02),
        "mqar": pytest.approx(-0.1, abs=0.02),
    }
    assert "parity +0.3" in bonus.words and effects["mixers.rotary"].by == {}


def test_fields_that_always_came_together_are_said_to_be_so() -> None:
    tied = [{**one, "bonus": one["direct"]} for one in CHOSEN]
    found = analyse(history(tied, lambda one: 0.1 * one["bonus"], seed=2))
    told = {e.field for e in found.effects} & {"mixers.bonus", "mixers.direct"}
    assert len(told) == 1
    assert any("came together" in line and "mixers.bonus" in line for line in found.words)


def test_a_rate_of_many_values_is_told_per_doubling() -> None:
    chance = np.random.default_rng(3)
    turns = []
    for i in range(80):
        lr = 1e-3 * 2.0 ** chance.integers(0, 7)
        made = Recipe.parse({"model": {"width": 16}, "train": {"lr": lr}})
        scores = 0.03 * np.log2(lr) + chance.normal(scale=0.02, size=4)
        turns.append(trial(i + 2, made, scores, [0.0] * 4))
    [effect] = analyse(turns).effects
    assert (effect.field, effect.value, effect.clear) == ("train.lr", "x2", True)
    assert effect.low < 0.03 < effect.high
    assert "per doubling of train.lr" in effect.words


def test_failures_are_told_with_the_value_that_goes_with_them_and_not_with_chance() -> None:
    chance = np.random.default_rng(4)
    turns = history(CHOSEN, lambda one: 0.0, seed=3)
    for i, one in enumerate(CHOSEN):
        if one["decay"] == "fixed" and chance.random() < 0.6:
            error = f"step {i}: the loss is no number (nan after {i} s)"
            turns[i] = trial(i + 2, recipe(one), (), (), error=error)
        elif chance.random() < 0.1:
            turns[i] = trial(i + 2, recipe(one), (), (), error="out of memory")
    found = {failure.reason: failure for failure in analyse(turns).failures}
    nan = found["step #: the loss is no number (nan after # s)"]
    assert (nan.field, nan.value) == ("mixers.decay", "fixed") and nan.n_with == nan.n > 10
    assert found["out of memory"].field == ""


def test_a_handful_of_turns_or_none_gives_no_effect_and_no_error() -> None:
    assert analyse([]).effects == () and analyse([]).words[0].startswith("0 trials")
    for n in (1, 2, 3, 5):
        assert analyse(history(CHOSEN[:n], lambda one: 0.0, seed=n)).interactions == ()
    same = [trial(i + 2, recipe(CHOSEN[0]), [0.5] * 4, [0.5] * 4) for i in range(20)]
    assert analyse(same).effects == ()  # nothing was varied, nothing is divided by 0


def test_no_sealed_score_and_no_recipe_of_a_stranger_is_read() -> None:
    turns = history(CHOSEN, lambda one: 0.0, seed=7)
    opened = replace(turns[0], id=500, kind=Kind.OPENING, sealed={"score": 1.0}, trial="")
    strange = replace(turns[1], id=501, trial="x", candidate=Candidate({"model": {"depth": 3}}))
    found = analyse([*turns, opened, strange])
    assert found.effects == analyse(turns).effects and found.upto == 501


def test_an_insight_survives_the_ledger_and_makes_no_champion(home: Path, ledger: Ledger) -> None:
    driver = Driver(ToyClock(home / "live.json", seed=0), ledger)
    line, before = driver.clock.line, driver.start()
    driver.turn()
    account = ledger.account(line)
    found = analyse(history(CHOSEN, lambda one: 0.1 * one["bonus"], seed=8))
    champion = ledger.champion(line)
    turn = driver.note_insight(found.words, found.to_dict(), links=("turn:1",))
    assert turn.kind is Kind.INSIGHT and not turn.verdict.keep
    assert Insight.from_dict(ledger.turn(turn.id).result.facts) == found
    assert ledger.champion(line) == champion == replay(ledger.turns())[line]
    assert ledger.account(line) == account
    assert ledger.why(turn.id)[0].id == before.turn
    assert [t.id for t in driver.view.told(after=turn.id - 1)] == [turn.id]
    assert turn.id not in [t.id for t in driver.view.turns()]
    verdict = driver.turn()  # and the line goes on
    assert verdict is not None and ledger.turns(line)[-1].champion == champion.turn  # type: ignore[union-attr]


def test_log_and_why_show_an_insight_s_words(
    home: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    from mendel.cli.ledger import log, why

    driver = Driver(ToyClock(home / "live.json", seed=0), ledger)
    driver.start()
    turn = driver.note_insight(["one effect is clear.", "+0.05 for erase."], {})
    log(as_json=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["kind"] for t in told] == ["start", "insight"]
    why(str(turn.id))
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "insight" in shown and "discard" not in shown


def test_what_is_no_insight_is_refused() -> None:
    with pytest.raises(InputError, match="no insight"):
        Insight.from_dict({"effects": []})


BEFORE = Recipe.parse({"model": {"width": 16, "n_layers": 2, "mixers": ["linear_attention"]}})
AFTER = Recipe.parse(
    {
        "model": {
            "width": 16, "n_layers": 2, "residual_init": "zero",
            "mixers": [{"part": "recurrence", "feature": "elu", "conv": 4, "key_norm": True,
                        "erase": "delta", "write": "beta", "n_steps": 2}],
        },
        "train": {"optimizer": "muon"},
    }
)  # fmt: skip
CAPS = caps_of(AFTER, vocab=32, n_tokens=16)


def promoted(state: Recipe = AFTER) -> Turn:
    return trial(9, state, [0.8] * 8, [0.6] * 8, champion=1, keep=True, level=0.01)


def test_ablations_put_each_changed_field_back_alone() -> None:
    made = ablations(promoted(), BEFORE, CAPS)
    back = {tuple(x for x in one.links if x.startswith("ablation:")): one for one in made}
    alone = ["residual_init", "mixers.conv", "mixers.key_norm", "mixers.write",
             "mixers.n_steps", "train.optimizer"]  # fmt: skip
    together = ("ablation:mixers.erase", "ablation:mixers.n_steps")  # two steps need an erase
    assert set(back) == {*((f"ablation:{field}",) for field in alone), together}
    after, was = (settings(r.to_dict()) for r in (AFTER, BEFORE))
    for links, one in back.items():
        fields = {link.removeprefix("ablation:") for link in links}
        now = settings(one.state)
        for field in after.keys() & was.keys():
            assert now[field] == (was if field in fields else after)[field], (links, field)
        assert "turn:9" in one.links and one.motivation.startswith("ablate: ")
        assert over(Recipe.parse(dict(one.state)), CAPS) is None


def _field(candidate: Candidate) -> str:
    return next(link for link in candidate.links if link.startswith("ablation:"))


def test_a_single_change_and_a_hybrid_are_ablated_as_what_they_are() -> None:
    single = Recipe.parse({**BEFORE.to_dict(), "train": {"optimizer": "muon"}})
    assert ablations(promoted(single), BEFORE, CAPS) == []
    start = trial(1, BEFORE, [0.6] * 4, [0.6] * 4, champion=0)
    assert carried_by(promoted(single), [start]) == ["train.optimizer"]
    mixers = ["linear_attention", {"part": "short_conv"}]
    hybrid = Recipe.parse(
        {"model": {"width": 16, "n_layers": 2, "mixers": mixers, "init_std": 0.1}}
    )
    [one, other] = ablations(promoted(hybrid), BEFORE, CAPS)
    assert {_field(one), _field(other)} == {"ablation:mixers.part", "ablation:init_std"}


def test_the_field_that_carries_a_planted_gain_is_named_and_the_others_are_not() -> None:
    chance = np.random.default_rng(0)
    top = promoted()
    turns = []
    for i, one in enumerate(ablations(top, BEFORE, CAPS)):
        state = Recipe.parse(dict(one.state))
        loss = 0.2 * (state.model.mixers[0].fields.get("conv", 0) != 4)
        baseline = 0.8 + chance.normal(scale=0.02, size=4)
        scores = baseline - loss + chance.normal(scale=0.02, size=4)
        turns.append(trial(20 + i, state, scores, baseline, champion=9, links=one.links))
    assert carried_by(top, turns) == ["mixers.conv"]
    elsewhere = [replace(turn, champion=3) for turn in turns]  # not beside the promoted design
    assert carried_by(top, elsewhere) == []


def test_an_insight_tells_what_carries_each_promoted_design_and_where_wins_came_from() -> None:
    top = promoted()
    turns = [top]
    for i, one in enumerate(ablations(top, BEFORE, CAPS)):
        state = Recipe.parse(dict(one.state))
        loss = 0.3 * ("ablation:mixers.conv" in one.links)
        scores = [0.8 - loss + 0.01 * seed for seed in (1, -1, 2, -2)]
        turns.append(trial(20 + i, state, scores, [0.8] * 4, champion=9, links=one.links))
    found = analyse(turns)
    [one] = found.carried
    assert (one.turn, one.fields, one.n_back) == (9, ("mixers.conv",), len(turns) - 1)
    assert "Turn 9: its gain is carried by mixers.conv (7 changes put back)." in found.words
    assert found.wins.n_wins == 1 and any(line.startswith("1 win: ") for line in found.words)
    assert Insight.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    "facts",
    [
        {"proxies": "none", "champion": 3},
        {"proxies": {"parity": "high"}, "champion": {"parity": None}},
        {"proxies": {"parity": [1e999, None]}, "champion": {"parity": [True]}},
        {"proxies": [1, 2], "stage": ["race"]},
    ],
)
def test_a_worker_s_garbage_among_the_facts_is_not_read(facts: dict[str, Any]) -> None:
    turns = history(CHOSEN, lambda one: 0.2 * one["bonus"], seed=10)
    bad = [replace(t, result=replace(t.result, facts=facts)) for t in turns[:5]]
    assert analyse([*bad, *turns[5:]]).effects == analyse(turns).effects


def test_an_ablation_that_the_race_cut_counts_and_one_that_failed_does_not() -> None:
    top = promoted()
    made = {_field(one): one for one in ablations(top, BEFORE, CAPS)}
    cut, crashed = made["ablation:mixers.conv"], made["ablation:train.optimizer"]
    turns = [
        trial(20, Recipe.parse(dict(cut.state)), [0.1], [0.8], champion=9, links=cut.links,
              stage="race"),
        trial(21, Recipe.parse(dict(crashed.state)), (), (), champion=9, links=crashed.links,
              error="out of memory"),
    ]  # fmt: skip
    assert carried_by(top, turns) == ["mixers.conv"]


def test_ablations_are_other_designs_than_those_known() -> None:
    keys = [key(Recipe.parse(dict(one.state))) for one in ablations(promoted(), BEFORE, CAPS)]
    assert len({*keys, key(AFTER), key(BEFORE)}) == len(keys) + 2


def test_shares_count_wins_by_their_links() -> None:
    def won(*links: str, level: float | None = 0.01, keep: bool = True) -> Turn:
        return trial(5, AFTER, [1.0], [0.0], links=links, keep=keep, level=level)

    turns = [
        won("turn:3"),
        won("turn:3", "insight:7"),
        won("turn:3", "note:delta-rule"),
        won("turn:3", "note:muon", "insight:7"),
        won("turn:3", "turn:4"),  # a recombination
        won("menu:gla"),
        won(),
        won("menu:mamba2", level=None),  # kept by point estimate: no win
        won("note:muon", keep=False),
    ]
    found = shares(turns)
    assert found.to_dict() == {
        "n_wins": 7, "experience": 3, "notes": 1, "both": 1, "neither": 2, "recombined": 1,
    }  # fmt: skip
    assert "7 wins: 3 from experience" in found.words and shares([]).words == "No win."

"""What proposers of recipes promise: nothing twice, no failure again, the same after a crash."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("ribs", reason="the extra [research] is not installed")
pytest.importorskip("optuna", reason="the extra [research] is not installed")

from mendel.propose.analyst import Effect, Insight
from mendel.propose.archive import Archive, cell_of
from mendel.propose.bandit import Bandit
from mendel.propose.builtin import Builtin
from mendel.propose.changes import changes
from mendel.propose.matching import caps_of, matched
from mendel.propose.memory import Memory
from mendel.propose.menu import Named
from mendel.propose.notes import notes
from mendel.propose.novelty import features, fingerprint, key
from mendel.propose.options import ARMS, Broods
from mendel.propose.parzen import dials, picks_of, recipe_at
from mendel.propose.ranking import encoded
from mendel.propose.ranking import flat as flat_row
from mendel.propose.recipes import (
    Name,
    Problem,
    Proposer,
    linked,
    make_proposer,
    operator,
    recipe_of,
)
from mendel.spec import ModelSpec, PartSpec, Recipe
from mendel.types import (
    Candidate,
    Decision,
    InputError,
    Kind,
    Line,
    Result,
    Turn,
    Verdict,
)

LINE = Line("research", "a" * 64)
FIRST = 7  # the turn that the line starts with
NAMES = get_args(Name)
Score = Callable[[Recipe], float]


def recipe(mixer: str, **fields: Any) -> Recipe:
    part = PartSpec(part=mixer, fields={"n_heads": 2, **fields})
    return Recipe(model=ModelSpec(width=16, n_layers=1, context=16, mixers=(part,)))


@cache
def problem(seed: int = 0) -> Problem:
    caps = caps_of(recipe("gated_delta_net"), vocab=16, n_tokens=16)
    menu = []
    for name in ("linear_attention", "gla", "delta_net", "retnet"):
        made = matched(recipe(name), caps)
        assert made is not None
        menu.append(Named(name, made))
    return Problem(caps, menu[1].recipe, tuple(menu), notes(), seed)


@cache
def broods() -> Broods:
    """Shared, as they know nothing of turns: what changes cost is worked out once."""
    return Broods(problem())


def builtin(seed: int = 0) -> Builtin:
    return Builtin(replace(problem(), seed=seed), broods())


def make(name: Name) -> Proposer:
    return builtin() if name == "builtin" else make_proposer(name, problem())


def planted(one: Recipe) -> float:
    """Erasing is good, with Muon it is better."""
    row = features(one)
    erases = float(row.get("mixers.erase=delta", 0.0))
    muon = float(row["train.optimizer"] == "muon")
    return 0.3 + 0.2 * erases + 0.1 * muon + 0.2 * erases * muon


def flat(one: Recipe) -> float:
    return 0.5


@dataclass
class Lab:
    """A line without training: scores come from a function, and turns are as the clock's."""

    proposer: Proposer
    score: Score = planted
    champion: float = 0.3
    champion_turn: int = FIRST
    turns: list[Turn] = field(default_factory=list)

    def turn(
        self, candidate: Candidate, *, keep: bool = False, reason: str = "", **facts: Any
    ) -> Turn:
        value = self.score(recipe_of(candidate))
        error = None if math.isfinite(value) else "RuntimeError: it failed"
        scores = () if error else (value, value)
        result = Result(
            scores, () if error else (self.champion,) * 2, facts={"stage": "screen", **facts},
            error=error,
        )  # fmt: skip
        verdict = Verdict(Decision.KEEP if keep else Decision.DISCARD, reason or "measured")
        made = Turn(LINE, Kind.TRIAL, candidate, result, verdict, self.champion_turn,
                    str(len(self.turns)), 0, FIRST + 1 + len(self.turns))  # fmt: skip
        self.turns.append(made)
        self.proposer.learn([made])
        if keep:
            self.champion, self.champion_turn = value, made.id
        return made

    def play(self, n: int, **facts: Any) -> list[Candidate]:
        found = []
        for _ in range(n):
            candidate = self.proposer.propose([])
            assert candidate is not None
            found.append(candidate)
            self.turn(candidate, **facts)
        return found


def after_menu(score: Score = planted, seed: int = 0) -> Lab:
    lab = Lab(builtin(seed), score)
    lab.play(len(problem().menu))
    return lab


@pytest.mark.parametrize("name", NAMES)
def test_designs_of_the_menu_come_first(name: Name) -> None:
    menu = [design.recipe for design in problem().menu]
    found = Lab(make(name)).play(len(menu) + 1)
    assert [recipe_of(candidate) for candidate in found[:-1]] == menu
    assert [list(linked(candidate, "menu")) for candidate in found[:-1]] == [
        [design.name] for design in problem().menu
    ]
    assert operator(found[-1]) != "menu"


@pytest.mark.parametrize("name", NAMES)
def test_no_design_is_proposed_twice_under_any_spelling(name: Name) -> None:
    keys = [key(recipe_of(candidate)) for candidate in Lab(make(name)).play(9)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_design_is_not_proposed_again(name: Name) -> None:
    keys = [key(recipe_of(candidate)) for candidate in Lab(make(name), lambda _: math.nan).play(8)]
    assert len(set(keys)) == len(keys)


def test_what_computes_the_same_as_a_known_design_is_not_proposed() -> None:
    lab = after_menu()
    wanted = lab.proposer.propose([])
    assert wanted is not None
    again = builtin()
    same = fingerprint(recipe_of(wanted))
    last = lab.turns[-1]
    told = replace(last.result, facts={**last.result.facts, "fingerprint": same})
    again.learn([*lab.turns[:-1], replace(last, result=told)])
    other = again.propose([])
    assert other is not None
    assert fingerprint(recipe_of(other)) != same


def test_rows_of_features_do_not_depend_on_which_design_was_met_first() -> None:
    rows = [features(design.recipe) for design in problem().menu]
    there: dict[str, int] = {}
    back: dict[str, int] = {}
    mine = [flat_row(row, there) for row in rows]
    its = [flat_row(row, back) for row in rows[::-1]]
    assert list(there) != list(back)
    np.testing.assert_array_equal(encoded(mine, list(there)), encoded(its, list(back))[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_next_proposal_follows_from_what_was_learned_alone(name: Name) -> None:
    lab = Lab(make(name))
    lab.play(6)
    resumed = make(name)
    resumed.learn(lab.turns)  # all at once, and nobody asked in between
    pending = [candidate for candidate in [resumed.propose([])] if candidate]
    assert pending == [lab.proposer.propose([])]
    assert resumed.propose(pending) == lab.proposer.propose(pending)


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_that_ask_at_once_get_two_designs(name: Name) -> None:
    lab = Lab(make(name))
    lab.play(5)
    pending: list[Candidate] = []
    for _ in range(3):
        candidate = lab.proposer.propose(pending)
        assert candidate is not None
        pending.append(candidate)
    assert len({key(recipe_of(candidate)) for candidate in pending}) == 3


def test_another_seed_walks_elsewhere() -> None:
    found = [Lab(builtin(seed)).play(9) for seed in (0, 1)]
    assert found[0] != found[1]


def test_every_candidate_says_why_and_links_what_it_came_from() -> None:
    lab = after_menu()
    found = lab.play(8)
    by_turn = {turn.id: recipe_of(turn.candidate) for turn in lab.turns}
    for candidate in found:
        parents = [by_turn[int(turn)] for turn in linked(candidate)]
        assert operator(candidate) in ARMS
        assert len(candidate.motivation.split()) > 5
        assert parents
        if operator(candidate) not in ("cross", "neighbour"):
            near = {key(change.recipe) for change in changes(parents[0], problem().caps)}
            assert key(recipe_of(candidate)) in near


def test_a_recombination_names_both_its_parents() -> None:
    lab = after_menu()
    tried = list(lab.proposer.memory.tried.values())  # type: ignore[attr-defined]
    options = list(broods().between(tried[1], tried[2]))
    assert options
    for option in options:
        assert option.links == (f"turn:{tried[1].turn}", f"turn:{tried[2].turn}")
        assert f"turn {tried[1].turn}" in option.words and f"turn {tried[2].turn}" in option.words
    named = list(broods().between(tried[1], tried[2], menu="delta_net"))
    assert all("menu:delta_net" in option.links for option in named)


def test_a_note_that_speaks_for_a_change_is_linked() -> None:
    lab = after_menu()
    parent = lab.proposer.memory.order[1]  # type: ignore[attr-defined]
    advised = [o for o in broods().of(parent, lab.proposer.effects) if o.arm == "note"]  # type: ignore[attr-defined]
    known = {note.name for note in notes()}
    assert advised
    for option in advised:
        names = [link.removeprefix("note:") for link in option.links if link.startswith("note:")]
        assert names and set(names) <= known


@pytest.mark.slow
def test_the_search_finds_what_is_planted_sooner_than_chance() -> None:
    def trials(proposer: Proposer) -> int:
        lab = Lab(proposer)
        for n in range(25):
            [candidate] = lab.play(1)
            if planted(recipe_of(candidate)) >= 0.8:
                return n + 1
        return 26

    assert trials(builtin()) < trials(make_proposer("random", problem()))


def test_the_bandit_shifts_to_the_operator_that_gains() -> None:
    bandit, rng = Bandit(ARMS), np.random.default_rng(0)
    for _ in range(30):
        bandit.learn("cross", True)
        bandit.learn("mutate", False)
    drawn = [bandit.draw(rng) for _ in range(200)]
    assert np.mean([one["cross"] > one["mutate"] for one in drawn]) > 0.95
    for _ in range(100):  # and back
        bandit.learn("cross", False)
        bandit.learn("mutate", True)
    drawn = [bandit.draw(rng) for _ in range(200)]
    assert np.mean([one["mutate"] > one["cross"] for one in drawn]) > 0.95


def test_an_operator_is_credited_with_what_its_trials_gained() -> None:
    lab = after_menu()
    before = {arm: lab.proposer.bandit.mean(arm) for arm in ARMS}  # type: ignore[attr-defined]
    better = Candidate(
        recipe("gla", erase="delta").to_dict(), "insert: erase", (f"turn:{FIRST + 2}",)
    )
    worse = Candidate(
        recipe("gla", rotary=True).to_dict(), "mutate: rotary", (f"turn:{FIRST + 3}",)
    )
    lab.turn(better)
    lab.turn(worse)
    after = {arm: lab.proposer.bandit.mean(arm) for arm in ARMS}  # type: ignore[attr-defined]
    assert after["insert"] > before["insert"] and after["mutate"] < before["mutate"]


def test_the_archive_keeps_a_stepping_stone_that_is_not_the_best() -> None:
    caps, archive = problem().caps, Archive()
    designs = [problem().menu[i].recipe for i in range(3)]  # no decay, decay, erase
    cells = [cell_of(design, caps) for design in designs]
    assert len(set(cells)) == 3
    for place, (cell, value) in enumerate(zip(cells, (0.2, 0.9, 0.5), strict=True)):
        archive.add(place, value, cell)
    assert archive.elites() == [0, 1, 2]
    archive.add(3, 0.1, cells[0])  # worse than who lives there
    archive.add(4, 0.6, cells[2])  # better
    assert archive.elites() == [0, 1, 4]


def test_an_ablation_of_a_promoted_design_is_proposed_next() -> None:
    lab = after_menu()
    both = matched(
        recipe("gla", erase="delta", key_norm=True, write="beta", rotary=True), problem().caps
    )
    assert both is not None
    kept = lab.turn(
        Candidate(both.to_dict(), "cross: two at once", (f"turn:{FIRST + 2}",)), keep=True
    )
    found = lab.play(2)
    assert all(list(linked(candidate)) == [str(kept.id)] for candidate in found)
    assert all(any(linked(candidate, "ablation")) for candidate in found)


def test_a_design_of_the_menu_that_is_selected_is_not_ablated() -> None:
    lab = Lab(builtin())
    for design in problem().menu:
        candidate = lab.proposer.propose([])
        assert candidate is not None
        lab.turn(candidate, keep=design.name == "delta_net")
    candidate = lab.proposer.propose([])
    assert candidate is not None
    assert not any(linked(candidate, "ablation"))


def test_being_stuck_is_said_and_several_changes_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mendel.propose.builtin.STUCK", 6)
    lab = after_menu(flat)
    assert "Stuck" not in lab.play(1)[0].motivation
    found = lab.play(5)
    widened = [candidate for candidate in found if operator(candidate) == "widen"]
    assert "Stuck: no gain in" in found[-1].motivation
    assert widened
    parents = [turn.candidate for turn in lab.turns]
    near = {
        key(change.recipe)
        for parent in parents[:4]
        for change in changes(recipe_of(parent), problem().caps)
    }
    assert any(key(recipe_of(candidate)) not in near for candidate in widened)


def test_an_insight_changes_what_is_proposed() -> None:
    lab = after_menu(flat)
    effect = Effect(
        field="mixers.rotary", value=True, usual=False, mean=0.2, low=0.1, high=0.3, n=9,
        p=0.001,
    )  # fmt: skip
    insight = Insight(effects=(effect,), n_trials=9)
    verdict = Verdict(Decision.DISCARD, "an insight")
    turn = Turn(LINE, Kind.INSIGHT, Candidate({}), Result(facts=insight.to_dict()), verdict, id=99)
    lab.proposer.learn([turn])
    parent = lab.proposer.memory.order[1]  # type: ignore[attr-defined]
    told = [o for o in broods().of(parent, lab.proposer.effects) if o.arm == "insight"]  # type: ignore[attr-defined]
    assert told
    assert all("insight:99" in option.links and "rotary" in option.words for option in told)


def test_scores_compare_across_champions() -> None:
    memory = Memory()
    lab = Lab(builtin())
    one, other = (Candidate(design.recipe.to_dict()) for design in problem().menu[:2])

    def told(
        candidate: Candidate, mine: float, its: float, champion: int, id: int, stage: str
    ) -> None:
        result = Result((mine,) * 4, (its,) * 4, facts={"stage": stage})
        verdict = Verdict(Decision.CONTINUE, "")
        memory.learn(Turn(LINE, Kind.TRIAL, candidate, result, verdict, champion, "t", 0, id))

    told(one, 0.5, 0.4, FIRST, 8, "screen")
    told(one, 0.35, 0.2, FIRST, 9, "confirm")  # harder seeds, and 0.15 ahead
    told(other, 0.45, 0.4, FIRST, 10, "screen")
    values = [tried.value for tried in memory.order]
    assert values == pytest.approx([0.4 + (0.1 + 0.15) / 2, 0.45])
    assert lab.proposer.propose([]) is not None


def test_turns_of_another_line_are_evidence_and_not_trials() -> None:
    elsewhere = after_menu().turns
    theirs = [replace(turn, line=Line("research", "b" * 64)) for turn in elsewhere]
    proposer = Builtin(replace(problem(), task=LINE.task), broods())
    proposer.learn(theirs)
    candidate = proposer.propose([])
    assert candidate is not None and operator(candidate) == "menu"
    proposer.learn(elsewhere)
    assert len(proposer.memory.tried) == len(problem().menu)
    assert operator(proposer.propose([]) or candidate) in ARMS


def test_a_turn_that_holds_no_recipe_of_this_version_is_passed_over() -> None:
    lab = Lab(builtin())
    candidate = Candidate({"model": {"mixers": ["of_next_year"]}}, "menu: later")
    turn = Turn(LINE, Kind.TRIAL, candidate, Result((1.0,)), Verdict(Decision.DISCARD, ""), id=9)
    lab.proposer.learn([turn])
    assert lab.play(1)


def test_the_fields_that_tpe_chooses_lead_to_the_recipe_that_has_them() -> None:
    fields, bases = dials(problem().start), [design.recipe for design in problem().menu]
    for design in problem().menu:
        picks = picks_of(design.recipe, bases, fields)
        made = recipe_at(picks, bases, fields, problem().caps)
        assert made is not None
        assert key(made) == key(design.recipe)


def test_an_unknown_proposer_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="builtin"):
        make_proposer("bultin", problem())  # type: ignore[arg-type]

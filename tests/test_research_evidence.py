"""The benchmark's own claims: what it hides is hidden, what it counts is what happened."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from research_sections import drawn, null, ran, rediscovery
from research_sections.rows import Rows

from mendel.clocks.research.run import Run
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.changes import changes
from mendel.propose.matching import caps_of, matched
from mendel.propose.menu import Named
from mendel.propose.notes import notes
from mendel.propose.novelty import key
from mendel.spec import PartSpec, Recipe
from mendel.types import Candidate, Decision, Kind, Line, Result, Turn, Verdict

SUITES = rediscovery.Alone(names=("states",))
LINE = Line("research", "0" * 64)


class Planted(drawn.World):
    """Every variant is better than where the line starts."""

    start: str

    def score(self, design: str, proxy: str, n_steps: int, seed: int) -> float:
        return super().score(design, proxy, n_steps, seed) + 0.25 * (design != self.start)


def mixer(**fields: Any) -> Recipe:
    start = rediscovery.start()
    part = PartSpec(part="recurrence", fields={**rediscovery.PARTS, **fields})
    return start.model_copy(update={"model": start.model.model_copy(update={"mixers": (part,)})})


def turn(id: int, recipe: Recipe, score: float, *, round: int = 1, **verdict: Any) -> Turn:
    result = Result((score,) * 4, (0.0,) * 4)
    said = Verdict(verdict.get("decision", Decision.KEEP), "better", verdict.get("level", 0.01))
    return Turn(LINE, Kind.TRIAL, Candidate(recipe.to_dict()), result, said, 1, "t", round, id)


@pytest.fixture
def menu(monkeypatch: pytest.MonkeyPatch) -> drawn.Menu:
    """Only where it starts: to fit the real menu takes seconds."""
    monkeypatch.setattr(drawn, "designs", lambda caps, start: (Named("start", start),))
    return drawn.Menu()


def test_a_gain_that_is_planted_on_a_drawn_line_is_kept_by_the_judge(
    menu: drawn.Menu, ledger: Ledger
) -> None:
    run, world = Run.create(ledger, menu.spec("planted")), Planted("even", 0)
    world.start = Candidate(menu.start.to_dict()).id
    world.truth = {name: (0.4, 0.02) for name in world.truth}
    clock = drawn.DrawnClock(run, ledger, drawn.Variants(menu.designs, 0), menu).in_world(world)
    null.played(Driver(clock, ledger), 40, random.Random(0))
    assert null.counted(ledger.turns(run.line))["false"] >= 1


def test_on_the_same_line_without_a_gain_a_rule_without_a_judge_promotes_and_the_judge_does_not(
    menu: drawn.Menu,
) -> None:
    assert null.line(menu, null.GREEDY, 1, 150)["false"] >= 1
    assert null.line(menu, "judge", 1, 150)["false"] == 0


def test_the_noise_of_one_seed_comes_from_real_pairs_whoever_was_better() -> None:
    chance, facts = random.Random(0), []
    for i in range(400):
        mine = [0.5 + 0.01 * (i % 7) + chance.gauss(0, 0.05) for _ in range(4)]
        its = [0.4 + chance.gauss(0, 0.05) for _ in range(4)]
        facts.append({"proxies": {"parity": mine}, "champion": {"parity": its}})
    asked = turn(1, mixer(), 0.5)
    turns = [replace(asked, result=replace(asked.result, facts=each)) for each in facts]
    off = drawn.noise_of(turns)["parity"]
    assert statistics.fmean(off) == pytest.approx(0, abs=1e-9)
    assert statistics.pstdev(off) == pytest.approx(0.05, rel=0.06)
    world = drawn.World(drawn.MEASURED, 3, {"parity": [-0.11, 0.22]})
    drawn_ = {world.score("design", "parity", 10, seed) for seed in range(20)}
    assert max(drawn_) - min(drawn_) == pytest.approx(0.33) and len(drawn_) == 2


def test_the_share_of_lines_has_its_exact_interval() -> None:
    none = null.share([{"false": 0}] * 300)
    assert (none["low"], none["high"]) == (0, pytest.approx(1 - 0.025 ** (1 / 300), abs=1e-5))
    two = null.share([{"false": int(i < 2)} for i in range(300)])
    by_chance = 1 - (1 - two["low"]) ** 300 - 300 * two["low"] * (1 - two["low"]) ** 299
    assert two["with a false promotion"] == 2 and by_chance == pytest.approx(0.025, rel=0.03)


def test_a_row_cut_off_by_a_kill_is_measured_again_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = Rows(file, {"turns": 3})
    for name in "ab":
        rows.get(name, lambda n=name: {"of": n})
    text = file.read_text()
    file.write_text(text[:-9])
    again = Rows(file, {"turns": 3})
    assert again.get("a", lambda: {"of": "another"}) == {"of": "a"}
    assert again.get("b", lambda: {"of": "anew"}) == {"of": "anew"}
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b"]
    assert Rows(file, {"turns": 4}).known == {}, "a row that was asked otherwise was taken"


def test_the_suite_is_parity_alone_and_sweeps_its_rate_there() -> None:
    legs = [*SUITES.race, *SUITES.screen, *SUITES.confirm, *SUITES.whole]
    assert {(leg.name, leg.suite, leg.swept) for leg in legs} == {("parity", "states", True)}
    assert len(legs) == 4 and SUITES.race[0].proxy.n_steps < SUITES.screen[0].proxy.n_steps


@pytest.mark.parametrize("name", rediscovery.MECHANISMS)
def test_start_and_notes_know_nothing_of_what_is_hidden(name: str) -> None:
    mechanism = rediscovery.MECHANISMS[name]
    assert not mechanism.is_in(rediscovery.start())
    assert mechanism.is_in(mixer(erase="delta", beta_max=2.0))
    left = " ".join(note.to_json() for note in notes(without=mechanism.said))
    assert all(field not in left for field in mechanism.said) and "delta_net_signed" not in left


def test_signs_turn_only_where_a_step_can_be_negative() -> None:
    signs = rediscovery.MECHANISMS["signs"]
    assert not signs.is_in(mixer(erase="delta"))
    assert signs.is_in(mixer(erase="delta", key_norm=False))
    assert not signs.is_in(mixer(beta_max=2.0)), "a stronger write alone erases nothing"


def test_two_changes_lead_from_the_start_to_what_solves_parity() -> None:
    start = rediscovery.start()
    caps = caps_of(start, SUITES.vocab, SUITES.n_tokens)
    goal, erasing = (
        matched(each, caps) for each in (mixer(erase="delta", beta_max=2.0), mixer(erase="delta"))
    )
    assert goal is not None and erasing is not None
    first = {key(each.recipe) for each in changes(start, caps)}
    assert key(goal) not in first and key(erasing) in first
    assert key(goal) in {key(each.recipe) for each in changes(erasing, caps)}


def test_only_a_keep_with_the_mechanism_that_solves_parity_is_a_rediscovery() -> None:
    has, has_not = mixer(erase="delta"), mixer()

    def found(one: Turn) -> bool:
        return rediscovery.is_found(one, [one], rediscovery.MECHANISMS["erase"], SUITES)

    assert found(turn(2, has, 0.9))
    assert not found(turn(2, has_not, 0.9))
    assert not found(turn(2, has, 0.79)), "normalised, .8 is an accuracy of .9"
    assert not found(turn(2, has, 0.9, level=None)), "a selection claims nothing"
    assert not found(turn(2, has, 0.9, decision=Decision.DISCARD))


def test_a_design_that_was_never_found_counts_as_later_than_all() -> None:
    rows = {"builtin": [{"found": n} for n in (60, None, 90)], "random": [{"found": None}] * 3}
    told = rediscovery.compared(rows)
    assert told["found"] == {"builtin": 2, "random": 0} and not told["reached"]
    assert told["median trials"] == {"builtin": 90, "random": None}
    assert told["seeds sooner than random"] == 2


def test_a_win_costs_the_search_and_its_verification_and_unverified_keeps_are_said() -> None:
    kept, other = turn(2, mixer(), 0.5), replace(turn(3, mixer(erase="delta"), 0.5), trial="u")
    facts = {"outcome": "verified win", "conditions": {"as found": {"seconds": 1800.0}}}
    verdict = Verdict(Decision.KEEP, "verified win", 0.01)
    claim = Turn(LINE, Kind.CLAIM, kept.candidate, Result(facts=facts), verdict, 2, id=4)
    told = ran.claims([kept, other, claim], 2.0)
    assert told["verified wins"] == 1 and told["core hours a verified win"] == 2.5
    assert told["kept, not verified"] == [3]
    assert ran.claims([kept], 2.0)["core hours a verified win"] is None
